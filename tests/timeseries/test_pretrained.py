"""Official checkpoints in and out: every size and option of the official code, and what is refused."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from checks import assert_same_bits
from golden.official_settings import itransformer_settings, samformer_settings
from isoform.core.config.schema import BackboneConfig
from isoform.core.domain import ImportedModel
from isoform.core.errors import UserError
from isoform.timeseries.config import (
    DataConfig,
    HeadConfig,
    ModelConfig,
    TimeseriesApp,
    TokeniserConfig,
)
from isoform.timeseries.models import build_model
from isoform.timeseries.pretrained import export_official, import_checkpoint, initial_weights
from isoform.timeseries.sizes import Sizes
from isoform.timeseries.state import TimeseriesState

B, V, M = 3, 5, 2
OFFICIAL = {
    "seq_len": 19, "pred_len": 7, "d_model": 24, "n_heads": 3, "e_layers": 2, "d_ff": 13, "activation": "gelu",
    "use_norm": 1, "dropout": 0.0, "embed": "timeF", "freq": "h", "factor": 1, "class_strategy": "projection",
    "output_attention": False,
}  # fmt: skip
SAM = {"num_channels": 5, "seq_len": 19, "hid_dim": 16, "pred_horizon": 7, "use_revin": True}


def plain() -> Any:
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "plain_itransformer.py"
    spec = importlib.util.spec_from_file_location("plain_itransformer", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def peer_of(official: dict[str, Any]) -> Any:
    """The plain model of the official hyper-parameters."""
    return plain().PlainITransformer(
        official["seq_len"], official["pred_len"], dim=official["d_model"], depth=official["e_layers"],
        heads=official["n_heads"], hidden=official["d_ff"], activation=official["activation"],
        use_norm=bool(official["use_norm"]),
    )  # fmt: skip


def model_of(imported: ImportedModel) -> Any:
    model = build_model(imported.config, Sizes.of_state(imported.state))
    model.load_state_dict(dict(imported.weights))
    return model.eval()


def born(settings: TimeseriesApp, variates: int = V) -> dict[str, Tensor]:
    """A state dict in the official names, every tensor random."""
    torch.manual_seed(0)
    app = settings.model_copy(update={"head": HeadConfig()})
    model = build_model(app, Sizes(variates))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.4)
    state = TimeseriesState(variates=[str(i) for i in range(variates)])
    return {
        n: t.detach().clone() for n, t in export_official(app, model.state_dict(), state).items()
    }


def saved(state: dict[str, Any], tmp_path: Path) -> Path:
    file = tmp_path / "checkpoint.pth"
    torch.save(state, file)
    return file


@pytest.mark.parametrize(
    "changes",
    [
        {}, {"use_norm": 0}, {"use_norm": False}, {"activation": "relu"}, {"e_layers": 1, "n_heads": 1},
        {"d_model": 16, "n_heads": 3}, {"d_model": 7, "n_heads": 2}, {"n_heads": 24}, {"e_layers": 11, "d_ff": 1},
        {"seq_len": 1}, {"pred_len": 1}, {"class_strategy": "average"}, {"dropout": 0.1},
    ],
    ids=str,
)  # fmt: skip
def test_any_size_and_option_of_the_official_itransformer(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    """Against a peer that shares no code; the weights come back bit for bit."""
    official = OFFICIAL | changes
    settings = itransformer_settings(official)
    state = born(settings)
    imported = import_checkpoint(saved(state, tmp_path), None, settings)
    assert imported.layout == "itransformer" and imported.notes == ()
    assert_same_bits(export_official(imported.config, imported.weights, imported.state), state)
    peer = peer_of(official).eval()
    peer.load_state_dict(plain().from_official(state))
    x, marks = torch.randn(B, official["seq_len"], V), torch.randn(B, official["seq_len"], M)
    model = model_of(imported)
    torch.testing.assert_close(model(x)[..., 0], peer(x), atol=3e-5, rtol=1e-5)
    torch.testing.assert_close(
        model(x, calendar=marks)[..., 0], peer(x, marks), atol=3e-5, rtol=1e-5
    )
    loss, peers = model(x)[..., 0].square().mean(), peer(x).square().mean()
    loss.backward(), peers.backward()
    torch.testing.assert_close(
        model.head.point.weight.grad, peer.project.weight.grad, atol=1e-4, rtol=1e-3
    )
    torch.testing.assert_close(
        model.tokeniser.value.weight.grad, peer.embed.weight.grad, atol=1e-4, rtol=1e-3
    )


def test_the_plain_peer_is_the_official_model(golden_dir: Path) -> None:
    for name in ("itransformer_marks_norm", "itransformer_nomarks_nonorm"):
        file = golden_dir / "itransformer" / f"{name}.json"
        if not file.exists():
            pytest.skip(f"no stored case {file}")
        case, tensors = json.loads(file.read_text()), load_file(file.with_suffix(".safetensors"))
        weights = {
            n.removeprefix("weights/"): t for n, t in tensors.items() if n.startswith("weights/")
        }
        peer = peer_of(case["config"]).eval()
        peer.load_state_dict(plain().from_official(weights))
        forecast = peer(tensors["input/x_enc"], tensors.get("input/x_mark_enc"))
        atol = case["recommended_atol"]["output/forecast"]
        torch.testing.assert_close(forecast, tensors["output/forecast"], atol=atol, rtol=0)


def test_the_official_trainers_file(golden_dir: Path) -> None:
    """checkpoint.pth as it lies there: heads must be told, and DataParallel's prefix doesn't matter."""
    file = golden_dir / "itransformer" / "itransformer_marks_norm.checkpoint.pth"
    if not file.exists():
        pytest.skip(f"no stored case {file}")
    config = json.loads(file.with_name("itransformer_marks_norm.json").read_text())["config"]
    imported = import_checkpoint(file, None, itransformer_settings(config))
    weights = load_file(file.with_name("itransformer_marks_norm.safetensors"))
    want = {n.removeprefix("weights/"): t for n, t in weights.items() if n.startswith("weights/")}
    assert_same_bits(export_official(imported.config, imported.weights), want)
    assert (
        imported.config.model.context,
        imported.config.model.horizon,
        imported.config.backbone.depth,
    ) == (36, 24, 2)


def test_what_the_file_does_not_say_is_the_official_default_with_a_note(tmp_path: Path) -> None:
    state = born(itransformer_settings(OFFICIAL | {"n_heads": 8}))
    imported = import_checkpoint(saved({f"module.{n}": t for n, t in state.items()}, tmp_path))
    backbone, model = imported.config.backbone, imported.config.model
    assert (backbone.heads, backbone.channel, model.normalise) == (8, "gelu", "window")
    assert (backbone.dim, backbone.mlp_dim, backbone.order, backbone.eps) == (24, 13, "post", 1e-5)
    assert [note.partition(":")[0] for note in imported.notes] == [
        "the file doesn't say how many heads", "the file doesn't name its activation",
        "the file doesn't say whether windows are normalised",
    ]  # fmt: skip
    assert_same_bits(export_official(imported.config, imported.weights), state)


def test_the_time_series_librarys_layout(tmp_path: Path) -> None:
    state = born(itransformer_settings(OFFICIAL))
    tslib = {name.replace("projector", "projection"): tensor for name, tensor in state.items()}
    heads = TimeseriesApp(domain="timeseries", app="t", backbone=BackboneConfig(heads=3))
    imported = import_checkpoint(saved(tslib, tmp_path), None, heads)
    assert imported.layout == "tslib" and not any("normalised" in note for note in imported.notes)
    assert_same_bits(export_official(imported.config, imported.weights, imported.state), tslib)
    assert_same_bits(export_official(imported.config, imported.weights), state)
    without = heads.model_copy(update={"model": ModelConfig(normalise="none")})
    with pytest.raises(
        UserError, match=r"model.normalise = 'none' is set, but checkpoint.pth has 'window'"
    ):
        import_checkpoint(tmp_path / "checkpoint.pth", None, without)


def test_a_classifier_is_no_forecaster(tmp_path: Path) -> None:
    state = born(itransformer_settings(OFFICIAL))
    state["projection.weight"] = torch.zeros(4, 24 * V)
    state["projection.bias"] = torch.zeros(4)
    del state["projector.weight"], state["projector.bias"]
    with pytest.raises(UserError, match=r"projection reads 120 features where a token has 24"):
        import_checkpoint(saved(state, tmp_path))


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        (
            {"model": ModelConfig(context=96)},
            "model.context = 96 is set, but checkpoint.pth has 19",
        ),
        ({"model": ModelConfig(horizon=96)}, "model.horizon = 96 is set"),
        ({"model": ModelConfig(family="samformer")}, "model.family = 'samformer' is set"),
        ({"model": ModelConfig(normalise="revin")}, "model.normalise = 'revin' is set"),
        (
            {"backbone": BackboneConfig(heads=3, dim=512)},
            "backbone.dim = 512 is set, but checkpoint.pth has 24",
        ),
        ({"backbone": BackboneConfig(heads=3, depth=3)}, "backbone.depth = 3 is set"),
        ({"backbone": BackboneConfig(heads=3, order="pre")}, "backbone.order = 'pre' is set"),
        ({"backbone": BackboneConfig(heads=3, mlp_dim=96)}, "backbone.mlp_dim = 96 is set"),
        ({"backbone": BackboneConfig(heads=3, head_dim=9)}, "backbone.head_dim = 9 is set"),
        (
            {"backbone": BackboneConfig(heads=5)},
            "backbone.heads = 5 is set, but queries of 24 features",
        ),
        ({"backbone": BackboneConfig(heads=3, channel="silu")}, "iTransformer has gelu or relu"),
        ({"tokeniser": TokeniserConfig(calendar="future")}, "tokeniser.calendar = 'future' is set"),
        (
            {"head": HeadConfig(quantiles=(0.5,))},
            "head.quantiles is set, but checkpoint.pth forecasts the mean alone",
        ),
        ({"data": DataConfig(known_future=("price",))}, "data.known_future is set"),
    ],
)
def test_settings_that_contradict_an_itransformer(
    tables: dict[str, Any], message: str, tmp_path: Path
) -> None:
    file = saved(born(itransformer_settings(OFFICIAL)), tmp_path)
    settings = TimeseriesApp(
        domain="timeseries", app="t", **{"backbone": BackboneConfig(heads=3), **tables}
    )
    with pytest.raises(UserError, match=message):
        import_checkpoint(file, None, settings)


def test_settings_that_agree_or_only_matter_in_training(tmp_path: Path) -> None:
    file = saved(born(itransformer_settings(OFFICIAL)), tmp_path)
    backbone = BackboneConfig(
        heads=3, head_dim=8, kv_heads=3, dim=24, order="post", dropout=0.3, recompute="light"
    )
    model = ModelConfig(context=19, horizon="auto")
    mine = TimeseriesApp(
        domain="timeseries",
        app="mine",
        backbone=backbone,
        model=model,
        tokeniser=TokeniserConfig(dropout=0.2),
    )
    imported = import_checkpoint(file, None, mine)
    assert imported.config.backbone.dropout == 0.3 and imported.config.backbone.recompute == "light"
    assert imported.config.model.horizon == 7 and imported.config.tokeniser.dropout == 0.2
    assert imported.config.app == "mine"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"activation": "silu"}, "activation = 'silu'"),
        ({"use_norm": 2}, "use_norm = 2 can't be honoured"),
        ({"use_norm": "yes"}, "use_norm = 'yes'"),
        ({"n_heads": 0}, "heads = 0 can't be honoured"),
        ({"d_model": "wide"}, "dim = 'wide' can't be honoured"),
        ({"dropout": 1.5}, "dropout = 1.5 can't be honoured"),
        ({"rotary": True}, "iTransformer's rotary: not known to this import"),
    ],
)
def test_official_values_that_cannot_be_honoured(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        itransformer_settings(OFFICIAL | changes)


def by_hand(state: dict[str, Tensor], x_BVL: Tensor, revin: bool) -> Tensor:
    """SAMformer's equations over the official tensors, [B, V, H]."""
    w = {name: tensor.double() for name, tensor in state.items()}
    x = x_BVL.double()
    mean, std = x.mean(-1, keepdim=True), (x.var(-1, keepdim=True, correction=0) + 1e-5).sqrt()
    scale, shift = w["revin.affine_weight"][:, None], w["revin.affine_bias"][:, None]
    z = (x - mean) / std * scale + shift if revin else x
    q, k, v = (
        z @ w[f"compute_{n}.weight"].T + w[f"compute_{n}.bias"]
        for n in ("queries", "keys", "values")
    )
    mixed = torch.softmax(q @ k.transpose(1, 2) / q.shape[-1] ** 0.5, -1) @ v
    y = (z + mixed) @ w["linear_forecaster.weight"].T + w["linear_forecaster.bias"]
    return (y - shift) / (scale + 1e-10) * std + mean if revin else y


