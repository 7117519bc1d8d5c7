"""Tables of what was generated, between its ceiling (the training data themselves) and its floor (shuffled atoms)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from isoform.molecules.generation import molecules
from isoform.molecules.generation.crystals import NEAREST, OXIDATION_STATES, crystal_measures
from isoform.molecules.generation.matching import LOOSE, STRICT, to_reference
from isoform.molecules.generation.measure import Measure, shuffled, with_bounds
from isoform.molecules.generation.molecules import measures_of, shape_distance
from isoform.molecules.generation.poses import pose_measures
from isoform.molecules.systems.bonds import Undetermined, bonded, piece, pieces_of, smiles_of
from isoform.molecules.systems.system import Records, System

ROWS = 1000  # of the training data that a table's ceiling and floor are made of
NEW = ("novel", "largest_novel", "valid_unique_novel")  # what needs training data

Row = Mapping[str, Measure]


@dataclass(frozen=True)
class Scores:
    """Measures by row ("generated", "training data", "shuffled atoms") and name; `rules`: how they were made."""

    rows: Mapping[str, Row]
    rules: Sequence[str] = field(default_factory=list)

    def table(self) -> tuple[list[str], list[list[str]]]:
        """(head, lines): a measure a line, each "value (scored/read/generated)"."""
        names = dict.fromkeys(name for row in self.rows.values() for name in row)
        lines = [
            [name, *(str(row[name]) if name in row else "" for row in self.rows.values())]
            for name in names
        ]
        return ["value (scored/read/generated)", *self.rows], lines

    def to_json(self) -> dict[str, Any]:
        """Every measure with its denominators."""
        rows = {
            row: {name: asdict(one) for name, one in found.items()}
            for row, found in self.rows.items()
        }
        return {"rows": rows, "rules": list(self.rules)}


def score(
    records: Records,
    kind: str,
    reference: Sequence[System] = (),
    seed: int = 0,
    *,
    smiles: Sequence[str] = (),
    rows: int = ROWS,
) -> Scores:
    """The table of generated systems of a kind ("molecule", "crystal").

    reference   training systems of that kind. New is what is none of all of them. Ceiling and floor are made of at most
                `rows`, drawn by `seed`; without any, the table is of what was generated alone, and nothing is new
    smiles      as published of each of these molecules, "" where they aren't; else they are determined

    Raises UserError where a library is absent.
    """
    chosen = np.random.default_rng(seed).permutation(len(reference))[:rows]
    drawn = [reference[row] for row in sorted(chosen.tolist())]
    judged = [*records.systems, *drawn, *(shuffled(drawn, seed) if drawn else [])]
    near = _alike(reference, [*judged, *_largest_pieces(judged)])
    measures, rules = (
        _of_molecules(drawn, _constitutions(reference, near, smiles))
        if kind == "molecule"
        else _of_crystals(drawn, [reference[row] for row in near])
    )
    if not drawn:
        row = {n: one for n, one in measures(records).items() if not n.startswith(NEW)}
        return Scores({"generated": row}, [*rules, "nothing is said to be new: no training data"])
    rules.append(
        f"training data, shuffled atoms: of {len(drawn):,} of {len(reference):,} {kind}s, drawn by seed {seed}; new is "
        "what is none of all of them"
    )
    return Scores(with_bounds(measures, records, drawn, seed), rules)


def _largest_pieces(systems: Sequence[System]) -> Iterator[System]:
    """Of molecules in pieces."""
    for one in systems:
        pieces = _pieces(one) if one.kind == "molecule" else []
        if len(pieces) > 1:
            yield piece(one, pieces[0])


def _pieces(system: System) -> list[np.ndarray]:
    """None where bonds can't be looked for."""
    try:
        return pieces_of(system)
    except (ValueError, Undetermined):
        return []


def _alike(reference: Sequence[System], systems: Sequence[System]) -> list[int]:
    """Rows of the reference whose composition one of the systems has: no other can be the same."""
    known = set(map(_composition, systems))
    return [row for row, one in enumerate(reference) if _composition(one) in known]


def _composition(system: System) -> tuple[int, ...]:
    """Elements and their numbers, divided by what these have in common where it is a crystal."""
    elements, counts = np.unique(system.numbers, return_counts=True)
    shared = np.gcd.reduce(counts) if system.kind == "crystal" else 1
    return (*elements.tolist(), *(counts // shared).tolist())


Measures = Callable[[Records], dict[str, Measure]]


def _of_molecules(drawn: Sequence[System], known: Collection[str]) -> tuple[Measures, list[str]]:
    truth = [found.mol for found in map(molecules.judge, drawn) if found.mol is not None]
    lengths, angles = molecules.bond_lengths(truth), molecules.bond_angles(truth)

    def measures(records: Records) -> dict[str, Measure]:
        judged = [molecules.judge(one) for one in records.systems]
        mols = [one.mol for one in judged if one.mol is not None]
        out = measures_of(judged, len(records), known)
        out["posebusters"] = pose_measures(judged, len(records))["pass"]
        if drawn:
            out["lengths_apart"] = shape_distance(molecules.bond_lengths(mols), lengths)
            out["angles_apart"] = shape_distance(molecules.bond_angles(mols), angles)
            out["atoms_apart"] = shape_distance(_sizes(records.systems), _sizes(drawn))
        return out

    return measures, [
        "bonds: determined from coordinates so that valences fit and the whole is neutral; lengths: by typical lengths "
        "of bonds alone",
        "valid: one piece that RDKit sanitises; largest_valid: of the largest piece, as most publish",
        "stable: strict counts bonds as in a Kekule structure, legacy an aromatic bond as one",
        "posebusters: all checks of its configuration mol_fast",
        "lengths_apart (Angstrom), angles_apart (degrees), atoms_apart (atoms a system): Wasserstein distances to the "
        "training data",
    ]


def _constitutions(
    reference: Sequence[System], rows: Sequence[int], smiles: Sequence[str]
) -> set[str]:
    """Of some molecules, or of their largest pieces; of those whose bonds don't fit there is none."""
    found = set()
    for row in rows:
        text = smiles[row] if smiles else ""
        found.add(molecules.constitution(text or _smiles(reference[row])))
    return found - {""}


def _smiles(system: System) -> str:
    pieces = _pieces(system)
    try:
        return smiles_of(bonded(piece(system, pieces[0]))) if pieces else ""
    except (ValueError, Undetermined):
        return ""


def _sizes(systems: Sequence[System]) -> dict[str, np.ndarray]:
    return {"atoms": np.array([len(one) for one in systems], np.float64)} if systems else {}


def _of_crystals(drawn: Sequence[System], near: Sequence[System]) -> tuple[Measures, list[str]]:
    def measures(records: Records) -> dict[str, Measure]:
        out = crystal_measures(records, near, LOOSE) | crystal_measures(records, near, STRICT)
        if drawn:
            found, far = to_reference(records.systems, drawn, LOOSE)
            out |= {"METRe (loose)": found, "cRMSE (loose)": far}
            out["atoms_apart"] = shape_distance(_sizes(records.systems), _sizes(drawn))
        return out

    return measures, [
        f"structural: atoms at least {NEAREST} Angstrom apart under periodic images, and a volume; compositional: "
        f"SMACT with Pauling's test, states {OXIDATION_STATES}, metals pass",
        str(LOOSE),
        str(STRICT),
        "METRe: the share of the drawn training crystals that one of the row matches; cRMSE: the mean smallest "
        "distance in units of (volume / atom)^(1/3)",
        "atoms_apart: Wasserstein distance to the training data, atoms a system",
    ]
