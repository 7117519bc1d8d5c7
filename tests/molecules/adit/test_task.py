"""Both stages through the engine: what an epoch is, what a batch holds, and a run that is killed and goes on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import isoform
from isoform.core.config import resolve_app
from isoform.core.errors import UserError
from isoform.core.inference.run_model import evaluate_run
from isoform.core.runs.folder import RunFolder
from isoform.molecules import DOMAIN
from isoform.molecules.adit.collate import batch_of, corrupted, make_sample, systems_of
from isoform.molecules.adit.config import SystemAugmentConfig
from isoform.molecules.adit.judged import metrics_of
from isoform.molecules.adit.prepare import prepare
from isoform.molecules.adit.sampling.records import judge
from isoform.molecules.adit.task import AutoencoderTask, DenoiserTask, make_task, task_from_run
from isoform.molecules.generation.reconstruction import rmsd
from isoform.molecules.generation.score import score
from isoform.molecules.systems.augment import rotated, translated
from isoform.molecules.systems.system import Records, System, Unread
from isoform.molecules.systems.write import write_systems
from killed import last, run_and_die
from small_systems import relaxed, repeated_cell, salt, triclinic

SMILES = ("C", "CC", "CO", "C=O", "N", "CCO", "CC=O", "CN", "COC", "C#N", "CF", "CCN", "O", "CCC")
CRYSTALS = tuple(triclinic(1 + k / 37) for k in range(7)) + tuple(
    salt(5.1 + k / 11) for k in range(6)
)


def files(folder: Path) -> Path:
    """13 crystals and 17 molecules in one file."""
    folder.mkdir(parents=True, exist_ok=True)
    systems = [*map(relaxed, SMILES), *CRYSTALS]
    write_systems(systems, folder / "systems.extxyz")
    return folder / "systems.extxyz"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return files(tmp_path_factory.mktemp("systems"))


def settings(data: Path, **more: Any) -> dict[str, Any]:
    found = {
        "data.source": ["file"],
        "data.path": str(data),
        "data.epoch": None,
        "data.judged": None,
        "data.val_fraction": 0.2,
        "data.test_fraction": 0.2,
        "train.batch": 3,
        "train.log_every": 1,
        "train.checkpoint_every": 2,
        "eval.samples": 5,
        "sampling.steps": 3,
    }
    return {**found, **more}


def task_of(name: str, data: Path, **more: Any) -> AutoencoderTask | DenoiserTask:
    config = resolve_app(name, domain=DOMAIN, settings=settings(data, **more))
    return make_task(prepare(config))


def test_a_second_stage_needs_the_first(data: Path) -> None:
    with pytest.raises(UserError, match="train adit-tiny-vae first"):
        task_of("adit-tiny", data)


def test_both_stages_train_and_what_is_generated_is_judged(data: Path, tmp_path: Path) -> None:
    first = isoform.train(
        "molecules/adit-tiny-vae", settings(data), run_dir=tmp_path / "vae", progress=False
    )
    metrics = RunFolder(first.folder).results()["metrics"]["test"]
    assert {"loss", "types", "rmsd", "crystal_types", "crystal_displacement"} <= metrics.keys()
    assert "mean_atom" in RunFolder(first.folder).results()["baselines"]
    told = settings(data, **{"train.init": str(first.folder)})
    second = isoform.train("molecules/adit-tiny", told, run_dir=tmp_path / "both", progress=False)
    results = RunFolder(second.folder).results()
    assert "loss" in results["metrics"]["test"]
    told = json.loads((second.folder / "generated.metrics.json").read_text())
    assert told.keys() == {"molecule", "crystal"}
    for kind in told.values():
        assert list(kind["rows"]) == ["generated", "training data", "shuffled atoms"]
        assert kind["rows"]["generated"]["valid"]["generated"] in (2, 3)
    before = RunFolder(first.folder).load_weights("best")
    after = RunFolder(second.folder).load_weights("best")
    assert all(after[f"autoencoder.{name}"].equal(value) for name, value in before.items())
    counts = RunFolder(second.folder).read_json("task.json")["generative"]["counts"]
    assert counts.keys() == {"molecule", "crystal"}
    assert sum(counts["crystal"].values()) + sum(counts["molecule"].values()) == 18


def test_an_epoch_holds_the_shares_that_are_asked_for(data: Path) -> None:
    more = {"data.source": ["file", "prototypes"], "data.shares": [1.0, 3.0], "data.epoch": 48}
    task = task_of("adit-tiny-vae", data, **more)
    batches = task.batches("train", 5, np.random.default_rng(3))
    drawn = [index for batch in batches for index in batch]
    sources = task.data.source[task.data.rows["train"]][drawn]
    assert np.bincount(sources).tolist() == [12, 36]
    assert [len(batch) for batch in batches] == [5] * 9 + [3]
    assert drawn != [
        index for batch in task.batches("train", 5, np.random.default_rng(4)) for index in batch
    ]
    # what comes round twice does so after all the others
    few = task_of("adit-tiny-vae", data, **{"data.epoch": 41})
    counts = np.bincount([i for b in few.batches("train", 7, np.random.default_rng(0)) for i in b])
    assert len(counts) == 18 and counts.min() == 2 and counts.max() == 3


def test_validation_is_whole_and_ordered(data: Path) -> None:
    task = task_of("adit-tiny-vae", data)
    drawn = [index for batch in task.batches("val", 2, None) for index in batch]
    assert sorted(drawn) == list(range(task.sizes()["val"]))


@pytest.mark.parametrize("system", [relaxed("CCO"), triclinic()])
def test_a_changed_sample_is_the_same_system(system: System) -> None:
    config = SystemAugmentConfig(rotate=True, shift=2.0, hidden=0.3, moved=0.4, distance=0.05)
    sample = make_sample(system, 11, config, np.random.default_rng(5))
    assert sample.truth.numbers.tolist() == system.numbers.tolist()
    if system.lattice is None:
        assert rmsd(sample.truth.positions, system.positions) < 1e-6
    else:
        assert sample.truth.cell() == pytest.approx(system.cell())
    assert np.abs(sample.truth.positions - system.positions).max() > 0.5
    plain = make_sample(system, 11, config, None)
    assert plain.told is plain.truth


def test_what_is_hidden_and_moved_is_a_share() -> None:
    system = repeated_cell(salt(), (3, 3, 3))
    config = SystemAugmentConfig(hidden=0.3, moved=0.2, distance=0.1)
    told = corrupted(system, config, np.random.default_rng(1))
    assert 0.2 < (told.numbers == 0).mean() < 0.4
    gaps = np.linalg.norm(told.positions - system.positions, axis=1)
    assert 0.1 < (gaps > 0).mean() < 0.3 and gaps.max() < 0.7
    fractional = told.fractional - system.fractional
    fractional -= np.round(fractional)
    moved = fractional @ system.lattice
    assert np.allclose(np.linalg.norm(moved, axis=1), gaps)


def test_systems_come_back_from_a_batch_as_they_were() -> None:
    systems = [relaxed("CO"), triclinic(), salt()]
    batch = batch_of(systems)
    back = systems_of(batch, [one.name for one in systems])
    for one, other in zip(systems, back, strict=True):
        assert one.numbers.tolist() == other.numbers.tolist() and one.kind == other.kind
        if one.fractional is None:
            assert np.allclose(one.positions, other.positions, atol=1e-5)
        else:
            assert np.allclose(one.fractional, other.fractional, atol=1e-6)
            assert one.cell() == pytest.approx(other.cell(), rel=1e-5)


def test_a_lattice_that_closes_no_cell_is_flat() -> None:
    batch = batch_of([triclinic()])
    batch["angles"] = torch.tensor([[170.0, 100.0, 20.0]])
    assert systems_of(batch, ["x"])[0].volume == 0


def test_a_systems_evaluation_is_its_own(data: Path) -> None:
    """The loss of a test system doesn't depend on its batch mates, and is the same each time."""
    task = task_of("adit-tiny", data, **{"train.init": "somewhere", "eval.samples": 0})
    torch.manual_seed(3)
    model = task.build().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.2)
        one = [task.sample("test", k, None) for k in range(task.sizes()["test"])]
        together = task.predict(model, task.collate(one))["loss"]
        alone = torch.cat([task.predict(model, task.collate([each]))["loss"] for each in one])
    assert torch.allclose(together, alone, rtol=1e-4)


