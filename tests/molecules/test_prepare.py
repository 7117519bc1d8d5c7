"""What an app leaves open is decided from its data, which are read once, and printed."""

from __future__ import annotations

import pytest

from isoform.core import api
from isoform.core.errors import UserError
from isoform.molecules import DOMAIN
from isoform.molecules.data import file
from isoform.molecules.prepare import prepare
from isoform.molecules.task import MoleculesTask

from .runs import app, table


def test_outputs_and_scale_are_filled_and_preparing_again_changes_nothing(tmp_path):
    prepared = prepare(app(table(tmp_path / "m.csv")))
    config, train = prepared.config, prepared.data.targets("train")
    assert config.head.outputs == 1 and config.data.target_mean == pytest.approx((train.mean(),))
    assert config.data.target_std == pytest.approx((train.std(),))
    assert prepare(config).config == config and any("train" in line for line in prepared.notes)


def test_classes_are_counted(tmp_path):
    assert prepare(app(table(tmp_path / "m.csv", "multiclass"))).config.head.outputs == 3
    with pytest.raises(UserError, match=r"head\.outputs = 5, but m\.csv has 3 classes"):
        prepare(app(table(tmp_path / "m.csv", "multiclass"), head={"outputs": 5}))


def test_a_loss_that_does_not_fit_the_labels_is_refused_by_training_and_check(tmp_path):
    config = app(table(tmp_path / "m.csv", "binary"), loss={"kind": "mse"})
    with pytest.raises(UserError, match=r"loss\.kind = mse does not fit data\.task = binary"):
        prepare(config)
    assert "loss.kind = mse does not fit" in DOMAIN.check(config).refusal


def test_an_own_app_gets_a_trunk_that_nobody_set_and_keeps_what_is_set(tmp_path):
    own = app(table(tmp_path / "m.csv"), auto=True, train={"epochs": "auto"})
    fresh = own.model_copy(update={"backbone": type(own.backbone)(depth=3)})
    prepared = prepare(fresh)
    config = prepared.config
    assert (
        config.backbone.depth == 3 and config.backbone.dim == 64 and config.backbone.mlp_dim == 128
    )
    assert isinstance(config.train.epochs, int) and config.train.patience
    assert any(
        f"3 blocks of 64 features, {config.train.epochs} epochs" in line for line in prepared.notes
    )
    assert prepare(config).config == config


def test_what_is_no_molecule_is_named(tmp_path):
    path = table(tmp_path / "m.csv")
    lines = path.read_text().splitlines()
    lines[5] = "m4,this is none,3.5"
    path.write_text("\n".join(lines) + "\n")
    prepared = prepare(app(path))
    assert ("m4" in {name for name, _ in prepared.data.skipped}) and len(
        prepared.data.molecules
    ) == 66
    assert any("m4" in line for line in prepared.notes)


def test_a_training_reads_its_table_once(tmp_path, monkeypatch):
    path = table(tmp_path / "m.csv")
    opened = []
    really = file.file_rows

    def counted(path, *missing):
        opened.append(path)
        return really(path, *missing)

    monkeypatch.setattr(file, "file_rows", counted)
    monkeypatch.setattr(MoleculesTask, "baselines", lambda self: ())
    monkeypatch.setattr(MoleculesTask, "figures", lambda self, model, outputs: [])
    sets = [
        f"data.path={path}",
        "data.targets=label",
        "backbone.dim=16",
        "backbone.depth=1",
        "train.epochs=1",
    ]
    request = api.Request(DOMAIN, "graphormer-own", sets=sets)
    api.train_seeds(request, 2, tmp_path / "runs", progress=False, say=lambda line: None)
    assert opened == [str(path)]


@pytest.mark.parametrize(
    ("train", "said"),
    [
        ({"epochs": 1}, "1 epoch in batches of 32"),
        ({"epochs": 3, "patience": 1}, "3 epochs in batches of 32, stopped after 1 epoch without a better validation"),
    ],
)  # fmt: skip
def test_what_is_chosen_is_said_in_sentences_that_are_true(tmp_path, train, said):
    own = app(table(tmp_path / "m.csv"), auto=True)
    own = own.model_copy(update={"train": type(own.train).model_validate(train)})
    notes = prepare(own).notes
    assert any(note.endswith(said) for note in notes) and not any("None" in note for note in notes)
    assert any("; 1 target (regression)" in note for note in notes)
