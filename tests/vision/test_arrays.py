"""Which axis of an array holds the channels, and what its numbers become."""

import numpy as np
import pytest
import torch

from isoform.core.errors import UserError
from isoform.vision.data.arrays import Reading, channel_axis, describe_layout, from_array
from isoform.vision.data.images import look, read_image

FIRST, LAST = Reading(layout="channels_first"), Reading(layout="channels_last")


@pytest.mark.parametrize(
    ("shape", "channels", "axis"),
    [
        ((5, 16, 20), 5, 0),
        ((5, 16, 20), None, 0),
        ((16, 20, 5), None, 2),
        ((5, 16, 20), 20, 2),
        ((3, 17, 19), 3, 0),
        ((3, 17, 19), None, 0),
        ((17, 19, 4), 3, 2),
        ((13, 64, 64), None, 0),
        ((64, 64, 200), 200, 2),
        ((1, 17, 19), 3, 0),
        ((5, 7, 3), 5, 0),
    ],
)
def test_the_axis_of_the_channels(shape, channels, axis):
    assert channel_axis(shape, channels) == axis


@pytest.mark.parametrize(
    ("shape", "channels"),
    [
        ((64, 64, 200), None),
        ((20, 5, 16), None),
        ((7, 7, 7), None),
        ((3, 17, 3), 3),
        ((4, 17, 3), None),
        ((5, 16, 5), 5),
        ((64, 64, 200), 3),
    ],
)
def test_an_unclear_axis_is_asked_about(shape, channels):
    with pytest.raises(UserError) as caught:
        from_array(np.zeros(shape, np.uint8), channels, "a.npy")
    said = str(caught.value)
    assert " x ".join(map(str, shape)) in said and 'data.layout = "channels_first"' in said
    first = from_array(np.zeros(shape, np.uint8), shape[0], "a.npy", FIRST)
    last = from_array(np.zeros(shape, np.uint8), shape[2], "a.npy", LAST)
    assert first.shape == shape and last.shape == (shape[2], *shape[:2])


def test_an_axis_found_by_its_size_is_said():
    said = describe_layout((5, 16, 20), None, Reading())
    assert said and "5 channels of 16 x 20 pixels" in said and "channels_first" in said
    for shape, channels in (((3, 17, 19), None), ((5, 16, 20), 5), ((64, 64, 200), None)):
        assert describe_layout(shape, channels, Reading()) is None
    assert describe_layout((5, 16, 20), None, FIRST) is None


def test_channels_first_from_a_file(tmp_path):
    array = np.random.default_rng(0).integers(0, 255, (5, 16, 20), dtype=np.uint8)
    np.save(tmp_path / "a.npy", array)
    assert torch.equal(read_image(tmp_path / "a.npy", None), torch.from_numpy(array))
    assert torch.equal(read_image(tmp_path / "a.npy", 5), torch.from_numpy(array))
    header = look(tmp_path / "a.npy")
    assert (header.channels, header.height, header.width) == (5, 16, 20)
    with pytest.raises(UserError, match=r"5 channels of 16 x 20 pixels where 3 .*= 5"):
        read_image(tmp_path / "a.npy", 3)


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "uint32", "float32", "float64"])
def test_values_of_other_types_are_taken_as_they_are(dtype):
    values = np.array([[0, 7, 100]], dtype)
    read = from_array(values, 1)
    assert read.dtype == torch.float32 and read.flatten().tolist() == [0, 7, 100]


def test_a_type_decides_and_never_the_numbers():
    """One slice without a negative value must not be scaled otherwise than the next."""
    whole, half = np.array([[-1000, 3000]], np.int32), np.array([[0, 3000]], np.int32)
    assert from_array(whole, 1).flatten().tolist() == [-1000, 3000]
    assert from_array(half, 1).flatten().tolist() == [0, 3000]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_a_window_is_in_the_files_own_unit(dtype):
    values = np.array([[0, 40, 100, 250]], dtype)
    read = from_array(values, 1, reading=Reading(window=(40.0, 140.0)))
    assert torch.allclose(read.flatten(), torch.tensor([0, 0, 0.6, 1.0]))
    wide = from_array(values, 1, reading=Reading(window=(-200.0, 300.0)))
    assert torch.allclose(wide.flatten(), torch.tensor([0.4, 0.48, 0.6, 0.9]))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_a_scale_divides_whatever_the_type(dtype):
    read = from_array(np.array([[0, 50, 200]], dtype), 1, reading=Reading(scale=200.0))
    assert read.dtype == torch.float32 and read.flatten().tolist() == [0, 0.25, 1]
