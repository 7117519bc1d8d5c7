"""PoseBusters' checks of single molecules (Buttenschoen et al. 2024, doi:10.1039/d3sc04185a)."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import rdkit
from rdkit import rdBase

from isoform.molecules.data.parsing import quiet
from isoform.molecules.generation.measure import Measure, measure
from isoform.molecules.generation.molecules import Judged
from isoform.molecules.systems.libraries import materials


def pose_measures(
    judged: Sequence[Judged], generated: int, *, energy: bool = False
) -> dict[str, Measure]:
    """The share of molecules that pass each check, and all of them ("pass"); a molecule that isn't valid passes none.

    energy   the check of the energy against 50 conformers too (configuration "mol", else "mol_fast"): about a second a
             molecule. Raises UserError where PoseBusters is absent.
    """
    with materials("PoseBusters' checks"):
        from posebusters import PoseBusters
    rdBase.LogToCppStreams()  # importing it turned RDKit's log away
    busters = PoseBusters(config="mol" if energy else "mol_fast", max_workers=0)
    mols = [one.mol for one in judged if one.mol is not None]
    if not mols:
        return {
            "pass": measure((False if one.whole is False else None for one in judged), generated)
        }
    with _log_as_it_needs(), quiet():
        checks = busters.bust(mols, None, None, full_report=False).astype(object)
    rows = iter(checks.to_dict("records"))
    answers = [
        next(rows)
        if one.mol is not None
        else dict.fromkeys(checks, False if one.whole is False else None)
        for one in judged
    ]
    out = {
        str(name): measure((_answer(row[name]) for row in answers), generated) for name in checks
    }
    return out | {"pass": measure(map(_all, answers), generated)}


@contextmanager
def _log_as_it_needs() -> Iterator[None]:
    """PoseBusters reads RDKit's log through Python's, and leaves it there; behind it RDKit writes by itself again.

    A stream that was closed since it was last used would fail every check of an InChI.
    """
    if getattr(rdkit.log_handler.stream, "closed", False):
        rdkit.log_handler.stream = sys.stderr
    rdBase.LogToPythonLogger()
    try:
        yield
    finally:
        rdBase.LogToCppStreams()


def _answer(value: object) -> bool | None:
    """A check that could not be made holds no truth value."""
    return {"True": True, "False": False}.get(str(value))


def _all(row: dict) -> bool | None:
    answers = [_answer(value) for value in row.values()]
    return None if None in answers and False not in answers else all(answers)