def test_a_moved_and_turned_molecule_is_told_as_the_same_atoms(data: Path) -> None:
    """Evaluation centres a molecule, so that a shift alone changes nothing."""
    task = task_of("adit-tiny-vae", data)
    one = relaxed("CCO")
    far = translated(one, np.array([3.0, -5.0, 7.0]))
    told = [make_sample(each, 0, task.config.augment, None).told for each in (one, far)]
    assert np.allclose(told[0].positions, told[1].positions)
    turned = rotated(one, np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]))
    assert rmsd(turned.positions, one.positions) < 1e-6


@pytest.mark.parametrize("app", ["adit-tiny-vae", "adit-tiny"])
def test_a_killed_run_goes_on_bit_for_bit(app: str, data: Path, tmp_path: Path) -> None:
    told = settings(data, **{"eval.baselines": [], "eval.samples": 2})
    if app == "adit-tiny":
        first = isoform.train(
            "molecules/adit-tiny-vae", told, run_dir=tmp_path / "vae", progress=False
        )
        told["train.init"] = str(first.folder)
    whole = isoform.train(f"molecules/{app}", told, run_dir=tmp_path / "whole", progress=False)
    torn = tmp_path / "torn"
    run_and_die(f"molecules/{app}", told, torn, 3)
    isoform.train(f"molecules/{app}", told, run_dir=torn, resume=True, progress=False)
    ends = [last(folder) for folder in (whole.folder, torn)]
    for one, two in zip(*ends, strict=True):
        assert one.keys() == two.keys() and all(one[name].equal(two[name]) for name in one)
    metrics = [RunFolder(folder).results()["metrics"] for folder in (whole.folder, torn)]
    assert metrics[0] == metrics[1]


