"""Molecules made alike before they are compared, split or featurised: salts, charges, tautomers, spelling.

n molecules.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from rdkit import Chem
from rdkit.Chem.MolStandardize import rdMolStandardize

from isoform.core.errors import UserError, count, join_names
from isoform.molecules.config import DataConfig
from isoform.molecules.data.labelled import Labelled, take
from isoform.molecules.data.parsing import (
    MOST_ATOMS,
    canonical,
    has_stereo_groups,
    inchikey,
    parse,
    quiet,
)

NAMED = 5  # molecules in a sentence
_DID = {
    "fragment": "reduced to the largest fragment (data.fragment)",
    "neutralise": "neutralised (data.neutralise)",
    "tautomer": "turned into the canonical tautomer (data.tautomer)",
}
LARGE = 8  # heavy atoms of a fragment that is hardly a counter-ion or a solvent


class Standardiser:
    """Cleans one molecule after another, as data.fragment, data.neutralise and data.tautomer say.

    fragment    the largest fragment by heavy atoms; organic ones before others, so that a heavy counter-ion is cut off
    neutralise  charges that hydrogens can undo; a quaternary nitrogen keeps its own
    tautomer    RDKit's canonical tautomer among at most 1,000; takes 10 to 100 ms, for a peptide seconds

    `changed` counts the molecules that each of them changed, `failed` those that RDKit gave up on, and `cut` the
    fragments that were cut off, by canonical SMILES.
    """

    def __init__(self, data: DataConfig) -> None:
        self.changed: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.cut: Counter[str] = Counter()
        self.max_atoms = data.max_atoms
        self.steps = []
        if data.fragment:
            self.steps.append(
                ("fragment", rdMolStandardize.LargestFragmentChooser(preferOrganic=True).choose)
            )
        if data.neutralise:
            self.steps.append(("neutralise", rdMolStandardize.Uncharger().uncharge))
        if data.tautomer:
            self.steps.append(("tautomer", rdMolStandardize.TautomerEnumerator().Canonicalize))

    def __call__(self, mol: Chem.Mol) -> Chem.Mol:
        """The cleaned molecule; the same object where there is nothing to do."""
        for name, step in self.steps:
            if name == "fragment" and len(Chem.GetMolFrags(mol)) == 1:
                continue
            try:
                with quiet():
                    cleaned = step(mol)
                    Chem.SanitizeMol(cleaned)
            except (ValueError, RuntimeError):
                self.failed[name] += 1
                continue
            if canonical(cleaned) != canonical(mol):
                self.changed[name] += 1
                if name == "fragment":
                    self.cut += _fragments(mol) - _fragments(cleaned)
                mol = cleaned
        return mol

    def read(self, smiles: str, block: str | None = None) -> Chem.Mol | str:
        """The cleaned molecule of a mol block or SMILES, or why there is none; data.max_atoms is of what stays."""
        cuts = any(name == "fragment" for name, _ in self.steps)
        mol = parse(smiles, block, max(MOST_ATOMS, self.max_atoms) if cuts else self.max_atoms)
        if isinstance(mol, str):
            return mol
        mol = self(mol)
        atoms = mol.GetNumAtoms()
        return f"has {atoms} atoms, more than {self.max_atoms}" if atoms > self.max_atoms else mol

    def findings(self) -> list[str]:
        """What was done, in sentences; one for every switch that is on, 0 included."""
        lines = []
        for name, _ in self.steps:
            were = "was" if self.changed[name] == 1 else "were"
            lines.append(f"{count(self.changed[name], 'molecule')} {were} {_DID[name]}")
        lines += self._describe_cut()
        for name, number in self.failed.items():
            stay = "stays as it was" if number == 1 else "stay as they were"
            lines.append(f"{count(number, 'molecule')} could not be {_DID[name]} and {stay}")
        return lines

    def _describe_cut(self) -> list[str]:
        """The fragments that were cut off, and apart from them those that are as large as a molecule."""
        large = {text: n for text, n in self.cut.items() if _heavy_atoms(text) >= LARGE}
        small = {text: n for text, n in self.cut.most_common() if text not in large}
        lines = [f"cut off: {_counted(small)}"] if small else []
        if large:
            lines.append(
                f"cut off, and of {LARGE} atoms or more, as in co-crystals and mixtures: {_counted(large)}"
            )
        return lines


def _fragments(mol: Chem.Mol) -> Counter[str]:
    return Counter(map(canonical, Chem.GetMolFrags(mol, asMols=True, sanitizeFrags=False)))


def _heavy_atoms(smiles: str) -> int:
    mol = parse(smiles)
    return 0 if isinstance(mol, str) else int(mol.GetNumHeavyAtoms())


def _counted(found: Mapping[str, int]) -> str:
    return join_names([f"{text[:60]} ({n:,})" for text, n in found.items()])


def standardise(molecules: Labelled, data: DataConfig) -> Labelled:
    """Every molecule parsed, cleaned and given its `keys` and `inchis`; those that are none go to `skipped`.

    Where a cleaning switch or data.canonical is on, `smiles` become canonical and blocks are dropped, since they would
    no longer be the same molecule. Graphs without SMILES come back as they are, and so without keys.
    Raises UserError where no molecule is left, or for a cleaning switch on graphs.
    """
    if molecules.graphs is not None:
        on = [name for name in (*_DID, "canonical") if getattr(data, name)]
        if on:
            raise UserError(
                f"data.{on[0]} = true: {molecules.origin} comes as graphs without SMILES; unset it"
            )
        return molecules
    clean = Standardiser(data)
    kept, keys, inchis, skipped = [], [], [], []
    for row, text in enumerate(molecules.smiles):
        mol = clean.read(text, molecules.blocks[row] if molecules.blocks is not None else None)
        if isinstance(mol, str):
            skipped.append((molecules.names[row], mol))
            continue
        kept.append(row)
        keys.append(canonical(mol))
        inchis.append(inchikey(mol, keys[-1]))
    if not kept:
        name, why = skipped[0] if skipped else ("it", "is empty")
        raise UserError(f"{molecules.origin}: holds no molecule ({name}: {why})")
    found = take(molecules, np.array(kept), keys=keys, inchis=inchis)
    found = replace(
        found,
        skipped=[*molecules.skipped, *skipped],
        findings=[*molecules.findings, *clean.findings()],
    )
    if clean.steps or data.canonical:
        found = replace(found, smiles=keys, blocks=None)
    return found


def describe_stereo_groups(molecules: Labelled) -> list[str]:
    """How many molecules carry stereo groups, which are dropped, as a sentence; nothing where none does."""
    if molecules.graphs is not None:
        return []
    blocks: Sequence[str | None] = molecules.blocks or [None] * len(molecules)
    marked = [
        name
        for name, smiles, block in zip(molecules.names, molecules.smiles, blocks, strict=True)
        if has_stereo_groups(smiles, block)
    ]
    if not marked:
        return []
    many = len(marked) > 1
    return [
        f"{count(len(marked), 'molecule')} {'are' if many else 'is'} marked as a racemate or by relative stereo "
        f"chemistry ({join_names(marked, NAMED)}), which is dropped: {'each counts' if many else 'it counts'} as the "
        "one stereoisomer that is drawn"
    ]
