"""RDKit's descriptors by families that share what they are made of; the numbers are those of RDKit's own functions.

n atoms of a molecule.

Asked one by one, RDKit works out the same charges, distances and contributions of atoms over and over, and some of its
functions are Python loops over all pairs of atoms. Here each is worked out once a molecule, in the same order of
additions, so that not a bit differs. What a family has no answer for is asked of RDKit's function.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from rdkit import Chem
from rdkit.Chem import MolSurf, rdFingerprintGenerator, rdPartialCharges
from rdkit.Chem import rdMolDescriptors as rd
from rdkit.Chem.EState import EState, EState_VSA
from rdkit.ML.InfoTheory.rdInfoTheory import InfoEntropy

CUTOFF = 100  # distances of an atom that BertzCT compares
FAR = 1e6  # more than any distance within one piece of a molecule


class Tables:
    """What is the same for every molecule."""

    def __init__(self) -> None:
        elements = Chem.GetPeriodicTable()
        numbers = range(elements.GetMaxAtomicNumber() + 1)
        self.outer = np.array([elements.GetNOuterElecs(z) for z in numbers])
        self.shell = np.array([EState.GetPrincipleQuantumNumber(z) for z in numbers])
        self.morgan = [rdFingerprintGenerator.GetMorganGenerator(radius) for radius in (1, 2, 3)]


class Facts:
    """What the families ask of one molecule, each worked out at the first question."""

    def __init__(self, mol: Any, tables: Tables) -> None:
        self.mol, self.tables = mol, tables
        self.atoms = list(map(mol.GetAtomWithIdx, range(mol.GetNumAtoms())))
        self.numbers = np.array(list(map(Chem.Atom.GetAtomicNum, self.atoms)))
        self.degrees = np.array(list(map(Chem.Atom.GetDegree, self.atoms)))
        self.hydrogens = np.array(list(map(Chem.Atom.GetTotalNumHs, self.atoms)))

    @cached_property
    def bonds(self) -> list[tuple[int, int, float]]:
        """Of every bond its first and its later atom and its order, 1.5 where it is aromatic."""
        found = []
        for bond in map(self.mol.GetBondWithIdx, range(self.mol.GetNumBonds())):
            a, b = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
            order = 1.5 if bond.GetIsAromatic() else bond.GetBondTypeAsDouble()
            found.append((a, b, order) if a < b else (b, a, order))
        return found

    @cached_property
    def ends(self) -> tuple[np.ndarray, np.ndarray]:
        """Tail and head of every bond, and behind these of every bond turned round.

        Raises ValueError where there is a ring of 3 or 4 atoms: RDKit counts it as a path that ends where it began.
        """
        if any(len(ring) < 5 for ring in self.mol.GetRingInfo().AtomRings()):
            raise ValueError("a small ring")
        first, later = [a for a, _, _ in self.bonds], [b for _, b, _ in self.bonds]
        return np.array(first + later, np.int64), np.array(later + first, np.int64)

    @cached_property
    def back(self) -> np.ndarray:
        """The number of every bond of `ends` turned round."""
        return np.roll(np.arange(2 * len(self.bonds)), len(self.bonds))

    @cached_property
    def all_have_parameters(self) -> bool:
        """Whether Gasteiger has parameters for every atom; works out the charges."""
        try:
            rdPartialCharges.ComputeGasteigerCharges(self.mol, throwOnParamFailure=True)
        except ValueError:
            rdPartialCharges.ComputeGasteigerCharges(self.mol)
            return False
        return True

    @cached_property
    def charges(self) -> list[float]:
        """Gasteiger's [n]; can be NaN where he has no parameters."""
        assert self.all_have_parameters in (True, False)
        return [atom.GetDoubleProp("_GasteigerCharge") for atom in self.atoms]

    @cached_property
    def crippen_with_hydrogens(self) -> np.ndarray:
        """[n or more, 2] contributions to log P and molar refractivity; those of hydrogens behind the atoms'."""
        return np.array(rd._CalcCrippenContribs(Chem.AddHs(self.mol)))

    @cached_property
    def crippen(self) -> np.ndarray:
        """[n, 2]. No pattern of a heavy atom looks at hydrogens, so it is the same with them."""
        if (self.numbers == 1).any():
            return np.array(rd._CalcCrippenContribs(self.mol))
        return self.crippen_with_hydrogens[: len(self.atoms)]

    @cached_property
    def surfaces(self) -> np.ndarray:
        """Labute's contribution of every atom [n]."""
        return np.array(rd._CalcLabuteASAContribs(self.mol, True)[0])

    @cached_property
    def steps(self) -> np.ndarray:
        """[n, n] distances in bonds of order 1 / order."""
        return np.array(Chem.GetDistanceMatrix(self.mol, True, False, True, "Balaban"))

    @cached_property
    def estate(self) -> np.ndarray:
        """The electrotopological state of every atom [n] (Hall, Mohney and Kier 1991)."""
        outer, shell = self.tables.outer[self.numbers], self.tables.shell[self.numbers]
        bound = self.degrees > 0
        own = np.zeros(len(self.atoms))
        valence = 4.0 / (shell * shell) * (outer - self.hydrogens) + 1
        own[bound] = valence[bound] / self.degrees[bound]
        apart = Chem.GetDistanceMatrix(self.mol) + 1
        pull = np.where(apart < FAR, (own[None] - own[:, None]) / (apart * apart), 0.0)
        return np.asarray(np.add.reduce(pull, axis=0) + own)


