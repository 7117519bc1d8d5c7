"""Generated molecules judged by RDKit: validity, uniqueness, novelty, stability, and the shapes of bonds and angles."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from rdkit import Chem
from rdkit.Chem import rdMolTransforms

from isoform.molecules.data.parsing import quiet
from isoform.molecules.generation.measure import Measure, measure
from isoform.molecules.generation.stability import stable_atoms
from isoform.molecules.systems.bonds import (
    BondRule,
    Undetermined,
    bonded,
    connected,
    piece,
    pieces_of,
    smiles_of,
)
from isoform.molecules.systems.system import Records, System


@dataclass(frozen=True)
class Judged:
    """One molecule; None wherever a judge gave no answer.

    pieces    connected ones                 charged  whether an atom of the valid molecule is charged
    largest   whether the largest piece has bonds that fit, and sanitises; `largest_smiles` is its SMILES
    whole     whether it is one piece, and valid; then `smiles` is set, and `mol` has every atom, in order
    strict, legacy   which atoms are stable, by the bonds of the rule (see stability.py); all unstable where none fit
    lengths   which atoms are stable where bonds are told by lengths alone
    """

    pieces: int | None
    largest: bool | None
    whole: bool | None
    largest_smiles: str = ""
    smiles: str = ""
    mol: Chem.Mol | None = None
    charged: bool | None = None
    strict: Sequence[bool] | None = None
    legacy: Sequence[bool] | None = None
    lengths: Sequence[bool] | None = None
    reason: str = ""


def judge(system: System, rule: BondRule = "determined") -> Judged:
    """A molecule by a bond rule; never raises for what a model made."""
    lengths = _stable_by_lengths(system)
    pieces = None
    try:
        pieces = pieces_of(system, rule)
        mol = bonded(system if len(pieces) == 1 else piece(system, pieces[0]), rule)
    except ValueError as error:
        strict = legacy = [False] * len(system)
        count = None if pieces is None else len(pieces)
        return Judged(
            count, False, False, strict=strict, legacy=legacy, lengths=lengths, reason=str(error)
        )
    except Undetermined as error:
        count = None if pieces is None else len(pieces)
        return Judged(count, None, None, lengths=lengths, reason=str(error))
    whole = len(pieces) == 1
    smiles = smiles_of(mol)
    strict, legacy = _stable_in_all(system, pieces, mol, rule)
    return Judged(
        len(pieces),
        True,
        whole,
        smiles,
        smiles if whole else "",
        mol if whole else None,
        any(atom.GetFormalCharge() for atom in mol.GetAtoms()),
        strict,
        legacy,
        lengths,
        "" if whole else f"falls into {len(pieces)} pieces",
    )


def _stable_in_all(
    system: System, pieces: list[np.ndarray], largest: Chem.Mol, rule: BondRule
) -> tuple[list[bool], list[bool]]:
    """Stability of every atom, piece by piece; a piece that isn't valid has no stable atom."""
    strict, legacy = [False] * len(system), [False] * len(system)
    for number, rows in enumerate(pieces):
        try:
            mol = bonded(piece(system, rows), rule) if number else largest
        except (ValueError, Undetermined):
            continue
        order = rows if len(pieces) > 1 else np.arange(len(system))
        for row, one, other in zip(
            order, stable_atoms(mol), stable_atoms(mol, legacy=True), strict=True
        ):
            strict[row], legacy[row] = one, other
    return strict, legacy


def _stable_by_lengths(system: System) -> list[bool] | None:
    try:
        return stable_atoms(connected(system, "lengths"))
    except Undetermined:
        return None


def molecule_measures(
    records: Records, known: Collection[str], rule: BondRule = "determined"
) -> dict[str, Measure]:
    """Every measure of some generated molecules.

    known   constitutions of the training data (see `keys_of`): what is among them isn't new

    valid is of whole molecules, largest_valid of largest pieces. unique and novel are shares of the valid ones, the
    largest_ ones of the valid largest pieces, which are what they score; valid_unique_novel counts each new SMILES
    once, over all that could be read. Atom stability is over atoms, and its denominators count atoms of read molecules.
    """
    judged = [judge(one, rule) for one in records.systems]
    return measures_of(judged, len(records), known)


