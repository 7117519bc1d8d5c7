"""What an app leaves open is decided from its data, once, and printed."""

from __future__ import annotations

import pytest

from isoform.core.errors import UserError
from isoform.molecules.data.dataset import data_of
from isoform.molecules.settle import settle

from .runs import app, table


def test_outputs_and_scale_are_settled_and_settling_twice_changes_nothing(tmp_path):
    config, notes = settle(app(table(tmp_path / "m.csv")))
    train = data_of(config).targets("train")
    assert config.head.outputs == 1 and config.data.target_mean == pytest.approx((train.mean(),))
    assert config.data.target_std == pytest.approx((train.std(),))
    assert settle(config) == (config, []) and any("train" in line for line in notes)


def test_classes_are_counted(tmp_path):
    config, _ = settle(app(table(tmp_path / "m.csv", "multiclass")))
    assert config.head.outputs == 3
    with pytest.raises(UserError, match=r"head\.outputs = 5, but m\.csv has 3 classes"):
        settle(app(table(tmp_path / "m.csv", "multiclass"), head={"outputs": 5}))


def test_an_own_app_gets_a_trunk_that_nobody_set_and_keeps_what_is_set(tmp_path):
    own = app(table(tmp_path / "m.csv"), auto=True, train={"epochs": "auto"})
    fresh = own.model_copy(update={"backbone": type(own.backbone)(depth=3)})
    config, notes = settle(fresh)
    assert config.backbone.depth == 3 and config.backbone.dim == 64 and config.backbone.mlp_dim == 128
    assert isinstance(config.train.epochs, int) and config.train.patience
    assert any(f"3 blocks of 64 features, {config.train.epochs} epochs" in line for line in notes)
    assert settle(config)[0] == config


def test_a_changed_file_is_read_again(tmp_path):
    path = table(tmp_path / "m.csv")
    first = data_of(app(path))
    assert data_of(app(path)) is first
    table(path, rows=61)
    assert len(data_of(app(path)).molecules) == 61


def test_what_is_no_molecule_is_named(tmp_path):
    path = table(tmp_path / "m.csv")
    lines = path.read_text().splitlines()
    lines[5] = "m4,this is none,3.5"
    path.write_text("\n".join(lines) + "\n")
    config = app(path)
    data = data_of(config)
    assert ("m4" in {name for name, _ in data.skipped}) and len(data.molecules) == 66
    assert any("m4" in line for line in settle(config)[1])
