"""Molecules that are awkward in some way, and texts that are none."""

from __future__ import annotations

import random

# One of each: ring systems, aromatics, salts, charges, isotopes, stereo centres and bonds, hydrogens as atoms, dummies,
# radicals, dative and quadruple bonds, metals, hypervalent atoms, single atoms.
MOLECULES = (
    "CN1C=NC2=C1C(=O)N(C(=O)N2C)C", "C12C3C4C1C5C2C3C45", "c1ccc2c(c1)ccc3c2cccc3", "c1ccc2cccc2cc1", "c1cc[nH]c1",
    "[Na+].[Cl-].CC(=O)O", "[NH4+].[Cl-]", "C[N+](C)(C)CC([O-])=O", "CN(=O)=O", "O=Cl(=O)(=O)O", "[13CH4]",
    "[2H]C([2H])Cl", "C/C=C/Br", "C/C=C\\Br", "N[C@@H](C)C(=O)O", "N[C@H](C)C(=O)O", "C[C@]12CC[C@H](C1)C2",
    "OC[C@H]1O[C@@H](O)[C@H](O)[C@@H](O)[C@@H]1O", "[H][H]", "[H+]", "O", "[He]", "*CC*", "[CH3]", "[O][O]", "N#[C-]",
    "C[Mg]Br", "[NH3]->[Pt](<-[NH3])(Cl)Cl", "[Mo]$[Mo]", "FS(F)(F)(F)(F)F", "FP(F)(F)(F)F", "[Xe](F)(F)(F)F",
    "O=C=O", "CC#N", "[Co+3]", "[C-5]", "[Og]", "B1OBOBO1", "c1ccccc1.OCC", "C%12CCCCC%12", "C[Si](C)(C)C",
    "OS(=O)(=O)c1ccc(cc1)N=Nc1ccccc1", "F[P-](F)(F)(F)(F)F.CCn1cc[n+](C)c1", "C1CC2CCC1C2", "CC(C)(C)C",
    "CCCCCCCCCCC", "[Fe+2].c1cc[cH-]c1.c1cc[cH-]c1", "O=[N+]([O-])c1ccccc1", "[nH]1nnnc1",
)  # fmt: skip

_ALPHABET = "CNOPSFIBrcnosp[]()=#$:/\\@+-.%0123456789H*~><^|{} \t\n\0é☃"


def broken(rng: random.Random) -> str:
    """A molecule with some accidents, or text of SMILES's letters, or any text."""
    kind = rng.random()
    if kind < 0.1:
        return "".join(rng.choice(_ALPHABET) for _ in range(rng.randrange(40)))
    if kind < 0.13:
        return "".join(chr(rng.randrange(0x11000)) for _ in range(rng.randrange(20)))
    if kind < 0.18:  # rings through everything
        atoms = [rng.choice(("*", "C", "[Fe]", "S", "c", "P")) for _ in range(rng.randrange(2, 60))]
        for label in range(rng.randrange(120)):
            for _ in range(2):
                atoms[rng.randrange(len(atoms))] += f"%({label})"
        return "".join(atoms)
    text = rng.choice(MOLECULES)
    if kind < 0.3:
        text = _cut(rng, text) + _cut(rng, rng.choice(MOLECULES))
    if kind > 0.95:
        text = text * rng.randrange(2, 60)
    for _ in range(rng.randrange(5)):
        at = rng.randrange(len(text) + 1)
        accident = rng.randrange(4)
        if accident == 0:
            text = text[:at] + rng.choice(_ALPHABET) + text[at:]
        elif accident == 1:
            text = text[:at] + text[at + 1 :]
        elif accident == 2:
            text = text[:at] + rng.choice(_ALPHABET) + text[at + 1 :]
        else:
            text = text[:at] + _cut(rng, text) + text[at:]
    return text


def _cut(rng: random.Random, text: str) -> str:
    start, stop = sorted((rng.randrange(len(text) + 1), rng.randrange(len(text) + 1)))
    return text[start:stop]
