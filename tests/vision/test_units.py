"""Images whose values are in a unit of their own, from file to prediction."""

import json

import numpy as np
import pytest
import tifffile
import torch
import torch.nn.functional as F
from pydantic import ValidationError

from isoform.core.baselines import QUIET
from isoform.core.domain import TrainedModel
from isoform.core.errors import UserError
from isoform.vision import DOMAIN
from isoform.vision.config import AugmentConfig
from isoform.vision.data.check import check, png
from isoform.vision.data.randaugment import OPERATIONS, RandAugment
from isoform.vision.data.transforms import Augment, Preprocess, jitter
from isoform.vision.data.values import Span, describe_inputs, far_images, measure
from isoform.vision.data.warp import Warp
from isoform.vision.export import write_timm
from isoform.vision.figures import picture, show
from isoform.vision.predictor import VisionPredictor
from isoform.vision.prepare import prepare
from isoform.vision.state import VisionState

from .pictures import app
from .pictures import task as task_of

HOUNSFIELD = (-1000.0, 600.0)


def blobs(
    root,
    low,
    high,
    *,
    n=12,
    size=(19, 23),
    dtype=np.float32,
    seed=0,
    parts=("train", "val", "test"),
):
    """root/PART/faint|strong/*.tif: noise from `low`, with a spot of a fifth or all of the way to `high`."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]]
    for part in parts:
        for name, share in (("faint", 0.2), ("strong", 1.0)):
            (root / part / name).mkdir(parents=True, exist_ok=True)
            for i in range(n if part == "train" else 5):
                cy, cx = rng.uniform(6, 13, 2)
                spot = np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 20)
                unit = 0.02 * rng.random(size) + 0.9 * share * spot
                image = (low + (high - low) * unit).astype(dtype)
                tifffile.imwrite(root / part / name / f"{i}.tif", image)
    return root


def own(root, **tables):
    tables["tokeniser"] = {"image": 16, "patch": 8, "channels": 1, **tables.get("tokeniser", {})}
    return app(**{**tables, "data": {"root": str(root), **tables.get("data", {})}})


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    return blobs(tmp_path_factory.mktemp("scans"), *HOUNSFIELD)


def preprocess(low, high, channels=1, size=(19, 23), **more):
    return Preprocess(
        size=size, channels=channels, lowest=(low,) * channels, highest=(high,) * channels, **more
    )


def rng(*key):
    return np.random.default_rng(key)


# Augmentation ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("low, high", [(-1000, 3000), (0, 4095 / 65535), (2e-7, 9e-6)])
def test_jitter_keeps_as_many_levels_as_there_are(low, high, known):
    image = torch.linspace(low, high, 19 * 23)[torch.randperm(19 * 23)].reshape(1, 19, 23)
    p = preprocess(low, high) if known else Preprocess(size=(19, 23), channels=1)
    augment = Augment(AugmentConfig(jitter=0.2), p)
    for seed in range(7):
        changed = augment.pixels(image, rng(seed))
        assert len(changed.unique()) == len(image.unique())
        assert not torch.equal(changed, image)
        room = 0.5 * (high - low)
        assert changed.min() > low - room and changed.max() < high + room


@pytest.mark.parametrize("hue", [0.0, 0.2])
def test_jitter_of_floats_is_that_of_eight_bits(hue):
    image = (torch.rand(3, 11, 13, generator=torch.Generator().manual_seed(0)) * 120 + 60).round()
    for seed in range(5):
        whole = jitter(image.to(torch.uint8), 0.2, hue, rng(seed)).float()
        assert (jitter(image / 255, 0.2, hue, rng(seed)) * 255 - whole).abs().max() < 6


def test_hue_loses_nothing_outside_of_the_range():
    image = torch.tensor([-1.0, 0.5, 3.0]).reshape(3, 1, 1).expand(3, 5, 7)
    assert torch.allclose(jitter(image, 0.0, 1e-9, rng(0)), image, atol=1e-5)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("channels", [1, 3])
def test_randaugment_of_floats_is_that_of_eight_bits(operation, channels):
    image = torch.rand(channels, 127, 131, generator=torch.Generator().manual_seed(1)) * 200 + 20
    image = image.round()
    made = RandAugment(increasing=True)
    whole = made._apply(operation, image.to(torch.uint8), 0.4, -1.0).float()
    floats = made._apply(operation, image / 255, 0.4, -1.0) * 255
    near = {"equalize": 4, "posterize": 32}.get(operation, 2.1)
    assert (floats - whole).abs().max() < near


@pytest.mark.parametrize("operation", OPERATIONS)
def test_randaugment_stays_in_the_images_own_range(operation):
    image = torch.linspace(*HOUNSFIELD, 19 * 23).reshape(1, 19, 23)
    span = preprocess(*HOUNSFIELD).span
    changed = span.from_unit(RandAugment()._apply(operation, span.to_unit(image), 0.5, 1.0))
    assert changed.min() >= HOUNSFIELD[0] - 1 and changed.max() <= HOUNSFIELD[1] + 1
    assert len(changed.unique()) > (3 if operation == "posterize" else 100)


def test_the_fill_is_a_share_of_the_range():
    image = torch.full((1, 2, 19, 23), 100.0)
    for share, values in ((0.0, (-1000.0, 20.0)), (1.0, (600.0, 60.0)), (0.5, (-200.0, 40.0))):
        p = Preprocess(size=(19, 23), channels=2, lowest=(-1000.0, 20.0), highest=(600.0, 60.0))
        warp = Warp(AugmentConfig(crop="pad", pad=7, fill=share), p.size, p.span)
        out = warp(image, torch.from_numpy(warp.draw(rng(3)))[None])[0]
        for plane, value in zip(out, values, strict=True):
            assert {round(v, 3) for v in plane.unique().tolist()} == {100.0, value}


def test_padding_is_black_in_the_images_own_unit():
    image = torch.rand(2, 5, 23) * 50 + torch.tensor([-1000.0, 300.0])[:, None, None]
    p = Preprocess(size=(23, 23), channels=2, resize="pad")
    padded = p.fit(image)
    assert torch.equal(padded[:, 0, 0], image.amin((1, 2)))
    assert torch.equal(padded[:, 9:14], image)
    eight = Preprocess(size=(23, 23), channels=2, resize="pad").fit(
        torch.full((2, 5, 23), 9, dtype=torch.uint8)
    )
    assert eight[:, 0].unique().tolist() == [0]


# A run knows its range ------------------------------------------------------------------------------------------------


def test_a_run_keeps_the_range_of_its_training_images(scans):
    prepared = prepare(own(scans))
    data = prepared.config.data
    low = min(tifffile.imread(path).min() for path in (scans / "train").rglob("*.tif"))
    assert len(data.lowest) == len(data.highest) == 1
    assert abs(data.lowest[0] - low) < 60 and 200 < data.highest[0] < 600
    assert data.std[0] > 30 and any(
        "training images: -" in note and "data.scale" in note for note in prepared.notes
    )
    again = prepare(prepared.config)
    assert again.config == prepared.config and not any("values" in note for note in again.notes)
    state = json.loads(json.dumps(DOMAIN.task(prepared).inference_state().to_json()))
    assert state["preprocessing"]["lowest"] == list(data.lowest)
    assert state["preprocessing"]["highest"] == list(data.highest)


def test_a_range_by_channel(tmp_path):
    for k, name in enumerate("ab"):
        (tmp_path / name).mkdir()
        for i in range(12):
            array = np.random.default_rng((k, i)).random((19, 23, 2)).astype(np.float32)
            array[..., 1] = 300 + 10 * array[..., 1]
            np.save(tmp_path / name / f"{i}.npy", array)
    data = prepare(own(tmp_path, tokeniser={"channels": 2})).config.data
    assert -0.2 < data.lowest[0] < 0.3 and 0.7 < data.highest[0] < 1.2
    assert 299 < data.lowest[1] < 303 and 307 < data.highest[1] < 311


def test_the_range_of_eight_bits_is_that_of_their_type():
    images = [
        ("a", torch.full((3, 5, 7), 90, dtype=torch.uint8)),
        ("b", torch.ones(3, 5, 7).byte()),
    ]
    found = measure(images)
    assert found.lowest == (0.0,) * 3 and found.highest == (1.0,) * 3


@pytest.mark.parametrize("low, high", [(2e-7, 9e-6), (0.0, 0.0039), (-1e5, 1e6)])
def test_small_and_large_units_are_standardised_alike(tmp_path, low, high):
    blobs(tmp_path, low, high, n=9)
    task = task_of(own(tmp_path))
    batch = task.collate([task.sample("train", i, None) for i in range(18)])["image"]
    assert abs(float(batch.mean())) < 0.05 and 0.9 < float(batch.std()) < 1.1
    found = {one.name: one.fit(QUIET) for one in task.baselines()}
    assert found["logistic"]["test"]["top1"] == found["knn"]["test"]["top1"] == 1


def test_given_means_of_another_unit_are_said(scans):
    prepared = prepare(own(scans, data={"mean": [0.5], "std": [0.25]}))
    assert any("data.std is 0.25" in note and "another unit" in note for note in prepared.notes)
    fits = prepare(own(scans, data={"mean": [-800.0], "std": [200.0]}))
    assert not any("another unit" in note for note in fits.notes)


def test_a_window_beside_the_values_is_said(scans):
    beside = prepare(own(scans, data={"window": [5000.0, 9000.0]}))
    assert any("leaves hardly anything" in note for note in beside.notes)
    within = prepare(own(scans, data={"window": [-900.0, 100.0]}))
    assert not any("leaves hardly anything" in note for note in within.notes)


def test_bits_that_are_not_used_are_said(tmp_path):
    blobs(tmp_path, 0, 4095, n=5, dtype=np.uint16)
    notes = " ".join(prepare(own(tmp_path)).notes)
    assert "12 bits" in notes and "data.scale = 4095" in notes
    scaled = prepare(own(tmp_path, data={"scale": 4095}))
    assert 0.8 < scaled.config.data.highest[0] < 1.05
    assert any("divided by data.scale = 4095" in note for note in scaled.notes)


def test_with_jitter_a_run_learns_what_a_logistic_regression_learns(tmp_path):
    from isoform.core.engine.train import train
    from isoform.core.runs.folder import RunFolder

    root = blobs(tmp_path / "d", 40, 640, n=40)
    task = task_of(
        own(
            root, augment={"jitter": 0.2}, train={"epochs": 8, "batch": 16, "warmup": 0, "lr": 3e-3}
        )
    )
    train(task, RunFolder(tmp_path / "run"), progress=False)
    found = json.loads((tmp_path / "run" / "results.json").read_text())
    assert found["metrics"]["test"]["top1"] >= found["baselines"]["logistic"]["test"]["top1"] == 1


# Window and scale -----------------------------------------------------------------------------------------------------


def predictor(task, **state):
    torch.manual_seed(0)
    trained = TrainedModel(task.config, task.inference_state(), task.build().eval(), None, 0)
    return VisionPredictor(trained)


@pytest.mark.parametrize(
    "data", [{"window": [-900.0, 100.0]}, {"scale": 1000.0}, {"resize": "pad"}, {}]
)
def test_predictions_from_files_are_those_of_the_task(scans, data):
    task = task_of(own(scans, data=data))
    model = predictor(task)
    rows = task.data.rows["test"]
    files = [str(task.data.records.images.path(row)) for row in rows]
    batch = task.collate([task.sample("test", i, None) for i in range(len(rows))])
    ((_, read),) = model.batches(files, {})
    assert torch.equal(read, batch["image"])
    if "window" in data:
        raw = task.data.fitted(int(rows[0]))
        assert raw.min() >= -0.1 and raw.max() <= 1.1
        assert task.config.data.lowest == (0.0,) and task.config.data.highest == (1.0,)
        assert "-900 to 100" in task.card()["preprocessing"]


def test_a_window_travels_with_the_run(scans):
    state = task_of(own(scans, data={"window": [-900.0, 100.0]})).inference_state()
    again = VisionState.model_validate_json(json.dumps(state.to_json()))
    assert again.preprocessing.window == (-900.0, 100.0)
    assert Preprocess(**dict(again.preprocessing)).reading.window == (-900.0, 100.0)


def test_an_export_names_the_window_or_is_refused(scans, tmp_path):
    task = task_of(own(scans, data={"window": [-900.0, 100.0]}))
    trained = TrainedModel(task.config, task.inference_state(), task.build(), tmp_path, 0)
    facts = DOMAIN.graph(trained).facts
    assert facts["preprocessing"]["window"] == [-900.0, 100.0]
    with pytest.raises(UserError, match=r"no data\.window"):
        write_timm(trained, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "data",
    [{"window": [3, 3]}, {"window": [5, 1]}, {"scale": 0}, {"page": 0}, {"layout": "sideways"}],
)
def test_impossible_keys_are_refused(data):
    with pytest.raises(ValidationError):
        app(data=data)


def test_keys_that_contradict_each_other(scans):
    with pytest.raises(UserError, match=r"data.window and data.scale"):
        prepare(own(scans, data={"window": [0.0, 1.0], "scale": 2.0}))
    with pytest.raises(UserError, match="are for files of images"):
        prepare(own(scans, data={"source": "mnist5k", "root": None, "window": [0.0, 1.0]}))


# Said -----------------------------------------------------------------------------------------------------------------


def test_one_wild_image_is_named(tmp_path):
    blobs(tmp_path, *HOUNSFIELD, n=11)
    wild = tmp_path / "train" / "faint" / "3.tif"
    tifffile.imwrite(wild, tifffile.imread(wild) * 50)
    report = check(own(tmp_path))
    assert [line.split(":")[0] for line in report.data["far_values"]] == ["train/faint/3.tif"]
    text = "\n".join(report.lines)
    assert "values far from those of the other images: 1" in text and "train/faint/3.tif" in text
    notes = [note for note in prepare(own(tmp_path)).notes if "far from" in note]
    assert len(notes) == 1 and "train/faint/3.tif" in notes[0] and "data.window" in notes[0]


def test_ordinary_images_are_not_wild(scans):
    report = check(own(scans))
    assert report.data["far_values"] == [] and report.data["values"][0] < -900
    assert any(line.startswith("values: -") for line in report.lines)


def test_far_images():
    low = rng(0).normal(-1000, 20, (40, 2))
    high = rng(1).normal(3000, 300, (40, 2))
    assert far_images(low, high) == []
    high[7, 1] = 30000
    low[9, 0] = -20000
    low[11], high[11] = 0, 1  # an 8-bit image among them
    low[13] = high[13] = 0  # a blank one
    assert far_images(low, high) == [7, 9, 11]
    spread = 10 ** rng(2).uniform(1, 4, (40, 1))  # brightness that differs by a thousand
    assert len(far_images(np.zeros((40, 1)), spread)) <= 6
    assert far_images(low[:2], high[:2]) == []


def test_predict_warns_of_another_unit(scans):
    task = task_of(own(scans))
    model = predictor(task)
    inside = str(next((scans / "test" / "faint").iterdir()))
    model.predict([inside])
    assert model.remarks([]) == []
    wild = np.full((19, 23), 9000, np.float32)
    model.predict([inside, wild])
    (said,) = model.remarks([])
    assert "1 of 2 images" in said and "9000" in said and "same unit" in said
    model.predict([np.random.default_rng(0).integers(0, 255, (19, 23), dtype=np.uint8)])
    (said,) = model.remarks([])
    assert "0 to 1" in said and "same unit" in said
    assert model.remarks([]) == []


def test_eight_bit_runs_warn_of_floats_beyond_one():
    assert describe_inputs(np.zeros((3, 1)), np.full((3, 1), 255.0), (0.0,), (1.0,))
    assert describe_inputs(np.zeros((3, 1)), np.ones((3, 1)), (0.0,), (1.0,)) == []
    blank = np.full((1, 1), 0.5)
    assert describe_inputs(blank, blank, (0.0,), (1.0,)) == []


# Elsewhere ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("low, high", [(2e-7, 9e-6), HOUNSFIELD, (0, 600 / 65535)])
def test_duplicates_are_found_in_every_unit(tmp_path, low, high):
    for part in ("train", "val"):
        for k, name in enumerate("ab"):
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(7):
                coarse = rng(len(part), k, i).random((1, 1, 5, 7), dtype=np.float32)
                unit = F.interpolate(torch.from_numpy(coarse), (19, 23), mode="bilinear")[0, 0]
                image = (low + (high - low) * unit.numpy()).astype(np.float32)
                tifffile.imwrite(tmp_path / part / name / f"{i}.tif", image)
    assert check(own(tmp_path)).data["near_duplicates"] == []
    image = tifffile.imread(tmp_path / "train" / "b" / "2.tif")
    noise = rng(5).random(image.shape).astype(np.float32) * 0.002 * (high - low)
    tifffile.imwrite(tmp_path / "val" / "b" / "again.tif", (image + noise).astype(np.float32))
    report = check(own(tmp_path))
    assert report.data["near_duplicates"] == [["train/b/2.tif", "val/b/again.tif"]]
    assert report.leakage


@pytest.mark.parametrize("low, high", [(2e-7, 9e-6), HOUNSFIELD])
def test_pictures_show_the_whole_range(tmp_path, low, high):
    import base64
    import io

    from PIL import Image

    blobs(tmp_path, low, high, n=5)
    task = task_of(own(tmp_path))
    row = next(r for r in task.data.rows["train"] if "strong" in task.data.records.images.names[r])
    shown = picture(show(task.data.fitted(int(row)), task))
    assert shown.min() < 0.1 and shown.max() > 0.7
    read = task.data.records.images.read(int(row), None)
    page = np.asarray(Image.open(io.BytesIO(base64.b64decode(png(read)))))
    assert page.min() < 20 and page.max() > 220


def test_a_span_without_width():
    flat = torch.full((2, 5, 7), 3.0)
    span = Span.of(flat)
    assert torch.equal(span.to_unit(flat), torch.zeros(2, 5, 7))
    assert torch.equal(span.from_unit(span.to_unit(flat)), flat)


def test_an_auto_app_reads_bands_and_arrays(tmp_path):
    for k, name in enumerate("ab"):
        (tmp_path / name).mkdir()
        for i in range(12):
            array = rng(i, k).integers(0, 255, (5, 16, 20), dtype=np.uint8)
            np.save(tmp_path / name / f"{i}.npy", array)
    values = own(tmp_path, auto=True).model_dump(exclude_unset=True)
    del values["tokeniser"]
    prepared = prepare(type(app()).model_validate(values))
    assert prepared.config.tokeniser.channels == 5 and prepared.config.tokeniser.image == 16
    assert any("16 px images of 5 channel(s)" in note for note in prepared.notes)
    report = check(type(app()).model_validate(values))
    assert report.data["sizes"]["smallest"] == [16, 20] and report.data["channels"] == {"5": 24}
    assert any("5 channels of 16 x 20 pixels" in line for line in report.lines)
