"""Both forecasters on the shared backbone: what may change about their inputs, what each does, what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import isoform
from checks import assert_padding_ignored, assert_permutation_equivariant
from isoform.core.config.schema import BackboneConfig
from isoform.core.errors import UserError
from isoform.core.tokens import Tokens
from isoform.timeseries.config import (
    AugmentConfig,
    HeadConfig,
    ModelConfig,
    TimeseriesApp,
    TokeniserConfig,
)
from isoform.timeseries.head import ForecastHead
from isoform.timeseries.models import build_model
from isoform.timeseries.samformer.model import trunk_table
from isoform.timeseries.sizes import Sizes

B, L, H, V, P, K, M, S, D = 2, 13, 7, 5, 3, 2, 11, 17, 24
LEVELS = (0.05, 0.3, 0.5, 0.95)
EVERYTHING = Sizes(V, P, K, M, S)


def app(family: str = "itransformer", **tables: dict[str, Any]) -> TimeseriesApp:
    if family == "itransformer":
        backbone = {"dim": D, "depth": 2, "heads": 3, "mlp_dim": 19, "order": "post", "eps": 1e-5}
    else:
        backbone = {}
    model = {"family": family, "context": L, "horizon": H, "normalise": "window"}
    return TimeseriesApp(
        domain="timeseries", app="test",
        model=ModelConfig.model_validate({**model, **tables.get("model", {})}),
        backbone=BackboneConfig.model_validate({**backbone, **tables.get("backbone", {})}),
        tokeniser=TokeniserConfig.model_validate(tables.get("tokeniser", {})),
        head=HeadConfig.model_validate(tables.get("head", {})),
    )  # fmt: skip


def shaken(config: TimeseriesApp, sizes: Sizes) -> Any:
    """A model in float64 whose every parameter is random, so that a forgotten one shows."""
    torch.manual_seed(0)
    model = build_model(config, sizes).double().eval()
    for name, parameter in model.named_parameters():
        centre = 1.0 if "norm" in name and name.endswith("weight") else 0.0
        torch.nn.init.normal_(parameter, centre, 0.1 if centre else 0.3)
    return model


def inputs(sizes: Sizes, *, ahead: bool = False, variates: int = V) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(1)
    shapes = {
        "context": (B, L, variates), "past": (B, L, sizes.past), "known": (B, L + H, sizes.known),
        "calendar": (B, L + H if ahead else L, sizes.calendar), "static": (B, sizes.static),
    }  # fmt: skip
    drawn = {
        n: 3 + 2 * torch.randn(*shape, generator=g, dtype=torch.float64)
        for n, shape in shapes.items()
    }
    return {name: x for name, x in drawn.items() if x.shape[-1]}


@pytest.mark.parametrize("family", ["itransformer", "samformer"])
@pytest.mark.parametrize("normalise", ["window", "revin", "none"])
@pytest.mark.parametrize("levels", [(), LEVELS])
def test_shapes_and_parameters(family: str, normalise: str, levels: tuple[float, ...]) -> None:
    config = app(family, model={"normalise": normalise}, head={"quantiles": levels})
    model = shaken(config, Sizes(V))
    out = model(**inputs(Sizes(V)))
    width = L if family == "samformer" else D
    assert out.shape == (B, H, V, 1 + len(levels)) and out.isfinite().all()
    assert model.features(**inputs(Sizes(V))).shape == (B, V, width)
    out.sum().backward()
    assert all(
        p.grad is not None and p.grad.ne(0).any()
        for n, p in model.named_parameters()
        if "qkv" not in n
    )
    counted = sum(p.numel() for p in model.parameters())
    trunk = L * (16 + 16 + L) + 16 + 16 + L if family == "samformer" else (
        (L + 1) * D + 2 * (4 * D * (D + 1) + 2 * D * 19 + 19 + D + 4 * D) + 2 * D)  # fmt: skip
    affine = 2 * V if normalise == "revin" else 0
    assert counted == trunk + (width + 1) * H * (1 + len(levels)) + affine


def test_variates_have_no_order() -> None:
    """Permuted variates give permuted forecasts; marks and covariates stay where they are."""
    model = shaken(app(head={"quantiles": LEVELS}), EVERYTHING)
    given_ = inputs(EVERYTHING)
    order = torch.tensor([3, 0, 4, 2, 1])
    permuted = model(**{**given_, "context": given_["context"][:, :, order]})
    torch.testing.assert_close(permuted, model(**given_)[:, :, order], atol=1e-10, rtol=0)


@pytest.mark.parametrize("family", ["itransformer", "samformer"])
def test_the_trunks_know_neither_order_nor_padding(family: str) -> None:
    model = shaken(app(family), Sizes(V))
    tokens = model.tokens(inputs(Sizes(V))["context"])
    assert_permutation_equivariant(model.backbone, tokens, atol=1e-10)
    ragged = Tokens(tokens.x, torch.tensor([[True] * V, [True] * (V - 2) + [False] * 2]))
    assert_padding_ignored(model.backbone, ragged, atol=1e-10)


@pytest.mark.parametrize("family", ["itransformer", "samformer"])
@pytest.mark.parametrize("variates", [1, 2, 23])
def test_any_number_of_variates_at_test_time(family: str, variates: int) -> None:
    model = shaken(app(family), Sizes(V))
    out = model(**inputs(Sizes(V), variates=variates))
    assert out.shape == (B, H, variates, 1) and out.isfinite().all()


def test_revin_knows_its_variates() -> None:
    model = shaken(app(model={"normalise": "revin"}), Sizes(V))
    with pytest.raises(ValueError, match="scale for each of 5 variates, and these are 7"):
        model(**inputs(Sizes(V), variates=7))
    with pytest.raises(ValueError, match="needs to know how many"):
        build_model(app(model={"normalise": "revin"}), Sizes())


@pytest.mark.parametrize("calendar", ["past", "future"])
def test_every_input_changes_every_forecast(calendar: str) -> None:
    model = shaken(app(tokeniser={"calendar": calendar}), EVERYTHING)
    given_ = inputs(EVERYTHING, ahead=calendar == "future")
    leaves = {name: x.requires_grad_() for name, x in given_.items()}
    out = model(**leaves)
    assert model.tokens(**leaves).suffix == P + K + M + 1
    for variate in (0, V - 1):
        grads = torch.autograd.grad(
            out[0, :, variate].square().sum(), list(leaves.values()), retain_graph=True
        )
        for name, grad in zip(leaves, grads, strict=True):
            assert grad[0].flatten(1 if name != "static" else 0).abs().sum(0).gt(1e-9).all(), name
            assert grad[1].eq(0).all(), "a window depends on another one"


def test_the_horizon_of_known_covariates_is_read() -> None:
    model = shaken(app(), Sizes(V, known=K))
    given_ = inputs(Sizes(V, known=K))
    later = given_["known"].clone()
    later[:, -1] += 1
    assert (
        (model(**{**given_, "known": later}) - model(**given_)).abs().amax((0, 1, 3)).gt(1e-4).all()
    )


def test_what_stands_ready_is_not_normalised_and_what_is_a_series_is() -> None:
    """A shift of the whole look-back moves the forecast by as much; one of a mark or of a known covariate does not."""
    model = shaken(app(), EVERYTHING)
    given_ = inputs(EVERYTHING)
    base = model(**given_)
    shifted = model(**{**given_, "context": given_["context"] + 100})
    torch.testing.assert_close(shifted, base + 100, atol=1e-8, rtol=0)
    torch.testing.assert_close(
        model(**{**given_, "past": given_["past"] + 100}), base, atol=1e-8, rtol=0
    )
    for name in ("known", "calendar", "static"):
        assert (model(**{**given_, name: given_[name] + 1}) - base).abs().max() > 1e-3, name


@pytest.mark.parametrize("family", ["itransformer", "samformer"])
@pytest.mark.parametrize("normalise", ["window", "revin"])
def test_constant_series(family: str, normalise: str) -> None:
    """A constant look-back has spread sqrt(1e-5): nothing is NaN, and the forecast is nearly the constant."""
    model = shaken(app(family, model={"normalise": normalise}), Sizes(V)).float()
    context = torch.full((B, L, V), 7.0)
    context[:, :, 1] = -1e4
    out = model(context=context)[..., 0]
    assert out.isfinite().all()
    assert (out - context[:, :1]).abs().max() < 0.2


@pytest.mark.parametrize("family", ["itransformer", "samformer"])
def test_a_window_in_the_dark_is_no_part_of_another(family: str) -> None:
    model = shaken(app(family), Sizes(V))
    context = inputs(Sizes(V))["context"]
    torch.testing.assert_close(model(context)[:1], model(context[:1]), atol=1e-12, rtol=0)


@given(
    levels=st.sets(st.integers(1, 99), min_size=1, max_size=9),
    scale=st.sampled_from([1e-6, 1.0, 1e3, 1e8]), seed=st.integers(0, 2**31),
    normalise=st.sampled_from(["window", "revin"]),
)  # fmt: skip
def test_quantiles_never_cross(levels: set[int], scale: float, seed: int, normalise: str) -> None:
    """For any levels, weights and input, float32 rounding included; RevIN's scales may be negative."""
    torch.manual_seed(seed)
    model = build_model(
        app(
            "samformer",
            model={"normalise": normalise},
            head={"quantiles": tuple(k / 100 for k in levels)},
        ),
        Sizes(V),
    ).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0.0, 1.0)
    with torch.no_grad():
        out = model(torch.randn(B, L, V) * scale + scale)[..., 1:]
    assert out.shape[-1] == len(levels) and out.diff(dim=-1).ge(0).all()


