"""A bad item keeps its place, in rows and in features; batches change nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from isoform.core.data.inputs import list_inputs
from isoform.core.errors import UserError
from isoform.core.inference.run_model import PredictorInPrecision
from isoform.core.supervised.predictor import SupervisedPredictor
from isoform.core.supervised.rows import rows_of


class Doubling(nn.Module):
    """Features [n, 3], twice their sum as the answer."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(2.0))

    def features(self, x):
        return x[:, None] + torch.arange(3)

    def forward(self, x):
        return self.features(x).sum(1, keepdim=True) * self.factor


class Numbers(SupervisedPredictor):
    """Items are numbers as text, two of them joined by `+`; short ones are batched first, as ragged samples are."""

    item = "number"

    def __init__(self, size: int) -> None:
        self.model, self.size = Doubling().eval(), size

    def expand(self, inputs):
        return [part for one in list_inputs(inputs) for part in str(one).split("+")]

    def batches(self, items, errors):
        good = []
        for i, item in enumerate(items):
            try:
                good.append((i, float(item)))
            except ValueError:
                errors[i] = "is no number"
        good.sort(key=lambda pair: len(items[pair[0]]))
        for start in range(0, len(good), self.size):
            part = good[start : start + self.size]
            yield [i for i, _ in part], torch.tensor([value for _, value in part])

    def run(self, function, batch):
        return function(batch.to(self.device))

    def make_rows(self, output, batch):
        made = rows_of("regression", ["y"], output)
        return [{"value": float(x), **row} for x, row in zip(batch, made, strict=True)]

    def describe_error(self, name, error):
        return f"{name}: {error}"


@pytest.mark.parametrize("size", [1, 2, 7])
def test_rows_stand_where_their_inputs_do(size: int) -> None:
    rows = Numbers(size).predict(["1", "100+x", "20"])
    assert [row["input"] for row in rows] == ["1", "100", "x", "20"]
    assert [list(row) for row in rows] == [["input", "value", "prediction", "error"]] * 4
    assert [row["prediction"] for row in rows] == [12, 606, None, 126]
    assert [row["error"] for row in rows] == ["", "", "is no number", ""]
    assert Numbers(size).predict(["x"]) == [{"input": "x", "error": "is no number"}]
    assert Numbers(size).predict([]) == []


@pytest.mark.parametrize("size", [1, 2, 7])
def test_features_stand_where_their_inputs_do(size: int) -> None:
    with pytest.warns(UserWarning, match=r"^x: is no number \(its features are NaN\)$") as warned:
        features = Numbers(size).embed(["1", "100+x", "20"])
    assert features.dtype == np.float32 and len(warned) == 1 and warned[0].filename == __file__
    np.testing.assert_array_equal(
        features, [[1, 2, 3], [100, 101, 102], [np.nan] * 3, [20, 21, 22]]
    )


def test_nothing_to_embed() -> None:
    with pytest.raises(UserError, match="x: is no number"):
        Numbers(3).embed(["x", "z"])
    with pytest.raises(UserError, match="there is no number to read"):
        Numbers(3).embed([])


def test_gradients_are_off() -> None:
    predictor = Numbers(3)
    seen = []
    predictor.model.register_forward_hook(
        lambda module, given, output: seen.append(output.requires_grad)
    )
    predictor.predict(["1"])
    assert seen == [False]


class Listener:
    """A speaker that remembers how far the work was when each batch was asked about."""

    def __init__(self) -> None:
        self.tracked: list[tuple[int, str]] = []
        self.passed = 0

    def track(self, parts, doing):
        self.tracked.append((len(parts), doing))
        for part in parts:
            yield part
            self.passed += 1


@pytest.mark.parametrize("count", [1, 30, 61])
def test_items_are_tracked_and_change_nothing(count: int) -> None:
    predictor, listener = PredictorInPrecision(Numbers(7), "fp32"), Listener()
    texts = [str(k) if k % 5 else "x" for k in range(count)] + ["2"]
    rows, features = predictor.predict(texts), predictor.inner.embed(["2"])
    predictor.speaker = listener
    assert predictor.predict(texts) == rows and len(rows) == count + 1
    assert [bool(row["error"]) for row in rows] == [not k % 5 for k in range(count)] + [False]
    np.testing.assert_array_equal(predictor.embed("2"), features)
    assert listener.tracked == [(count + 1, "predicting"), (1, "embedding")]
    assert listener.passed == count + 2


def test_progress_follows_the_batches() -> None:
    predictor, listener, seen = Numbers(7), Listener(), []
    predictor.speaker = listener
    make = predictor.make_rows
    predictor.make_rows = lambda output, batch: seen.append(listener.passed) or make(output, batch)
    predictor.predict([str(k) for k in range(23)])
    assert seen == [0, 6, 13, 20]  # a bar counts an item when the next one is begun


def test_features_can_read_less_than_the_model() -> None:
    class Light(Numbers):
        def feature_batches(self, items, errors):
            yield [0], torch.tensor([float(items[0])])

        def batches(self, items, errors):
            raise AssertionError("the whole model's batches")

    np.testing.assert_array_equal(Light(3).embed(["4"]), [[4, 5, 6]])