class Family(NamedTuple):
    """Descriptors that are worked out together. What `work` raises for a molecule sends it to RDKit's functions."""

    names: tuple[str, ...]
    work: Callable[[Facts], Sequence[float] | np.ndarray]


def families() -> list[Family]:
    """All of them."""

    def numbered(name: str, count: int) -> tuple[str, ...]:
        return tuple(f"{name}{i + 1}" for i in range(count))

    return [
        Family(
            tuple(
                f"BCUT2D_{kind}"
                for kind in ["MWHI", "MWLOW", "CHGHI", "CHGLO", "LOGPHI", "LOGPLOW", "MRHI", "MRLOW"]
            ),
            _bcut,
        ),
        Family(("MaxPartialCharge", "MinPartialCharge"), _extreme_charges),
        Family(("MaxAbsPartialCharge", "MinAbsPartialCharge"), _extreme_absolute_charges),
        Family(("MolLogP", "MolMR"), lambda facts: _summed(facts.crippen_with_hydrogens)),
        Family(
            ("MaxEStateIndex", "MinEStateIndex", "MaxAbsEStateIndex", "MinAbsEStateIndex"), _extremes
        ),
        Family(numbered("PEOE_VSA", 14), lambda facts: _binned(_known(facts.charges), MolSurf.chgBins, facts.surfaces)),
        Family(numbered("SMR_VSA", 10), lambda facts: _binned(facts.crippen[:, 1], MolSurf.mrBins, facts.surfaces)),
        Family(numbered("SlogP_VSA", 12), lambda facts: _binned(facts.crippen[:, 0], MolSurf.logpBins, facts.surfaces)),
        Family(numbered("EState_VSA", 11), lambda facts: _binned(facts.estate, EState_VSA.estateBins, facts.surfaces)),
        Family(numbered("VSA_EState", 10), lambda facts: _binned(facts.surfaces, EState_VSA.vsaBins, facts.estate)),
        Family(("NumValenceElectrons", "NumRadicalElectrons"), _electrons),
        Family(("Chi0", "Chi1"), _connectivity),
        Family(tuple(f"Chi{k}{kind}" for kind in "nv" for k in (2, 3, 4)), _path_products),
        Family(("Kappa2", "Kappa3", "Phi"), _shapes),
        Family(("BalabanJ",), _balaban),
        Family(("BertzCT",), _bertz),
        Family(("FpDensityMorgan1", "FpDensityMorgan2", "FpDensityMorgan3"), _densities),
    ]  # fmt: skip


def _known(values: Sequence[float]) -> Sequence[float]:
    if not np.isfinite(values).all():
        raise ValueError("an atom without parameters")
    return values


def _bcut(facts: Facts) -> list[float]:
    one_piece = facts.all_have_parameters and (facts.steps < FAR).all()
    if not one_piece or (facts.numbers == 1).any():
        raise ValueError("RDKit takes one piece alone, with its hydrogens taken off")
    masses = [atom.GetMass() for atom in facts.atoms]
    weights = [masses, _known(facts.charges), *facts.crippen.T.tolist()]
    return [value for each in weights for value in rd.BCUT2D(facts.mol, each)]


def _extreme_charges(facts: Facts) -> tuple[float, float]:
    low, high = 500.0, -500.0
    for charge in facts.charges:  # as RDKit does: what NaN makes of it depends on the order
        low, high = min(charge, low), max(charge, high)
    return high, low


def _extreme_absolute_charges(facts: Facts) -> tuple[float, float]:
    high, low = _extreme_charges(facts)
    return max(abs(low), abs(high)), min(abs(low), abs(high))


def _summed(values: np.ndarray) -> np.ndarray:
    """Sums of columns, one row after another."""
    return np.asarray(np.add.reduce(values, axis=0))


def _extremes(facts: Facts) -> list[float]:
    size = np.abs(facts.estate)
    return [facts.estate.max(), facts.estate.min(), size.max(), size.min()]


def _binned(
    values: Sequence[float] | np.ndarray, edges: Sequence[float], weights: np.ndarray
) -> np.ndarray:
    bins = np.searchsorted(edges, values, side="right")
    return np.bincount(bins, weights, minlength=len(edges) + 1)


def _electrons(facts: Facts) -> list[int]:
    charge = sum(map(Chem.Atom.GetFormalCharge, facts.atoms))
    outer = int((facts.tables.outer[facts.numbers] + facts.hydrogens).sum())
    return [outer - charge, sum(map(Chem.Atom.GetNumRadicalElectrons, facts.atoms))]


def _connectivity(facts: Facts) -> list[float]:
    degrees = facts.degrees.tolist()
    return [
        sum(math.sqrt(1.0 / degree) for degree in degrees if degree),
        sum(math.sqrt(1.0 / (degrees[a] * degrees[b])) for a, b, _ in facts.bonds),
    ]


