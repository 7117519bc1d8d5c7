"""`sample --score`: what is in the file, as others read it, beside the training data's own metrics."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from isoform.core.data.writers import plain_json, write_atomically
from isoform.core.domain import Speaker, TrainedModel
from isoform.core.errors import UserError
from isoform.core.runs.folder import RunFolder
from isoform.molecules.adit.prepare import prepare
from isoform.molecules.adit.sampling.records import beside
from isoform.molecules.adit.sampling.request import Kind, Request
from isoform.molecules.generation.relaxation import RULES, Relaxer, stability_measures
from isoform.molecules.generation.score import score
from isoform.molecules.systems.read import read_systems
from isoform.molecules.systems.system import Records, System, Unread


def refuse_scoring(args: argparse.Namespace) -> None:
    """Raises UserError for options of a scoring that isn't asked for."""
    for option, given in (("--reference", args.reference), ("--stability", args.stability)):
        if given and not args.score:
            raise UserError(f"{option} {given}: is for --score; add it")


class Training(NamedTuple):
    """Training systems of one kind, and their SMILES as published, "" where they aren't; none: not known."""

    systems: Sequence[System]
    smiles: Sequence[str] = ()


@dataclass(frozen=True)
class Judging:
    """What sampled systems are compared with: training systems of their kind; a potential where one is asked for."""

    training: Training
    relaxer: Relaxer | None

    @classmethod
    def of(
        cls,
        args: argparse.Namespace,
        trained: TrainedModel[Any, Any],
        kind: Kind,
        console: Speaker,
    ) -> Judging:
        """As the options say, before anything is sampled. Raises UserError for what can't be read or isn't there."""
        if args.stability and kind == "molecule":
            raise UserError(f"--stability {args.stability}: is for crystals; leave it out")
        training = (
            own_training(trained, kind, console)
            if args.reference is None
            else Training(read_reference(args.reference, kind, console))
        )
        return cls(training, Relaxer() if args.stability else None)

    def write(self, out: Path, request: Request, console: Speaker) -> None:
        """Prints the table of a file of samples, and writes it as JSON beside it."""
        records = read_back(out, request.count)
        reference, smiles = self.training.systems, self.training.smiles
        scores = score(records, request.kind, reference, request.seed, smiles=smiles)
        if self.relaxer is not None:
            more = stability_measures(records, reference, self.relaxer, console.track)
            rows = {**scores.rows, "generated": {**scores.rows["generated"], **more}}
            scores = replace(scores, rows=rows, rules=[*scores.rules, *RULES])
        console.table(*scores.table())
        console.say(*scores.rules)
        place = beside(out, "metrics.json")
        write_atomically(place, json.dumps(plain_json(scores.to_json()), indent=1) + "\n")
        console.say(f"metrics: {place}")
        console.result |= {"metrics": scores.to_json()["rows"]}


def read_back(out: Path, count: int) -> Records:
    """A file of `count` samples as others read it; a CIF has no data block with atoms of what is no crystal."""
    try:
        found = read_systems(out, "--out").records
    except UserError:  # not one block holds atoms
        found = []
    missing = [Unread("", "no system")] * (count - len(found))
    return Records([*found, *missing])


def read_reference(path: str, kind: Kind, console: Speaker) -> list[System]:
    """The systems of a kind in a file of any format. Raises UserError where there is none."""
    found = read_systems(path, "--reference")
    for line in found.findings:
        console.warn(line)
    systems = [one for one in found.systems if one.kind == kind]
    if not systems:
        raise UserError(f"--reference {path}: holds no {kind}; name a file of the training data")
    return systems


def own_training(trained: TrainedModel[Any, Any], kind: Kind, console: Speaker) -> Training:
    """The run's own training systems of a kind, read again; none, and a line that says why, where they can't be."""
    if trained.state.data is None:
        why = f"{trained.folder}: an imported model has no data of its own"
    else:
        try:
            data, kept = prepare(trained.config).data, RunFolder(trained.folder).split()
        except UserError as error:
            why = str(error)
        else:
            data = data if kept is None else data.in_split(kept)
            return Training(data.systems_of("train", kind), data.smiles_of("train", kind))
    console.warn(f"{why}; without --reference FILE nothing is compared with training data")
    return Training(())
