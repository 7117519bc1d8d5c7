"""Models that have shapes alone are those that have values, and cost no compiler."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from isoform.core.ops.shapes import shapes_alone

FILLED = ["normal_", "trunc_normal_", "xavier_normal_", "kaiming_uniform_", "zeros_"]


def build():
    return nn.ModuleList([nn.Embedding(5, 7), nn.Linear(7, 3), nn.BatchNorm1d(3), nn.LSTM(3, 2)])


def test_names_shapes_and_types_are_those_of_a_model_with_values():
    with shapes_alone():
        ours = build().state_dict()
    theirs = build().state_dict()
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert tensor.is_meta
        assert (tensor.shape, tensor.dtype) == (theirs[name].shape, theirs[name].dtype), name


@pytest.mark.parametrize("name", FILLED)
def test_what_fills_a_tensor_gives_it_back(name):
    fill = getattr(nn.init, name)
    with shapes_alone():
        tensor = torch.empty(5, 3)
        assert fill(tensor) is tensor and fill(tensor=tensor) is tensor
        assert tensor.normal_() is tensor
    assert not fill(torch.full((5, 3), 2.0)).eq(2).all(), "outside it fills as ever"


def test_the_compiler_is_not_loaded():
    code = (
        "import sys\nfrom torch import nn\nfrom isoform.core.ops.shapes import shapes_alone\n"
        "with shapes_alone():\n    nn.Embedding(5, 7)\n    nn.init.normal_(nn.Linear(3, 5).weight, std=0.02)\n"
        "assert 'torch._dynamo' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