def test_fresh_quantiles_are_a_normal_distributions() -> None:
    """0.5 * (-1.2816, 0, 1.2816) window spreads from the forecast, before anything is learned."""
    head = ForecastHead(D, H, (0.1, 0.5, 0.9))
    head.start()
    torch.nn.init.zeros_(head.quantile.weight)
    _, offset = head(torch.randn(B, V, D))
    torch.testing.assert_close(
        offset[1, 2, 3], torch.tensor([-0.6408, 0.0, 0.6408]), atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("family", ["itransformer", "samformer"])
def test_layers_start_as_the_table_says(family: str) -> None:
    """PyTorch's biases are uniform within 1 / sqrt(inputs), isoform's are zero: trunk, embedding and head alike."""
    for init in ("torch", "xavier"):
        model = build_model(app(family, backbone={"init": init}), Sizes(V))
        biases = [m.bias for m in model.modules() if isinstance(m, torch.nn.Linear)]
        assert len(biases) >= 2 and all(bias.ne(0).any() == (init == "torch") for bias in biases)


def test_quantiles_leave_the_mean_alone() -> None:
    """The mean's layer takes no gradient from the quantiles, so it minimises the point loss."""
    model = shaken(app(head={"quantiles": LEVELS}), Sizes(V))
    out = model(**inputs(Sizes(V)))
    out[..., 1:].sum().backward()
    assert model.head.point.weight.grad.eq(0).all() and model.head.quantile.weight.grad.ne(0).any()


@pytest.mark.parametrize("levels", [(0.5, 0.5), (0.0, 0.5), (1.0,), (-0.1, 0.2)])
def test_wrong_levels_are_refused(levels: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"head\.quantiles = .* different levels between 0 and 1"):
        build_model(app(head={"quantiles": levels}), Sizes(V))


@pytest.mark.parametrize(
    ("tables", "sizes", "message"),
    [
        (
            {"model": {"context": "auto"}},
            Sizes(V),
            "model.context = 'auto' should be a number of rows",
        ),
        ({"model": {"horizon": 0}}, Sizes(V), "model.horizon = 0 should be a number of rows"),
        ({"backbone": {"position": "rotary"}}, Sizes(V), "backbone.position must be none"),
        ({"backbone": {"heads": 7}}, Sizes(V), "backbone.heads = 7 must divide backbone.dim = 24"),
    ],
)
def test_wrong_settings_of_itransformer(tables: dict, sizes: Sizes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_model(app(**tables), sizes)


@pytest.mark.parametrize(
    ("tables", "sizes", "message"),
    [
        ({}, Sizes(V, past=1), "no place for data.past"),
        ({}, Sizes(V, calendar=4), 'tokeniser.calendar .set it to "none".'),
        (
            {"backbone": {"dim": 96}},
            Sizes(V),
            "a SAMformer has backbone.dim = 13 .model.context, .* not 96",
        ),
        (
            {"backbone": {"channel": "gelu"}},
            Sizes(V),
            "a SAMformer has backbone.channel = 'none' .* not 'gelu'",
        ),
        (
            {"backbone": {"depth": 3}},
            Sizes(V),
            "a SAMformer has backbone.depth = 1 .* not 3: leave it out",
        ),
        ({"backbone": {"heads": 2}}, Sizes(V), "backbone.heads = 2 must divide model.context = 13"),
        ({"backbone": {"value_dim": 5}}, Sizes(V), "1 heads of 5 values beside a stream of 13"),
    ],
)
def test_wrong_settings_of_samformer(tables: dict, sizes: Sizes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_model(app("samformer", **tables), sizes)


def test_samformers_widths_follow_from_the_look_back() -> None:
    table = trunk_table(BackboneConfig(dropout=0.2), L)
    assert (table.dim, table.value_dim, table.head_dim, table.depth, table.proj) == (
        L,
        L,
        16,
        1,
        False,
    )
    assert (table.dropout, table.init) == (0.2, "torch")
    assert trunk_table(table, L) == table, "settling twice changes nothing"
    assert trunk_table(BackboneConfig.model_validate(table.model_dump()), L) == table, (
        "nor does a run's config.toml"
    )
    heads = trunk_table(BackboneConfig(heads=4), 12)
    assert (heads.dim, heads.value_dim) == (12, 3)


def test_missing_and_misshapen_inputs_are_refused() -> None:
    model = shaken(app(), EVERYTHING)
    given_ = inputs(EVERYTHING)
    for name, count in (("past", P), ("known", K), ("calendar", M), ("static", S)):
        with pytest.raises(ValueError, match=f"built with {count} of '{name}' and got none"):
            model(**{k: v for k, v in given_.items() if k != name})
    for name, message in (("context", "look-back is .B, 13, V."), ("past", "past has 12 rows where the model takes 13"),
                          ("known", "known has 19 rows where the model takes 20"),
                          ("calendar", "calendar has 12 rows where")):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            model(**{**given_, name: given_[name][:, 1:]})
    with pytest.raises(ValueError, match="takes 17 static values, got 16"):
        model(**{**given_, "static": given_["static"][:, 1:]})
    plain = shaken(app(), Sizes(V))
    with pytest.raises(ValueError, match="takes 0 static values, got 17"):
        plain(given_["context"], static=given_["static"])
    with pytest.raises(ValueError, match="built without known covariates"):
        plain(given_["context"], known=given_["known"])
    with pytest.raises(ValueError, match="targets alone"):
        shaken(app("samformer"), Sizes(V))(given_["context"], calendar=given_["calendar"])


def test_the_last_block_skips_marks_and_answers_the_same() -> None:
    model = shaken(app(), Sizes(V, calendar=M))
    given_ = inputs(Sizes(V, calendar=M))
    whole = model.backbone(model.tokens(**given_)).x[:, :V]
    torch.testing.assert_close(model.features(**given_), whole, atol=1e-12, rtol=0)
    seen: list[int] = []
    model.backbone.blocks[-1].channel.register_forward_pre_hook(
        lambda _, args: seen.append(args[0].shape[1])
    )
    model(**given_)
    assert seen == [V]


def test_models_can_be_exported_and_compiled_whole() -> None:
    for family in ("itransformer", "samformer"):
        model = shaken(app(family, head={"quantiles": LEVELS}), Sizes(V)).float()
        context = torch.randn(B, L, V)
        exported = torch.export.export(model, (context,)).module()
        torch.testing.assert_close(exported(context), model(context), atol=1e-5, rtol=0)


def test_create_by_hand() -> None:
    with pytest.raises(UserError, match="no published weights"):
        isoform.create("timeseries/itransformer-etth1-96", pretrained=True)
    with pytest.raises(UserError, match="no option channels; there are context, horizon, variates"):
        isoform.create("timeseries/itransformer-etth1-96", channels=3)
    torch.manual_seed(0)
    made = isoform.create(
        "timeseries/itransformer-etth1-96", context=L, horizon=H, variates=V, calendar=M
    )
    torch.manual_seed(0)
    trunk = isoform.create(
        "timeseries/itransformer-etth1-96",
        context=L,
        horizon=H,
        variates=V,
        calendar=M,
        features_only=True,
    )
    given = inputs(Sizes(V, calendar=M))
    given = {name: value.float() for name, value in given.items()}
    assert made(**given).shape == (B, H, V, 1)
    assert torch.equal(trunk(**given), made.features(**given))


def told(**tables: Any) -> Any:
    tokeniser = {
        "calendar": "future",
        "origin": True,
        "identity": True,
        **tables.pop("tokeniser", {}),
    }
    return shaken(app(tokeniser=tokeniser, **tables), Sizes(V, calendar=M))


def test_variates_are_told_when_their_forecast_starts_and_which_they_are() -> None:
    model, given = told(), inputs(Sizes(V, calendar=M), ahead=True)
    given["calendar"] = given["calendar"].sigmoid() - 0.5
    tokens = model.tokens(**given).x
    later = {**given, "calendar": given["calendar"].clone()}
    later["calendar"][:, L] += 0.1
    moved = model.tokens(**later).x - tokens
    assert (moved[:, :V].abs() > 1e-6).all() and torch.allclose(
        moved[:, :V], moved[:, :1].expand(-1, V, -1)
    )
    same = {**given, "context": given["context"][..., :1].expand(-1, -1, V)}
    assert not torch.allclose(model(**same)[:, :, 0], model(**same)[:, :, 1])
    model.tokeniser.identity.data.zero_()
    assert torch.allclose(model(**same)[:, :, 0], model(**same)[:, :, 1])


def test_any_two_hours_and_marks_are_told_apart() -> None:
    model = told().tokeniser.origin
    hour = torch.arange(24, dtype=torch.float64) / 23 - 0.5
    marks = torch.zeros(24, M, dtype=torch.float64)
    marks[:, 3] = hour
    waves = torch.cdist(model(marks)[:, 0], model(marks)[:, 0])
    assert (waves + torch.eye(24) > 1e-4).all()


def test_what_identity_and_origin_need() -> None:
    with pytest.raises(ValueError, match="a vector for each of 5 variates, and these are 4"):
        told()(**inputs(Sizes(V, calendar=M), ahead=True, variates=4))
    with pytest.raises(ValueError, match='must be "future"'):
        build_model(app(tokeniser={"origin": True}), Sizes(V, calendar=M))
    some = app(tokeniser={"identity": True}).model_copy(
        update={"augment": AugmentConfig(variates=0.5)}
    )
    with pytest.raises(ValueError, match=r"augment\.variates must be 1"):
        build_model(some, Sizes(V))
