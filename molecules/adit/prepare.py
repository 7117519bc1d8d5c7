"""An app with its systems; of an `auto` one, the epochs follow from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from isoform.core.domain import CheckReport, Prepared
from isoform.core.errors import UserError, count
from isoform.core.ops.shapes import shapes_alone
from isoform.molecules.adit.config import AditApp
from isoform.molecules.adit.dataset import SystemsData, read_data
from isoform.molecules.adit.model import build_model

_ATOMS = 2.5e7  # that an auto app trains on in all: about ten minutes of two cores at the size of adit-own


def prepare(config: AditApp) -> Prepared[AditApp, SystemsData]:
    """The app with nothing left open, its systems, and lines on both; preparing that again changes nothing.

    Raises UserError for tables that contradict each other, and for data that are missing, hold nothing to
    learn, or have training systems in another split, unless data.allow_leakage.
    """
    refuse_impossible(config)
    data = read_data(config.data, config.model.elements)
    notes = [*describe(data), *data.findings, *data.lost]
    leaks = describe_shared(shared_with_training(data))
    if leaks and not config.data.allow_leakage:
        raise UserError(
            f"{data.origin}: {'; '.join(leaks)}: mend the splits, or set data.allow_leakage = true"
        )
    notes += [f"warning: {line}" for line in leaks]
    if config.train.epochs == "auto":
        config = choose_epochs(config, data)
        t = config.train
        notes.append(
            f"{t.epochs} epochs in batches of {t.batch}, stopped after {t.patience} without a better validation"
        )
    return Prepared(config, notes, data, data.lost)


def other_data(config: AditApp) -> Prepared[AditApp, SystemsData]:
    """Other systems for a finished run: those of a folder's test file, or all, are its test split."""
    data = read_data(config.data, config.model.elements)
    everything = np.sort(np.concatenate([*data.rows.values()]))
    path = Path(config.data.path or "")
    rows = (
        {"test": data.rows["test"]}
        if path.is_dir() and "test" in data.rows
        else {"test": everything}
    )
    data = replace(data, rows=rows)
    return Prepared(config, [*describe(data), *data.findings, *data.lost], data, data.lost)


def refuse_impossible(config: AditApp) -> None:
    """Raises UserError for a model that can't be built, and for a second stage without the first."""
    try:
        with shapes_alone():
            build_model(config)
    except ValueError as error:
        raise UserError(str(error)) from None
    if config.model.part == "denoiser":
        raise UserError(
            'model.part = "denoiser" alone has no latents to learn: set model.part = "both", and name the trained '
            "autoencoder with --init"
        )


def describe(data: SystemsData) -> list[str]:
    """A line on each kind of system, and one on the splits."""
    systems, lines = data.systems, []
    for kind, periodic in (("molecule", False), ("crystal", True)):
        own = systems.periodic == periodic
        if own.any():
            sizes = systems.sizes[own]
            elements = len(np.unique(systems.numbers[np.repeat(own, systems.sizes)]))
            lines.append(
                f"{count(int(own.sum()), kind)} of {sizes.min()} to {sizes.max()} atoms, {count(elements, 'element')}"
            )
    splits = ", ".join(f"{n:,} {split}" for split, n in data.sizes().items())
    return [f"{data.origin}: {'; '.join(lines)}; {splits}"]


def choose_epochs(config: AditApp, data: SystemsData) -> AditApp:
    """As many as keep a thousand molecules within a quarter of an hour on two cores."""
    train = data.rows["train"]
    atoms = float(data.systems.sizes[train].sum())
    first = config.model.part == "autoencoder"
    budget, most = (
        (_ATOMS, 300) if first else (_ATOMS / 2, 150)
    )  # a denoiser's step takes twice as long
    epochs = int(max(5, min(most, budget / max(atoms, 1.0))))
    patience = config.train.patience or max(10, epochs // 4)
    changes = {"epochs": epochs, "patience": patience}
    return config.model_copy(update={"train": config.train.model_copy(update=changes)})


def check(config: AditApp) -> CheckReport:
    """What the systems of an app hold; the same molecule or crystal in two splits is counted by its exact content."""
    allowed = config.data.model_copy(update={"allow_leakage": True})
    try:
        prepared = prepare(config.model_copy(update={"data": allowed}))
    except UserError as error:
        return CheckReport([], {}, refusal=str(error))
    data = prepared.data
    shared = shared_with_training(data)
    told = {
        "sizes": data.sizes(),
        "atoms": {kind: sorted(found) for kind, found in data.counts().items()},
        "shared_with_training": shared,
    }
    leakage = any(shared.values()) and not config.data.allow_leakage
    return CheckReport(list(prepared.notes), told, leakage=leakage, prepared=prepared)


def describe_shared(shared: Mapping[str, int]) -> list[str]:
    """A line for every split that holds training systems."""
    return [
        f"{count(times, 'system')} of {split} also in train, atom for atom"
        for split, times in shared.items()
        if times
    ]


def shared_with_training(data: SystemsData) -> dict[str, int]:
    """How many systems of validation and test are training systems too, by their digests."""
    known = set(data.digests("train")[:, 0].tolist())
    return {
        split: sum(one in known for one in data.digests(split)[:, 0].tolist())
        for split in ("val", "test")
        if len(data.rows.get(split, ()))
    }
