"""Predictions and features of files, and which files are meant."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from isoform.core.domain import TrainedModel
from isoform.core.errors import UserError
from isoform.vision.models import build_model
from isoform.vision.predictor import VisionPredictor, expand_inputs
from isoform.vision.state import VisionState

from .pictures import task as task_of
from .tasks import batch, folder_app


def test_predictions_from_files_equal_those_of_the_task(folder, tmp_path):
    task = task_of(folder_app(folder, data={"crop_pct": 0.9}))
    model = task.build().eval()
    nn.init.normal_(model.head.linear.weight)
    with torch.no_grad():
        expected = task.predict(model, batch(task, "test", 4))["logits"].softmax(1)
    state = VisionState.model_validate_json(json.dumps(task.inference_state().to_json()))
    predictor = VisionPredictor(
        TrainedModel(task.config, state, build_model(task.config), tmp_path, 0)
    )
    predictor.model.load_state_dict(model.state_dict())
    files = [folder / task.data.records.images.names[row] for row in task.data.rows["test"][:4]]
    rows = predictor.predict([*files[:2], folder / "none.png", *files[2:]])
    assert [row["input"] for row in rows] == [
        str(p) for p in (*files[:2], folder / "none.png", *files[2:])
    ]
    assert "no such file" in rows[2]["error"] and rows[2]["prediction"] is None
    good = [row for row in rows if not row["error"]]
    for row, p in zip(good, expected, strict=True):
        assert row["prediction"] == task.classes[int(p.argmax())]
        assert [row[f"p {name}"] for name in task.classes] == pytest.approx(p.tolist(), abs=1e-5)
        assert 0 <= row["uncertainty"] <= 1
    with pytest.warns(UserWarning, match="no such file"):
        features = predictor.embed([files[0], "none.png"])
    assert (
        features.shape == (2, 12) and np.isfinite(features[0]).all() and np.isnan(features[1]).all()
    )
    with pytest.raises(UserError, match="no such file"):
        predictor.embed(["none.png"])
    assert predictor.predict(str(files[0])) == predictor.predict([files[0]])
    np.testing.assert_array_equal(predictor.embed(files[0].read_bytes()), features[:1])
    (row,) = predictor.predict(pd.DataFrame({"path": [str(files[0])]}))
    assert "not DataFrame" in row["error"]


def test_inputs_of_the_command_line(folder, tmp_path):
    (tmp_path / "list.txt").write_text("a.png\n\n b.png \n")
    found = expand_inputs([str(folder / "cat"), str(tmp_path / "list.txt"), "none.png"])
    assert len(found) == 17 + 3 and found[-3:] == ["a.png", "b.png", "none.png"]