@pytest.mark.parametrize("changes", [{}, {"use_revin": False}, {"hid_dim": 3}, {"seq_len": 1}, {"num_channels": 1}],
                         ids=str)  # fmt: skip
def test_any_size_and_option_of_the_official_samformer(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    official = SAM | changes
    settings = samformer_settings(official)
    state = born(settings, official["num_channels"])
    state |= {n: torch.rand_like(t) + 0.5 for n, t in state.items() if n.startswith("revin")}
    imported = import_checkpoint(saved(state, tmp_path), None, settings)
    kept = TimeseriesState.model_validate_json(
        json.dumps(imported.state.to_json())
    )  # as a run folder does
    assert_same_bits(export_official(imported.config, imported.weights, kept), state)
    assert imported.layout == "samformer" and len(kept.variates) == official["num_channels"]
    x = torch.randn(B, official["seq_len"], official["num_channels"])
    got = model_of(imported).double()(x.double())[..., 0].transpose(1, 2)
    torch.testing.assert_close(
        got, by_hand(state, x.transpose(1, 2), official["use_revin"]), atol=1e-8, rtol=1e-8
    )


def test_samformer_alone(tmp_path: Path) -> None:
    """Without a setting everything but RevIN's use is read off the file; names of the variates may be given."""
    state = born(samformer_settings(SAM))
    file = tmp_path / "samformer.safetensors"
    save_file({f"network.{name}": tensor for name, tensor in state.items()}, file)
    imported = import_checkpoint(file)
    assert [note[:40] for note in imported.notes] == ["the file doesn't say whether RevIN is us"]
    assert (
        imported.config.tokeniser.calendar == "none" and imported.config.model.normalise == "revin"
    )
    assert imported.state.variates == [f"variate {i}" for i in range(1, 6)]
    named = TimeseriesApp(
        domain="timeseries", app="t", data=DataConfig(targets=("a", "b", "c", "d", "e"))
    )
    assert import_checkpoint(file, None, named).state.variates == ["a", "b", "c", "d", "e"]
    wrong = TimeseriesApp(domain="timeseries", app="t", data=DataConfig(targets=("a", "b")))
    with pytest.raises(
        UserError, match=r"data.targets names 2 variates, but samformer.safetensors is of 5"
    ):
        import_checkpoint(file, None, wrong)


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"model": ModelConfig(normalise="window")}, "model.normalise = 'window' is set"),
        ({"model": ModelConfig(family="itransformer")}, "model.family = 'itransformer' is set"),
        (
            {"backbone": BackboneConfig(head_dim=8)},
            "backbone.head_dim = 8 is set, but checkpoint.pth has 16",
        ),
        (
            {"backbone": BackboneConfig(dim=96)},
            "backbone.dim = 96 is set, but checkpoint.pth has 19",
        ),
        ({"backbone": BackboneConfig(channel="gelu")}, "backbone.channel = 'gelu' is set"),
        ({"tokeniser": TokeniserConfig(calendar="past")}, "tokeniser.calendar = 'past' is set"),
    ],
)
def test_settings_that_contradict_a_samformer(
    tables: dict[str, Any], message: str, tmp_path: Path
) -> None:
    file = saved(born(samformer_settings(SAM)), tmp_path)
    with pytest.raises(UserError, match=message):
        import_checkpoint(file, None, TimeseriesApp(domain="timeseries", app="t", **tables))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"adaptive": True}, "adaptive = true can't be honoured"),
        ({"eps": 1e-6}, "eps can't be honoured"),
        ({"base_optimizer": "RMSprop"}, "base_optimizer = 'RMSprop'"),
        ({"loss": "MAE"}, "loss = 'MAE' can't be honoured"),
        ({"betas": 0.9}, "betas = 0.9"),
        ({"num_channels": 0}, "num_channels = 0"),
        ({"rho": -1.0}, "sam = -1.0 can't be honoured"),
        ({"heads": 2}, "SAMformer's heads: not known"),
    ],
)
def test_values_of_samformer_that_cannot_be_honoured(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        samformer_settings(SAM | changes)


def test_samformers_training_settings() -> None:
    train = samformer_settings(SAM | {"rho": 0.7, "base_optimizer": "Adam", "learning_rate": 2e-3, "betas": [0.8, 0.9],
                                      "weight_decay": 1e-5, "eps": 1e-8, "adaptive": False}).train  # fmt: skip
    assert (train.sam, train.optimizer, train.lr, train.beta1, train.beta2) == (
        0.7,
        "adam",
        2e-3,
        0.8,
        0.9,
    )
    assert train.weight_decay == 1e-5 and train.decay_all


def test_what_no_layout_has(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no layout of a forecaster has names such as a.weight"):
        import_checkpoint(saved({"a.weight": torch.zeros(2)}, tmp_path))
    with pytest.raises(
        UserError,
        match=r"--layout lstm: there is no such layout; there are itransformer, tslib, samf",
    ):
        import_checkpoint(tmp_path / "checkpoint.pth", "lstm")
    with pytest.raises(
        UserError, match=r"checkpoint.pth: has no tensor enc_embedding.value_embedding.weight"
    ):
        import_checkpoint(tmp_path / "checkpoint.pth", "tslib")
    state = born(itransformer_settings(OFFICIAL | {"n_heads": 8}))
    with pytest.raises(UserError, match=r"nothing sets our backbone.norm.bias"):
        import_checkpoint(
            saved({n: t for n, t in state.items() if n != "encoder.norm.bias"}, tmp_path)
        )
    with pytest.raises(UserError, match=r"decoder.weight .* is not known to this layout"):
        import_checkpoint(saved({**state, "decoder.weight": torch.zeros(2)}, tmp_path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backbone": {"order": "pre"}}, "backbone.order is 'pre' here and 'post' there"),
        ({"backbone": {"eps": 1e-6}}, "backbone.eps is 1e-06 here and 1e-05 there"),
        ({"backbone": {"channel": "swiglu"}}, "backbone.channel is 'swiglu' here"),
        ({"model": {"normalise": "revin"}}, 'model.normalise is "revin"'),
        ({"head": {"quantiles": (0.1, 0.9)}}, "it forecasts quantiles too"),
    ],
)
def test_models_that_the_official_code_cannot_build(change: dict[str, Any], message: str) -> None:
    app = itransformer_settings(OFFICIAL)
    tables = {name: getattr(app, name).model_copy(update=values) for name, values in change.items()}
    app = app.model_copy(update=tables)
    weights = build_model(app, Sizes(V)).state_dict()
    with pytest.raises(
        UserError, match=f"the official code has no model like this one .*{message}"
    ):
        export_official(app, weights)


def test_a_samformer_born_here_is_written_for_the_official_code() -> None:
    app = TimeseriesApp(
        domain="timeseries", app="t", model=ModelConfig(family="samformer", context=19, horizon=7, normalise="revin"),
        tokeniser=TokeniserConfig(calendar="none"),
    )  # fmt: skip
    weights = build_model(app, Sizes(V)).state_dict()
    state = export_official(app, weights)
    assert state["compute_keys.weight"].shape == (16, 19) and state[
        "revin.affine_weight"
    ].shape == (V,)
    x = torch.randn(B, V, 19)
    model = build_model(app, Sizes(V)).eval()
    model.load_state_dict(weights)
    got = model(x.transpose(1, 2))[..., 0].transpose(1, 2)
    torch.testing.assert_close(got.double(), by_hand(state, x, revin=True), atol=1e-4, rtol=1e-4)
    without = app.model_copy(update={"model": app.model.model_copy(update={"normalise": "none"})})
    weights = build_model(without, Sizes(V)).state_dict()
    with pytest.raises(UserError, match="how many there are isn't known"):
        export_official(without, weights)
    assert export_official(without, weights, TimeseriesState(variates=["a", "b"]))[
        "revin.affine_weight"
    ].tolist() == [
        1,
        1,
    ]


def test_starting_from_an_official_checkpoint(tmp_path: Path) -> None:
    """Another horizon, quantiles and covariates are fine there: the engine starts fresh what the file lacks."""
    file = saved(born(itransformer_settings(OFFICIAL)), tmp_path)
    app = itransformer_settings(OFFICIAL | {"pred_len": 5})
    app = app.model_copy(
        update={"head": HeadConfig(quantiles=(0.5,)), "data": DataConfig(known_future=("price",))}
    )
    found = initial_weights(str(file), app)
    assert found.source == "checkpoint.pth" and found.domain == "timeseries"
    assert found.weights["head.point.weight"].shape == (7, 24)
    model = build_model(app, Sizes(V, known=1))
    assert {n for n in model.backbone.state_dict()} == {
        n.removeprefix("backbone.") for n in found.weights if n.startswith("backbone.")
    }
    samformer = samformer_settings(SAM)
    with pytest.raises(UserError, match=r"model.family = 'samformer' is set"):
        initial_weights(str(file), samformer)
    other = saved(born(samformer), tmp_path)
    assert "normalise.weight" in initial_weights(str(other), samformer).weights
