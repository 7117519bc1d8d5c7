"""What preparing settles before a run: classes, outputs, sizes, and which settings contradict."""

import numpy as np
import pytest
import torch

from isoform.core.engine.train import train
from isoform.core.errors import UserError
from isoform.core.runs.folder import RunFolder
from isoform.vision import DOMAIN
from isoform.vision.prepare import prepare

from .pictures import app
from .pictures import task as task_of
from .tasks import batch, folder_app, table_app


def test_preparing_is_final_and_travels(folder):
    prepared = prepare(folder_app(folder))
    config, notes = prepared.config, prepared.notes
    assert config.data.classes == ("<script>alert(1)<", "cat", "dog") and config.head.outputs == 3
    assert len(config.data.mean) == len(config.data.std) == 3 and any(
        "49" in n or "3 classes" in n for n in notes
    )
    again = prepare(config)
    assert (
        again.config == config and [note for note in again.notes if "3 classes" not in note] == []
    )
    from isoform.core.config import dump_toml  # what a run keeps must say the same again

    assert "classes" in dump_toml(config)


def test_wrong_number_of_outputs(folder):
    with pytest.raises(UserError, match=r"head.outputs = 5.*3 classes"):
        prepare(folder_app(folder, head={"outputs": 5}))


def test_label_smoothing_of_numbers_is_switched_off_and_said(tmp_path):
    config = table_app(tmp_path, ["x"], [[i] for i in range(20)], data={"task": "regression", "labels": ["x"]},
                       loss={"label_smoothing": 0.1})  # fmt: skip
    prepared = prepare(config)
    assert prepared.config.loss.label_smoothing == 0 and any(
        "label_smoothing" in note for note in prepared.notes
    )
    wrong = config.model_copy(update={"loss": config.loss.model_copy(update={"kind": "ce"})})
    with pytest.raises(UserError, match=r"loss\.kind = ce does not fit data\.task = regression"):
        prepare(wrong)
    assert "does not fit" in DOMAIN.check(wrong).refusal


def test_many_channels_and_sixteen_bits(tmp_path):
    rng = np.random.default_rng(0)
    for k, name in enumerate(("a", "b")):
        (tmp_path / "own" / name).mkdir(parents=True)
        for i in range(10):
            array = rng.integers(0, 30000, (9, 11, 5), dtype=np.uint16) + np.uint16(30000 * k)
            np.save(tmp_path / "own" / name / f"{i}.npy", array)
    config = folder_app(tmp_path / "own", auto=True).model_dump(exclude_unset=True)
    del config["tokeniser"]
    assert prepare(type(app()).model_validate(config)).config.tokeniser.channels == 5
    task = task_of(
        folder_app(tmp_path / "own", tokeniser={"channels": 5}, augment={"degrees": 5, "flip": 0.5})
    )
    assert task.data.held.resident.dtype == torch.float32 and batch(task, seed=1)[
        "image"
    ].shape == (5, 5, 8, 8)


def test_auto_chooses_from_the_data_and_keeps_what_is_set(folder):
    config = folder_app(folder, auto=True, train={"epochs": "auto"}).model_dump(exclude_unset=True)
    del config["tokeniser"], config["backbone"]
    config["backbone"] = {"depth": 3}
    prepared = prepare(type(app()).model_validate(config))
    chosen, notes = prepared.config, prepared.notes
    assert (
        chosen.tokeniser.image == 12
        and chosen.tokeniser.patch == 4
        and chosen.tokeniser.channels == 3
    )
    assert (chosen.backbone.dim, chosen.backbone.depth) == (96, 3)
    assert chosen.train.epochs == 200 and chosen.train.patience == 50 and chosen.train.batch == 5
    assert "3 blocks of 96 features" in notes[0] and "pretrained" in notes[-1]
    again = prepare(chosen)
    assert again.config == chosen and len(again.notes) == 1 and "3 classes" in again.notes[0]


def test_auto_takes_the_model_of_the_run_it_starts_from(folder, tmp_path):
    first = task_of(
        folder_app(folder, tokeniser={"registers": 2}, data={"mean": [0.5], "std": [0.25]})
    )
    train(first, RunFolder(tmp_path / "first"), progress=False)
    config = folder_app(folder, auto=True, train={"init": str(tmp_path / "first")}).model_dump(
        exclude_unset=True
    )
    del config["tokeniser"], config["backbone"]
    prepared = prepare(type(app()).model_validate(config))
    chosen, notes = prepared.config, prepared.notes
    assert (
        chosen.tokeniser.registers == 2 and chosen.backbone.dim == 12 and chosen.data.mean == (0.5,)
    )
    assert not any("pretrained" in note for note in notes)
    task = task_of(chosen)
    model = task.build()
    from isoform.core.engine import warm_start

    lines = warm_start.load_into(
        task, model, warm_start.initial_weights(task, str(tmp_path / "first"))
    )
    assert "tensors from vision/test" in lines[0] and len(lines) == 1


def test_contradicting_tables_are_the_users_mistake(folder):
    with pytest.raises(UserError, match="tiled by patches"):
        task_of(folder_app(folder, tokeniser={"image": 9})).build()
    with pytest.raises(UserError, match=r"data\.std"):
        task_of(folder_app(folder, data={"mean": [0.5], "std": [0.0]}))
    with pytest.raises(UserError, match="2 values"):
        task_of(folder_app(folder, data={"mean": [0.5, 0.5], "std": [0.1]}))