def measures_of(
    judged: Sequence[Judged], generated: int, known: Collection[str]
) -> dict[str, Measure]:
    """See `molecule_measures`."""
    known = set(known)
    flat = {text: constitution(text) for one in judged for text in (one.smiles, one.largest_smiles)}
    out = {
        "valid": measure((one.whole for one in judged), generated),
        "largest_valid": measure((one.largest for one in judged), generated),
        "connected": measure(
            (None if one.pieces is None else one.pieces == 1 for one in judged), generated
        ),
        "charged": measure((one.charged for one in judged), generated),
    }
    for prefix, found in (
        ("", [one.smiles for one in judged if one.whole]),
        ("largest_", [one.largest_smiles for one in judged if one.largest]),
    ):
        new = [flat[smiles] not in known for smiles in found]
        out[f"{prefix}unique"] = _share(len(set(found)), len(found), len(judged), generated)
        out[f"{prefix}novel"] = _share(sum(new), len(found), len(judged), generated)
    unknown: Sequence[bool | None] = [None]
    fresh = {one.smiles for one in judged if one.whole and flat[one.smiles] not in known}
    answered = sum(one.whole is not None for one in judged)
    out["valid_unique_novel"] = _share(len(fresh), answered, len(judged), generated)
    for name in ("strict", "legacy", "lengths"):
        stable: list[Sequence[bool | None] | None] = [getattr(one, name) for one in judged]
        out[f"atom_stable_{name}"] = measure(flag for one in stable for flag in one or unknown)
        out[f"molecule_stable_{name}"] = measure(
            (None if one is None else all(one) for one in stable), generated
        )
    return out


def _share(hits: int, scored: int, read: int, generated: int) -> Measure:
    return Measure(hits / scored if scored else None, scored, read, generated)


def keys_of(systems: Iterable[System], rule: BondRule = "determined") -> set[str]:
    """Constitutions of the valid whole molecules and of valid largest pieces: what novelty compares."""
    judged = [judge(one, rule) for one in systems]
    return {constitution(one.smiles or one.largest_smiles) for one in judged} - {""}


def constitution(smiles: str) -> str:
    """Canonical SMILES without stereo centres, as data sets publish them; a text that RDKit can't read as it is."""
    with quiet():
        mol = Chem.MolFromSmiles(smiles)
        return smiles if mol is None else str(Chem.MolToSmiles(mol, isomericSmiles=False))


def repeated(train: Iterable[System], test: Iterable[System]) -> Measure:
    """The share of test molecules whose SMILES a training molecule has; where bonds don't fit it is undetermined."""
    known = keys_of(train)
    judged = [judge(one) for one in test]
    return measure(constitution(one.smiles) in known if one.whole else None for one in judged)


Shapes = Mapping[str, np.ndarray]


def bond_lengths(mols: Iterable[Chem.Mol]) -> dict[str, np.ndarray]:
    """Lengths in Angstrom of each kind of bond ("C=O", aromatic "C:N"), elements in alphabetic order."""
    found: dict[str, list[float]] = {}
    for mol in mols:
        conformer = mol.GetConformer()
        for bond in mol.GetBonds():
            ends = sorted((bond.GetBeginAtom().GetSymbol(), bond.GetEndAtom().GetSymbol()))
            mark = {1.0: "-", 2.0: "=", 3.0: "#", 1.5: ":"}.get(bond.GetBondTypeAsDouble(), "~")
            length = rdMolTransforms.GetBondLength(
                conformer, bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
            )
            found.setdefault(mark.join(ends), []).append(length)
    return {kind: np.array(values) for kind, values in found.items()}


def bond_angles(mols: Iterable[Chem.Mol]) -> dict[str, np.ndarray]:
    """Angles in degrees at each kind of middle: "C-N-C", the outer elements in alphabetic order."""
    found: dict[str, list[float]] = {}
    for mol in mols:
        conformer = mol.GetConformer()
        for atom in mol.GetAtoms():
            ends = [one.GetIdx() for one in atom.GetNeighbors()]
            for place, i in enumerate(ends):
                for k in ends[:place]:
                    a, c = sorted(mol.GetAtomWithIdx(e).GetSymbol() for e in (i, k))
                    angle = rdMolTransforms.GetAngleDeg(conformer, i, atom.GetIdx(), k)
                    found.setdefault(f"{a}-{atom.GetSymbol()}-{c}", []).append(angle)
    return {kind: np.array(values) for kind, values in found.items()}


def shape_distance(made: Shapes, truth: Shapes) -> Measure:
    """Wasserstein-1 distance (in the unit of the values) kind by kind, weighted by how frequent a kind is in truth.

    Its denominators count bonds or angles of truth: kinds that were never made are undetermined.
    """
    from scipy.stats import wasserstein_distance

    weights = {kind: len(values) for kind, values in truth.items()}
    shared = [kind for kind in truth if len(made.get(kind, ()))]
    scored = sum(weights[kind] for kind in shared)
    total = sum(weights.values())
    far = sum(weights[kind] * wasserstein_distance(made[kind], truth[kind]) for kind in shared)
    return Measure(far / scored if scored else None, scored, total, total)