def _path_products(facts: Facts) -> list[float]:
    """Chi2n to Chi4n and Chi2v to Chi4v: over all paths of 3 to 5 atoms, the product of the atoms' deltas."""
    if (facts.numbers <= 1).any():
        raise ValueError("hydrogens and dummy atoms have rules of their own")
    outer = facts.tables.outer[facts.numbers]
    plain = outer - facts.hydrogens
    inner = np.where(facts.numbers <= 10, 1, facts.numbers - outer - 1)
    return [sum_ for valence in (plain, plain / inner) for sum_ in _over_paths(valence, facts)]


def _over_paths(valence: np.ndarray, facts: Facts) -> list[float]:
    if (valence < 0).any():
        raise ValueError("a delta that has no root")
    some = valence != 0
    delta = np.zeros(len(valence))
    delta[some] = 1.0 / np.sqrt(valence[some])
    tail, head = facts.ends
    n = len(delta)
    around = np.bincount(tail, delta[head], minlength=n)
    square = np.bincount(tail, delta[head] ** 2, minlength=n)
    # Of a bond's tail and what lies behind it, seen from its head.
    behind = delta[tail] * (around[tail] - delta[head])
    beyond = np.bincount(head, behind, minlength=n)
    beyond_square = np.bincount(head, behind**2, minlength=n)
    return [
        float((delta * (around**2 - square)).sum() / 2),
        float((behind * behind[facts.back]).sum() / 2),
        float((delta * (beyond**2 - beyond_square)).sum() / 2),
    ]


def _shapes(facts: Facts) -> list[float]:
    if (facts.numbers <= 1).any():
        raise ValueError("hydrogens and dummy atoms have rules of their own")
    tail, head = facts.ends
    more = facts.degrees - 1
    two = int((facts.degrees * more).sum()) // 2
    three = int((more[tail] * more[head]).sum()) // 2
    alpha, atoms = rd.CalcHallKierAlpha(facts.mol), facts.mol.GetNumHeavyAtoms()
    kappa2 = _over(((atoms + alpha - 1) * (atoms + alpha - 2) ** 2), (two + alpha) ** 2)
    first = atoms + alpha - (1 if atoms % 2 else 2)
    kappa3 = _over(first * (atoms + alpha - 3) ** 2, (three + alpha) ** 2)
    return [kappa2, kappa3, rd.CalcKappa1(facts.mol) * kappa2 / atoms]


def _over(above: float, below: float) -> float:
    return above / below if below else 0.0


def _balaban(facts: Facts) -> list[float]:
    sums = np.add.reduce(facts.steps, axis=0).tolist()
    circuits = len(facts.bonds) - len(facts.atoms) + 1
    if circuits + 1 == 0:
        return [0.0]
    total = 0.0
    for a, b, _ in sorted(facts.bonds):
        total += 1.0 / math.sqrt(sums[a] * sums[b])
    return [len(facts.bonds) / (circuits + 1) * total]


def _bertz(facts: Facts) -> list[float]:
    n = len(facts.atoms)
    if n < 2:
        return [0.0]
    connections = list(_connections(facts).values()) or [1]
    total = sum(connections)
    kinds: dict[int, int] = {}
    for number in facts.numbers.tolist():
        kinds[number] = kinds.get(number, 0) + 1
    bonding = total * (InfoEntropy(np.array(connections, float)) + math.log(total) / math.log(2))
    return [n * InfoEntropy(np.array(list(kinds.values()), float)) + bonding]


def _connections(facts: Facts) -> dict[tuple[int, ...], float]:
    """How often two bonds meet, or one bond is a multiple one, by the classes of their atoms."""
    nearest = np.rint(np.sort(facts.steps, axis=1)[:, :CUTOFF] * 1e4).astype(np.int64)
    seen: dict[bytes, int] = {}
    classes = [seen.setdefault(row.tobytes(), len(seen)) for row in nearest]
    around: list[list[tuple[int, int, float]]] = [[] for _ in classes]
    for a, b, order in facts.bonds:
        around[a].append((b, classes[b], order))
        around[b].append((a, classes[a], order))
    found: dict[tuple[int, ...], float] = {}
    for atom, (middle, neighbours) in enumerate(zip(classes, around, strict=True)):
        neighbours.sort()
        for i, (other, kind, order) in enumerate(neighbours):
            if order > 1 and other > atom:
                key: tuple[int, ...] = (min(middle, kind), max(middle, kind))
                found[key] = found.get(key, 0) + order * (order - 1) / 2
            for _, kind_j, order_j in neighbours[i + 1 :]:
                key = (min(kind, kind_j), middle, max(kind, kind_j))
                found[key] = found.get(key, 0) + order * order_j
    return found


def _densities(facts: Facts) -> list[float]:
    heavy = facts.mol.GetNumHeavyAtoms()
    prints = (made.GetSparseCountFingerprint(facts.mol) for made in facts.tables.morgan)
    return [float(len(one.GetNonzeroElements())) / heavy if heavy else 0.0 for one in prints]
