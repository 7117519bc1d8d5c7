"""suspected_labels.csv: validation and test alone, without what is known from training."""

import numpy as np
import toy

from answers import rows_in
from isoform.core.data.digests import digests_of
from isoform.core.engine.suspects import describe_suspects, write_suspects
from isoform.core.engine.train import train
from isoform.core.report.page import write_report
from isoform.core.runs.folder import RunFolder
from isoform.core.supervised.suspects import suspect_classes

TWINS = {"val": 3, "test": 5}


class Labelled(toy.ToyTask):
    """The toy with suspects, and with a sample of validation and one of test that training has too."""

    has_labels = True

    def suspects(self, split, outputs):
        logits = outputs["logits"]
        guess = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        return [
            {"sample": row["sample"], "input": f"{split}-{row['sample']}", **row}
            for row in suspect_classes(self.names, guess, outputs["target"])
        ]

    def digests(self, split):
        names = [f"{split} {i}" for i in range(toy.SIZES[split])]
        if split in TWINS:
            names[TWINS[split]] = "train 0"
        return digests_of(names)[:, None]


def read(run):
    return rows_in(run.path / "suspected_labels.csv")


def outputs_of(task, wrong):
    """Answers that are all wrong by more the later a sample comes, of the samples of `wrong`; else right."""
    found = {}
    for split, samples in wrong.items():
        target = task.data[split][1]
        logits = np.eye(task.classes)[target] * 3.0
        for place, i in enumerate(samples):
            logits[i] = np.roll(logits[i], 1) * (1 + place / 7)
        found[split] = {"logits": logits, "target": target}
    return found


def test_the_file_ranks_both_splits_and_leaves_known_samples_out(tmp_path):
    task, run = Labelled(toy.app()), RunFolder(tmp_path)
    run.write_seen(np.unique(np.concatenate([task.digests("train"), task.digests("val")])))
    counts = write_suspects(task, run, outputs_of(task, {"val": [2, 3, 7], "test": [1, 5]}))
    assert counts == {"val": 2, "test": 1}, "val's own digests stand in seen.npz, and don't count"
    rows = read(run)
    assert [row["input"] for row in rows] == ["val-7", "val-2", "test-1"]
    assert list(rows[0]) == ["split", "input", "given", "p(given)", "suggested", "p(suggested)"]
    odds = [float(row["p(given)"]) for row in rows]
    assert odds == sorted(odds) and all(row["given"] != row["suggested"] for row in rows)
    assert "2 of val and 1 of test" in describe_suspects(counts)
    assert write_suspects(task, run, outputs_of(task, {"val": []})) == {}
    assert not (run.path / "suspected_labels.csv").exists()


def test_a_run_has_them_and_its_page_leads_there(tmp_path):
    said = []
    run = RunFolder(tmp_path / "run")
    results = train(Labelled(toy.app(epochs=1)), run, progress=False, say=said.append)
    counts = results["suspected_labels"]
    assert set(counts) <= {"val", "test"} and sum(counts.values()) == len(read(run)) > 0
    assert any("suspected_labels.csv" in line for line in said)
    page = (run.path / "report.html").read_text()
    assert 'href="suspected_labels.csv"' in page and "the least probable labels come first" in page
    beside = write_report([run.path], tmp_path / "x.html").read_text()
    assert 'href="run/suspected_labels.csv"' in beside


def test_a_task_without_labels_has_none(tmp_path):
    run = RunFolder(tmp_path / "run")
    results = train(toy.task(epochs=1), run, progress=False)
    assert (
        "suspected_labels" not in results
        and "improbable" not in (run.path / "report.html").read_text()
    )
