from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from checks import assert_same_bits
from isoform.core.errors import UserError
from isoform.molecules.adit.config import AditApp, ReconstructionConfig, autoencoder_trunk
from isoform.molecules.adit.official import adit_settings
from isoform.molecules.adit.pretrained import (
    export_official,
    import_checkpoint,
    initial_weights,
    write_lightning,
)

from .structures import app, born

PARTS = ("both", "autoencoder", "denoiser")
LAYOUT = {"both": "adit", "autoencoder": "adit-vae", "denoiser": "adit-denoiser"}
TRANSFORMER = {"d_model": 22, "nhead": 2, "dim_feedforward": 13, "num_layers": 1}


def written(config: AditApp, path: Path) -> dict[str, torch.Tensor]:
    """A file of fresh weights, which it gives."""
    weights = born(config).state_dict()
    write_lightning(path, config, weights)
    return weights


@pytest.mark.parametrize("part", PARTS)
def test_every_part_comes_back_with_its_settings(part: str, tmp_path: Path) -> None:
    loss = ReconstructionConfig(positions=(3.0, 5.0))
    config = app(part).model_copy(update={"loss": loss})
    weights = written(config, tmp_path / "x.ckpt")
    found = import_checkpoint(tmp_path / "x.ckpt", None, app(part))
    assert found.layout == LAYOUT[part] and found.config.model.part == part
    assert_same_bits(found.weights, weights)
    official = export_official(found.config, found.weights, found.state)
    assert_same_bits(official, export_official(config, weights))
    if part != "denoiser":
        assert found.config.loss.positions == (3.0, 5.0)
        assert (found.config.encoder.dim, found.config.decoder.dim) == (22, 14)


def test_what_tensors_cannot_tell_is_official_and_said(tmp_path: Path) -> None:
    trunk = autoencoder_trunk("tiny", dim=24, heads=8, mlp_dim=13)
    config = app("autoencoder").model_copy(update={"encoder": trunk, "decoder": trunk})
    written(config, tmp_path / "x.ckpt")
    found = import_checkpoint(tmp_path / "x.ckpt")
    assert found.config.encoder.heads == 8 and found.config.encoder.channel == "gelu_tanh"
    assert "the file doesn't say 8 heads, as officially (encoder.heads)" in found.notes
    assert len(found.notes) == 6


@pytest.mark.parametrize(
    ("table", "key", "value", "message"),
    [
        ("encoder", "dim", 24, "encoder.dim = 24 is set, but x.ckpt has 22"),
        ("backbone", "depth", 2, "backbone.depth = 2 is set, but x.ckpt has 3"),
        ("backbone", "heads", 3, "heads = 3 must divide backbone.dim = 10"),
        ("model", "latent", 4, "model.latent = 4 is set, but x.ckpt has 3"),
        ("model", "index", False, "model.index = False is set, but x.ckpt has True"),
        ("loss", "kl", (1.0, 1.0), r"loss.kl = \(1.0, 1.0\) is set, but x.ckpt has"),
    ],
)
def test_a_setting_that_the_file_contradicts_is_refused(
    table: str, key: str, value: Any, message: str, tmp_path: Path
) -> None:
    written(app(), tmp_path / "x.ckpt")
    asked = app()
    changed = getattr(asked, table).model_copy(update={key: value})
    with pytest.raises(UserError, match=message):
        import_checkpoint(tmp_path / "x.ckpt", None, asked.model_copy(update={table: changed}))


def test_heads_that_no_file_tells_are_asked_for(tmp_path: Path) -> None:
    written(app(), tmp_path / "x.ckpt")
    with pytest.raises(
        UserError, match=r"x\.ckpt: doesn't say how many heads 22 features have; set encoder\.heads"
    ):
        import_checkpoint(tmp_path / "x.ckpt")


class Module:
    """Stands for a live module: unpickled for real, it would run this."""

    def __reduce__(self) -> Any:
        return print, ("CANARY",)


