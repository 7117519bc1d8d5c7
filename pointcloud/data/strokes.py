"""MNIST's digits as sets of points: the pixels of a stroke, as (x, y, ink)."""

from __future__ import annotations

import numpy as np

from isoform.core.data.mnist5k import read_mnist5k_arrays

SIDE = 28


def read_strokes() -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """(clouds, digits, split) of MNIST-5k: of every digit its pixels with ink, float32 [n, 3].

    x to the right and y upwards, from -1 to 1 over the image, and z the ink from 0 to 1: a stroke is a ridge, highest
    in its middle. Between 30 and 350 points a digit.
    """
    pixels, digits, split = read_mnist5k_arrays()
    return [stroke_of(image) for image in pixels], digits, split


def stroke_of(image: np.ndarray) -> np.ndarray:
    """float32 [n, 3] of a grey image uint8 [28, 28], row by row."""
    row, column = np.nonzero(image)
    middle = (SIDE - 1) / 2
    x, y = (column - middle) / middle, (middle - row) / middle
    return np.stack([x, y, image[row, column] / 255], 1).astype(np.float32)
