"""Every model family that others publish has the same five functions; see isoform.core.pretrained."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch

from isoform.core.config.schema import BackboneConfig
from isoform.core.config.state import RunState
from isoform.core.errors import UserError
from isoform.core.pretrained import Layout
from isoform.core.pretrained.source import Family, Source
from isoform.molecules.adit import pretrained as adit
from isoform.molecules.adit.config import AditApp, autoencoder_trunk, denoiser_trunk
from isoform.molecules.adit.model import Adit
from isoform.molecules.config import MoleculesApp
from isoform.molecules.graphormer import pretrained as graphormer
from isoform.molecules.graphormer.model import TRUNK, Graphormer
from isoform.molecules.state import MoleculesState
from isoform.timeseries.config import ModelConfig, TimeseriesApp
from isoform.timeseries.itransformer import pretrained as itransformer
from isoform.timeseries.itransformer.model import ITransformer
from isoform.timeseries.samformer import pretrained as samformer
from isoform.timeseries.samformer.model import SAMformer, trunk_table
from isoform.timeseries.sizes import Sizes
from isoform.timeseries.state import TimeseriesState
from isoform.vision.config import VisionApp
from isoform.vision.state import Preprocessing, VisionState
from isoform.vision.vit import pretrained as vit
from isoform.vision.vit.config import VitHeadConfig, VitTokeniserConfig
from isoform.vision.vit.model import build_vit

FAMILIES = {
    "vit": vit,
    "itransformer": itransformer,
    "samformer": samformer,
    "graphormer": graphormer,
    "adit": adit,
}
FIVE = ("recognise", "import_checkpoint", "layout_of", "export_official", "initial_weights")


def born(name: str) -> tuple[Any, torch.nn.Module, RunState]:
    """A small model of the family that its official code could have built: (app, model, state)."""
    if name == "vit":
        trunk = BackboneConfig(dim=192, depth=2, heads=3, mlp_dim=77)
        app: Any = VisionApp(
            domain="vision", app="x", tokeniser=VitTokeniserConfig(image=21, patch=7), backbone=trunk,
            head=VitHeadConfig(outputs=5),
        )  # fmt: skip
        return (
            app,
            build_vit(app.tokeniser, app.backbone, app.head),
            VisionState(preprocessing=Preprocessing(size=(21, 21))),
        )
    if name == "graphormer":
        trunk = BackboneConfig(**{**TRUNK, "dim": 24, "depth": 2, "heads": 4, "mlp_dim": 13})
        app = MoleculesApp(domain="molecules", app="x", backbone=trunk)
        return app, Graphormer(app, 3), MoleculesState()
    if name == "adit":
        trunk = autoencoder_trunk("tiny", heads=8)
        denoiser = denoiser_trunk("tiny", dim=64, heads=1)
        app = AditApp(domain="molecules", app="x", encoder=trunk, decoder=trunk, backbone=denoiser)
        return app, Adit(app), MoleculesState()
    model = ModelConfig(
        family=name, context=19, horizon=7, normalise="revin" if name == "samformer" else "window"
    )  # fmt: skip
    app = TimeseriesApp(domain="timeseries", app="x", model=model)
    if name == "samformer":
        app = app.model_copy(update={"backbone": trunk_table(BackboneConfig(), 19)})
        return app, SAMformer(app, Sizes(5)), TimeseriesState(variates=list("abcde"))
    app = app.model_copy(update={"backbone": itransformer.official_table(24, 2, 8, 13, "gelu")})
    return app, ITransformer(app, Sizes(5)), TimeseriesState()


@pytest.mark.parametrize("name", FAMILIES)
def test_the_five_functions_have_one_signature(name: str) -> None:
    module = FAMILIES[name]
    assert module.LAYOUTS
    for function in FIVE:
        want = [p for p in inspect.signature(getattr(Family, function)).parameters if p != "self"]
        have = inspect.signature(getattr(module, function)).parameters
        shared = [p for p, kind in have.items() if kind.kind is not inspect.Parameter.KEYWORD_ONLY]
        assert shared == want, function


@pytest.mark.parametrize("name", FAMILIES)
def test_what_is_exported_is_recognised_by_its_family_alone_and_comes_back(
    name: str, tmp_path: Any
) -> None:
    app, model, state = born(name)
    weights = model.state_dict()
    official = FAMILIES[name].export_official(app, weights, state)
    source = Source("x.pth", official)
    layouts = {other: module.recognise(source) for other, module in FAMILIES.items()}
    assert {other for other, layout in layouts.items() if layout is not None} == {name}
    assert isinstance(FAMILIES[name].layout_of(app, layouts[name], state), Layout)
    torch.save(official, tmp_path / "x.pth")
    imported = FAMILIES[name].import_checkpoint(tmp_path / "x.pth")
    own = {key: value for key, value in imported.weights.items() if not key.startswith("spare.")}
    assert own.keys() == weights.keys() and all(torch.equal(own[key], weights[key]) for key in own)
    start = FAMILIES[name].initial_weights(str(tmp_path / "x.pth"), app)
    assert start.source == "x.pth" and start.domain == app.domain
    assert all(torch.equal(start.weights[key], weights[key]) for key in weights)


@pytest.mark.parametrize("name", FAMILIES)
def test_what_nobody_knows_is_refused_by_every_family(name: str, tmp_path: Any) -> None:
    torch.save({"a": torch.zeros(3)}, tmp_path / "x.pth")
    for call in (
        FAMILIES[name].import_checkpoint,
        lambda path: FAMILIES[name].initial_weights(path, born(name)[0]),
    ):
        with pytest.raises(
            UserError, match=r"x\.pth: no layout of .* has names such as a; name one with --layout"
        ):
            call(tmp_path / "x.pth")
    with pytest.raises(UserError, match="--layout lstm: there is no such layout"):
        FAMILIES[name].import_checkpoint(tmp_path / "x.pth", "lstm")