@pytest.mark.parametrize("weights", [Module(), {"quant_conv.weight": Module()}])
def test_a_checkpoint_that_needs_its_objects_is_refused(
    weights: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"state_dict": weights, "hyper_parameters": Module()}, tmp_path / "x.ckpt")
    with pytest.raises(UserError, match="no tensors") as refusal:
        import_checkpoint(tmp_path / "x.ckpt")
    assert "pickled objects" in str(refusal.value) and "\n" not in str(refusal.value)
    assert "CANARY" not in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("official", "message"),
    [
        ({"transformer": {**TRANSFORMER, "activation": "selu"}}, "'selu' can't be honoured"),
        ({"transformer": {**TRANSFORMER, "norm_first": 2}}, "norm_first = 2 can't be honoured"),
        ({"transformer": {**TRANSFORMER, "rope": True}}, "rope: not known to this import"),
        ({"transformer": {**TRANSFORMER, "d_model": 21}}, "must be even"),
        ({"transformer": TRANSFORMER, "loss_weights": {"loss_x": {}}}, "loss_weights.loss_x"),
        ({"transformer": TRANSFORMER, "loss_weights": {"loss_kl": {"qm9": 1}}}, "mp20 and qm9"),
        ({"d_model": 24, "mlp_ratio": 4.0, "qk_norm": True}, "qk_norm: not known to this import"),
        ({"d_model": 24, "T": 1}, "steps = 1 can't be honoured"),
    ],
)  # fmt: skip
def test_official_settings_that_cannot_be_honoured_raise(
    official: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        adit_settings(official)


@pytest.mark.parametrize(
    ("changes", "heads"),
    [
        ({"norm_first": False}, 2),
        ({"bias": False}, 2),
        ({"activation": "relu"}, 11),
    ],
)
def test_other_official_options_compute_what_pytorchs_layers_do(
    changes: dict[str, Any], heads: int, tmp_path: Path
) -> None:
    """Post-norm, no biases, ReLU: against PyTorch's own encoder, in float64 and without its fused path."""
    official = {"norm_first": True, "bias": True, "activation": "gelu", **TRANSFORMER, **changes}
    official["nhead"] = heads
    settings = adit_settings({"transformer": official, "latent_dim": 3})
    config = app("autoencoder").model_copy(update={"encoder": settings.encoder})
    model = born(config).double()
    peer = peer_encoder(official).double().train()
    names = export_official(config, model.state_dict())
    at = "encoder.transformer."
    peer.load_state_dict({n.removeprefix(at): t for n, t in names.items() if n.startswith(at)})
    tokens = torch.randn(1, 5, 22, dtype=torch.float64)
    from isoform.core.tokens import Tokens

    torch.testing.assert_close(model.encoder(Tokens(tokens)).x, peer(tokens))


def peer_encoder(official: dict[str, Any]) -> torch.nn.Module:
    """PyTorch's, with its final norm; the names in a test are no attention of isoform's."""
    act = torch.nn.GELU(approximate="tanh") if official["activation"] == "gelu" else "relu"
    layer = torch.nn.TransformerEncoderLayer(
        official["d_model"],
        official["nhead"],
        official["dim_feedforward"],
        dropout=0.0,
        activation=act,
        norm_first=official["norm_first"],
        bias=official["bias"],
        batch_first=True,
    )
    norm = torch.nn.LayerNorm(official["d_model"], bias=official["bias"])
    return torch.nn.TransformerEncoder(
        layer, official["num_layers"], norm=norm, enable_nested_tensor=False
    )


def test_an_official_code_that_has_no_such_model_is_said(tmp_path: Path) -> None:
    config = app("both", index=False)
    with pytest.raises(UserError, match=r"model\.index is False here and True there"):
        export_official(config, {})
    gated = config.encoder.model_copy(update={"gated": True})
    with pytest.raises(UserError, match=r"encoder\.gated is True here and False there"):
        export_official(app().model_copy(update={"encoder": gated}), {})
    with pytest.raises(
        UserError, match="'adit-vae' is not of this model, which is written as 'adit'"
    ):
        export_official(app(), {}, layout="adit-vae")


@pytest.mark.parametrize(
    ("file", "wanted", "prefix"),
    [
        ("autoencoder", "both", "autoencoder."),
        ("both", "autoencoder", ""),
        ("denoiser", "both", "denoiser."),
        ("both", "both", ""),
    ],
)
def test_training_starts_from_the_part_that_a_file_holds(
    file: str, wanted: str, prefix: str, tmp_path: Path
) -> None:
    weights = written(app(file), tmp_path / "x.ckpt")
    start = initial_weights(tmp_path / "x.ckpt", app(wanted))
    assert start.source == "x.ckpt" and start.domain == "molecules"
    at = f"{wanted}." if file == "both" and wanted != "both" else ""
    want = {prefix + n.removeprefix(at): t for n, t in weights.items() if n.startswith(at)}
    assert_same_bits(start.weights, want)


def test_training_never_starts_from_another_model(tmp_path: Path) -> None:
    written(app("denoiser"), tmp_path / "x.ckpt")
    with pytest.raises(UserError, match="holds no autoencoder"):
        initial_weights(tmp_path / "x.ckpt", app("autoencoder"))
    larger = app().backbone.model_copy(update={"dim": 20})
    with pytest.raises(UserError, match=r"has shape .* and the app's model"):
        initial_weights(tmp_path / "x.ckpt", app().model_copy(update={"backbone": larger}))
