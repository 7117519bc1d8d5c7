"""The stored Lightning checkpoint: both stages, beside pickled objects that would run code."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from checks import assert_same_bits
from isoform.core.pretrained.source import read_source
from isoform.molecules.adit.config import AditApp, autoencoder_trunk, denoiser_trunk
from isoform.molecules.adit.layout import loss_tensors
from isoform.molecules.adit.model import build_model
from isoform.molecules.adit.pretrained import export_official, import_checkpoint, write_lightning


@pytest.fixture
def checkpoint(golden_dir: Path) -> Path:
    path = golden_dir / "adit" / "adit_lightning_layout.ckpt"
    if not path.exists():
        pytest.skip(f"no stored checkpoint {path}")
    return path


def both(checkpoint: Path) -> dict[str, torch.Tensor]:
    """The weights of the two cases that the checkpoint was made of."""
    cases = {"autoencoder.": "adit_vae_joint", "denoiser.": "adit_dit"}
    return {
        at + name.removeprefix("weights/"): tensor
        for at, case in cases.items()
        for name, tensor in load_file(checkpoint.parent / f"{case}.safetensors").items()
        if name.startswith("weights/")
    }


def settings() -> AditApp:
    """What its tensors can't tell: the heads."""
    trunk = autoencoder_trunk("tiny", dim=32, heads=4, depth=2, mlp_dim=48)
    denoiser = denoiser_trunk("tiny", dim=24, heads=4, depth=2, mlp_dim=96)
    return AditApp(domain="molecules", app="x", encoder=trunk, decoder=trunk, backbone=denoiser)


def test_tensors_alone_are_read_and_nothing_runs(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = read_source(checkpoint)
    assert_same_bits(source.state, both(checkpoint))
    assert "hyper_parameters" in source.keys
    import_checkpoint(source, None, settings())
    assert "CANARY" not in "".join(capsys.readouterr())
    assert not any(name == "src" or name.startswith("src.") for name in sys.modules)


def test_both_stages_come_in_and_go_out(checkpoint: Path, tmp_path: Path) -> None:
    found = import_checkpoint(checkpoint, None, settings())
    assert found.layout == "adit" and found.config.model.part == "both"
    model = build_model(found.config)
    model.load_state_dict(dict(found.weights))
    official = export_official(found.config, found.weights, found.state)
    assert_same_bits(official, both(checkpoint))
    assert loss_tensors(found.config.loss, "adit").keys() <= official.keys()
    write_lightning(tmp_path / "out.ckpt", found.config, found.weights, found.state)
    read_back = torch.load(tmp_path / "out.ckpt", weights_only=True)
    assert_same_bits(read_back["state_dict"], both(checkpoint))