def test_an_evaluation_keeps_the_split_of_systems_that_have_one_name(tmp_path: Path) -> None:
    """A file that grew at its front: nothing of train is judged, and what is new is in no split."""
    systems = [*map(relaxed, SMILES), *CRYSTALS]
    path = tmp_path / "systems.extxyz"
    write_systems([replace(one, name="made") for one in systems], path)
    task = task_of("adit-tiny-vae", path)
    state = task.inference_state().model_copy(update={"kept": task.kept_split()})
    new = [triclinic(2 + k / 41) for k in range(4)]
    write_systems([replace(one, name="made") for one in [*new, *systems]], path)
    later = task_from_run(task.config, state, None)
    assert later.sizes() == task.sizes()
    for split in task.sizes():
        assert np.array_equal(later.digests(split), task.digests(split))


def test_what_came_out_as_no_system_counts_against_a_run_s_shares() -> None:
    """Two molecules and two of no element: half are valid, as `sample` marks them; what there is is unique."""
    pytest.importorskip("posebusters")
    unread = [
        Unread("third", "1 atom of no known element"),
        Unread("fourth", "of no known element"),
    ]
    made = [relaxed("CO"), relaxed("CCO"), *unread]
    scores = {"molecule": score(Records(made), "molecule", [relaxed("O")])}
    assert str(scores["molecule"].rows["generated"]["valid"]) == "1 (2/2/4)"
    found = metrics_of(scores)
    for name in ("valid", "connected", "valid_unique_novel", "molecule_stable_strict"):
        assert found[name] == 0.5, name
    assert found["posebusters"] == 0.5 and found["unique"] == found["novel"] == 1
    assert [judge(one).valid for one in made].count(True) == 2
    nothing = metrics_of({"molecule": score(Records(unread), "molecule")})
    assert nothing["valid"] == 0 and "unique" not in nothing


def test_systems_that_were_trained_on_are_judged_apart(tmp_path: Path) -> None:
    """17 molecules of which test's second half trains too: the other half's metrics are those of it alone."""
    systems = [relaxed(smiles) for smiles in SMILES]
    test = [*systems[:3], *systems[-2:]]
    for split, own in (("train", systems[3:]), ("val", systems[4:7]), ("test", test)):
        write_systems(own, tmp_path / f"{split}.extxyz")
    leaking = {"data.split": "official", "data.allow_leakage": True}
    ask = settings(tmp_path, **leaking, **{"eval.batch": 4})
    first = isoform.train("molecules/adit-tiny-vae", ask, run_dir=tmp_path / "vae", progress=False)
    ask |= {"train.init": str(first.folder)}
    both = isoform.train("molecules/adit-tiny", ask, run_dir=tmp_path / "both", progress=False)
    write_systems(systems[:3], tmp_path / "new.extxyz")
    for run in (first, both):
        results = RunFolder(run.folder).results()
        unseen = results["unseen"]
        assert (unseen["samples"], unseen["known"]) == (5, 2)
        assert unseen["metrics"].keys() <= results["metrics"]["test"].keys()
    alone = evaluate_run(DOMAIN, first.folder, data=tmp_path / "new.extxyz", out=tmp_path)
    unseen = RunFolder(first.folder).results()["unseen"]["metrics"]
    assert unseen == pytest.approx(alone["metrics"], rel=1e-5) and "rmsd" in unseen
    told = json.loads((both.folder / "generated.metrics.json").read_text())
    assert told["molecule"]["rows"]["generated"]["valid"]["generated"] == 5


def test_other_data_are_judged_whole(tmp_path: Path) -> None:
    """data.judged bounds a run's own validation and test, not a file that is to be judged."""
    write_systems([triclinic(1 + k / 97) for k in range(41)], tmp_path / "all.extxyz")
    task = task_of("adit-tiny-vae", tmp_path / "all.extxyz", **{"data.judged": 3})
    assert task.sizes()["test"] == 3
    other = task_from_run(task.config, task.inference_state(), tmp_path / "all.extxyz")
    assert other.sizes() == {"test": 41}
