"""Small tables of molecules and small trained runs on them."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from isoform.core.engine.train import train
from isoform.core.runs.folder import RunFolder
from isoform.molecules import DOMAIN
from isoform.molecules.config import MoleculesApp
from isoform.molecules.prepare import prepare
from isoform.molecules.task import MoleculesTask
from seeds import train_group

from .batches import QM9
from .smiles import MOLECULES

TEXTS = tuple(dict.fromkeys([*QM9, *MOLECULES[:20]]))  # 67 molecules, none of them twice


def table(path: Path, task: str = "regression", rows: int = 67, **more: list[Any]) -> Path:
    """name, smiles, and a label that the number of carbons nearly decides; `more` columns as they are."""
    counts = [text.upper().count("C") for text in TEXTS[:rows]]
    labels = {
        "regression": [0.5 * count + 0.01 * (k % 7) for k, count in enumerate(counts)],
        "decades": [10 ** (0.5 * count + 0.01 * (k % 7)) for k, count in enumerate(counts)],
        "binary": [int(count > 5) for count in counts],
        "multiclass": ["few" if count < 4 else "some" if count < 7 else "many" for count in counts],
    }[task]
    columns = {
        "id": [f"m{k}" for k in range(rows)],
        "smiles": list(TEXTS[:rows]),
        "label": labels,
        **more,
    }
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


def app(path: Path, **tables: dict[str, Any]) -> MoleculesApp:
    """Settings of a tiny Graphormer on a table."""
    made: dict[str, Any] = {
        "domain": "molecules", "app": "made",
        "data": {"path": str(path), "label": "id", "targets": ["label"], "canonical": True, "val_fraction": 0.2},
        "backbone": {
            "dim": 16, "depth": 1, "heads": 2, "mlp_dim": 16, "order": "pre", "eps": 1e-5,
        },
        "train": {"epochs": 2, "batch": 16, "lr": 3e-3, "weight_decay": 0.0},
    }  # fmt: skip
    for name, changes in tables.items():
        made[name] = {**made.get(name, {}), **changes} if isinstance(changes, dict) else changes
    return MoleculesApp.model_validate(made)


class Plain(MoleculesTask):
    """Without the comparisons and pictures that a finished run has."""

    def baselines(self):
        return ()

    def figures(self, model, outputs):
        return []


def task_of(config: MoleculesApp, kind: type[MoleculesTask] = Plain) -> MoleculesTask:
    """The task of an app on its data."""
    prepared = prepare(config)
    return kind(prepared.config, prepared.data)


def trained(folder: Path, task: str = "regression", **tables: Any) -> Path:
    """The folder of a run on `table`, which lies beside it as molecules.csv."""
    path = table(folder / "molecules.csv", task)
    train(
        task_of(app(path, **tables)),
        RunFolder(folder / "run"),
        progress=False,
        say=lambda line: None,
    )
    return folder / "run"


def group(folder: Path, task: str = "regression", seeds: int = 2, **tables: Any) -> Path:
    """The folder of a group of seeds on `table`, calibrated and judged as `--seeds` does."""
    path = table(folder / "molecules.csv", task)
    prepared = prepare(app(path, **tables))
    return train_group(DOMAIN, Plain, prepared, folder / "group", seeds)
