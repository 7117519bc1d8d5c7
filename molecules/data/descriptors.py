"""RDKit's two-dimensional descriptors of molecules: masses, counts, charges, surfaces, shapes, fragments.

n molecules, F descriptors.

Of the 217 that RDKit 2026.09 lists, four are left out: Ipc grows exponentially with the atoms, and AvgIpc (its
logarithm's kin), SPS and qed (made of others in the list) take as long as a third of all others together.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from isoform.core.data.writers import usual_mode
from isoform.core.errors import UserError
from isoform.molecules.data.cache import cache_folder, processors
from isoform.molecules.data.fence import MANY_ATOMS, MANY_RINGS, refused
from isoform.molecules.data.processes import Processes, answer, live

VERSION = 1  # of what is stored: raise it whenever equal SMILES would give other numbers
FEW = 200  # molecules: worked out in a second, so not kept unless a folder is named
MANY = 1000  # molecules: from here on processes of their own save more time than they take to start
CHUNK = 100

# Walks of 4 bonds: RDKit counts paths, and a molecule whose 256 atoms have 4 neighbours each has 65,536. Where 20 atoms
# are each bound to all others a descriptor takes minutes.
MOST_WALKS = 70_000

_BCUT = tuple(
    f"BCUT2D_{kind}"
    for kind in ["MWHI", "MWLOW", "CHGHI", "CHGLO", "LOGPHI", "LOGPLOW", "MRHI", "MRLOW"]
)
_ESTATE = ("MaxAbsEStateIndex", "MaxEStateIndex", "MinAbsEStateIndex", "MinEStateIndex")
_PLAIN = """
    MolWt HeavyAtomMolWt ExactMolWt NumValenceElectrons NumRadicalElectrons MaxPartialCharge MinPartialCharge
    MaxAbsPartialCharge MinAbsPartialCharge FpDensityMorgan1 FpDensityMorgan2 FpDensityMorgan3 BalabanJ BertzCT
    Chi0 Chi0n Chi0v Chi1 Chi1n Chi1v Chi2n Chi2v Chi3n Chi3v Chi4n Chi4v HallKierAlpha Kappa1 Kappa2 Kappa3 Phi
    LabuteASA TPSA FractionCSP3 HeavyAtomCount NHOHCount NOCount NumAliphaticCarbocycles NumAliphaticHeterocycles
    NumAliphaticRings NumAmideBonds NumAromaticCarbocycles NumAromaticHeterocycles NumAromaticRings
    NumAtomStereoCenters NumBridgeheadAtoms NumHAcceptors NumHDonors NumHeteroatoms NumHeterocycles NumRotatableBonds
    NumSaturatedCarbocycles NumSaturatedHeterocycles NumSaturatedRings NumSpiroAtoms NumUnspecifiedAtomStereoCenters
    RingCount MolLogP MolMR
"""
_SURFACES = {"PEOE_VSA": 14, "SMR_VSA": 10, "SlogP_VSA": 12, "EState_VSA": 11, "VSA_EState": 10}
_FRAGMENTS = """
    Al_COO Al_OH Al_OH_noTert ArN Ar_COO Ar_N Ar_NH Ar_OH COO COO2 C_O C_O_noCOO C_S HOCCN Imine NH0 NH1 NH2 N_O
    Ndealkylation1 Ndealkylation2 Nhpyrrole SH aldehyde alkyl_carbamate alkyl_halide allylic_oxid amide amidine aniline
    aryl_methyl azide azo barbitur benzene benzodiazepine bicyclic diazo dihydropyridine epoxide ester ether furan
    guanido halogen hdrzine hdrzone imidazole imide isocyan isothiocyan ketone ketone_Topliss lactam lactone methoxy
    morpholine nitrile nitro nitro_arom nitro_arom_nonortho nitroso oxazole oxime para_hydroxylation phenol
    phenol_noOrthoHbond phos_acid phos_ester piperdine piperzine priamide prisulfonamd pyridine quatN sulfide sulfonamd
    sulfone term_acetylene tetrazole thiazole thiocyan thiophene unbrch_alkane urea
"""
# Written down rather than asked of RDKit: a model that was trained with one version is used with another.
NAMES: tuple[str, ...] = (
    *_BCUT, *_ESTATE, *_PLAIN.split(),
    *(f"{name}{i + 1}" for name, count in _SURFACES.items() for i in range(count)),
    *(f"fr_{name}" for name in _FRAGMENTS.split()),
)  # fmt: skip
# What an unknown element or a molecule without an atom can do inside RDKit.
_ERRORS = (
    ValueError,
    RuntimeError,
    TypeError,
    LookupError,
    ArithmeticError,
    MemoryError,
    AttributeError,
)
_MOST = float(np.finfo(np.float32).max)


def descriptors(
    smiles: Sequence[str],
    cache: str | None = None,
    *,
    workers: int | None = None,
    step: Callable[[int, int], None] = lambda done, total: None,
) -> np.ndarray:
    """float32 [n, F] by NAMES; NaN where RDKit can't compute one, a whole row where it can't read the molecule.

    cache      the folder where many are kept, as data.cache: the user's usual one if None
    workers    processes; by the number of molecules and processors if None. In them, what crashes or hangs RDKit costs
               its own molecule alone

    step       called with how many molecules of how many are done; what it raises stops the work

    Raises UserError where `cache` can't be written.
    """
    path = cache_folder(cache) / f"descriptors-{_key(smiles)}.npy"
    keeps = len(smiles) >= FEW or (cache is not None and len(smiles) > 0)
    if keeps and (found := _load(path, len(smiles))) is not None:
        return found
    if workers is None:
        workers = processors() if len(smiles) >= MANY else 0
    chunks = [list(smiles[start : start + CHUNK]) for start in range(0, len(smiles), CHUNK)]
    parts, done = [np.zeros((0, len(NAMES)), np.float32)], 0
    for part in _computed(chunks, workers):
        parts.append(part)
        done += len(part)
        step(done, len(smiles))
    values = np.concatenate(parts)
    if keeps:
        try:
            _save(values, path)
        except OSError as error:
            if cache is not None:  # the user's own choice; elsewhere they are simply not kept
                raise UserError(
                    f"{path.parent}: can't be written ({error.strerror}); choose another data.cache"
                ) from error
    return values


def _computed(chunks: Sequence[Sequence[str]], workers: int) -> Iterator[np.ndarray]:
    if not workers:
        yield from map(compute, chunks)
        return
    with processes_for(min(workers, len(chunks))) as processes:
        yield from processes.map(chunks)


def compute(smiles: Sequence[str]) -> np.ndarray:
    """float32 [n, F] of a few molecules, in this process."""
    from isoform.molecules.data.parsing import parse_smiles

    return compute_of([parse_smiles(text) for text in smiles])


def compute_of(mols: Sequence[Any]) -> np.ndarray:
    """float32 [n, F] of RDKit's molecules; NaN where there stands a text instead, why one can't be read.

    NaN as well for a molecule of atoms with too many neighbours, see MOST_WALKS, and for one that takes RDKit too long.
    """
    from isoform.molecules.data.parsing import quiet

    values = np.full((len(mols), len(NAMES)), np.nan)
    ask = _Questions()
    with quiet():
        for row, mol in enumerate(mols):
            if not (isinstance(mol, str) or _is_dense(mol) or _is_endless(mol)):
                values[row] = ask(mol)
    values[~np.isfinite(values)] = np.nan
    return np.clip(values, -_MOST, _MOST).astype(np.float32)


def _is_dense(mol: Any) -> bool:
    """Whether there are more walks, back and forth ones among them, than in any usual molecule of its size."""
    ends = np.array([(b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in mol.GetBonds()], np.int64)
    begin, end = np.concatenate([ends.reshape(-1, 2), ends.reshape(-1, 2)[:, ::-1]]).T
    ways = np.ones(mol.GetNumAtoms())
    for _ in range(4):
        ways = np.bincount(begin, ways[end], len(ways))
    return bool(ways.sum() > max(MOST_WALKS, 64 * len(ways)))


def _is_endless(mol: Any) -> bool:
    large = mol.GetNumAtoms() > MANY_ATOMS or mol.GetRingInfo().NumRings() > MANY_RINGS
    return large and bool(refused("describe", mol))


class _Questions:
    """A molecule's descriptors by NAMES: family by family, and one by one what is in none or a family can't tell."""

    def __init__(self) -> None:
        from rdkit.Chem import Descriptors

        from isoform.molecules.data.families import Tables, families

        place = {name: k for k, name in enumerate(NAMES)}
        self.tables = Tables()
        self.families = [
            (family.work, [place.pop(name) for name in family.names]) for family in families()
        ]
        self.others = list(place.values())
        self.own = [getattr(Descriptors, name, lambda mol: np.nan) for name in NAMES]

    def __call__(self, mol: Any) -> np.ndarray:
        """float64 [F]; NaN where RDKit can't compute one."""
        from isoform.molecules.data.families import Facts

        values, left = np.full(len(NAMES), np.nan), list(self.others)
        facts = Facts(mol, self.tables)
        for work, places in self.families:
            try:
                values[places] = work(facts)
            except _ERRORS:
                left += places
        for k in left:
            values[k] = _asked(self.own[k], mol)
        return values


def _asked(function: Callable[[Any], float], mol: Any) -> float:
    try:
        return function(mol)
    except _ERRORS:
        return np.nan


def processes_for(workers: int, **how: Any) -> Processes[np.ndarray]:
    """Processes that give descriptors; NaN for a molecule that crashes or hangs."""
    return Processes(workers, __name__, (), _failed, np.concatenate, **how)


def _failed(why: str) -> np.ndarray:
    return np.full((1, len(NAMES)), np.nan, np.float32)


def _key(smiles: Sequence[str]) -> str:
    from rdkit import __version__ as rdkit

    return hashlib.sha256(json.dumps([VERSION, rdkit, NAMES, list(smiles)]).encode()).hexdigest()


def _load(path: Path, count: int) -> np.ndarray | None:
    with suppress(OSError, ValueError):
        values = np.load(path, allow_pickle=False)
        if values.dtype == np.float32 and values.shape == (count, len(NAMES)):
            return cast(np.ndarray, values)
    return None


def _save(values: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    number, part = tempfile.mkstemp(dir=path.parent, prefix=".descriptors-")
    try:
        with os.fdopen(number, "wb") as file:
            np.save(file, values)
            os.fsync(file.fileno())
        usual_mode(Path(part))
        Path(part).replace(path)
    except OSError:
        Path(part).unlink(missing_ok=True)
        raise


@dataclass(frozen=True, eq=False)
class Normaliser:
    """Descriptors -> numbers of about unit size, by the training molecules; float64 [F] each.

    Clipped to `low` and `high` (the training molecules' 0.1 % and 99.9 % quantiles), less `mean`, divided by `std` (1
    where they are all alike, which makes it 0 everywhere), at most `LIMIT` from 0. What is missing becomes 0, the mean.
    """

    low: np.ndarray
    high: np.ndarray
    mean: np.ndarray
    std: np.ndarray

    LIMIT = 5.0  # a fragment that one molecule of a thousand has would be 30 deviations off

    @classmethod
    def fitted(cls, values: np.ndarray) -> Normaliser:
        """By training molecules [n, F]. A descriptor that none of them has is 0 for every molecule."""
        columns = []
        for column in values.T.astype(np.float64):
            known = column[np.isfinite(column)]
            low, high = np.quantile(known, (0.001, 0.999)) if len(known) else (0.0, 0.0)
            inside = np.clip(known, low, high) if low < high else np.full(1, low)
            columns.append((low, high, inside.mean(), inside.std() if low < high else 1.0))
        return cls(*np.array(columns, np.float64).reshape(-1, 4).T)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """[n, F] descriptors -> float32 [n, F] without NaN."""
        assert values.ndim == 2 and values.shape[1] == self.count, (
            "descriptors of another list than the training's"
        )
        scaled = (np.clip(values.astype(np.float64), self.low, self.high) - self.mean) / self.std
        return np.nan_to_num(np.clip(scaled, -self.LIMIT, self.LIMIT), nan=0.0).astype(np.float32)

    @property
    def count(self) -> int:
        """How many descriptors there are, F."""
        return len(self.mean)

    def to_json(self) -> dict[str, list[float]]:
        """What `from_json` makes an equal one of."""
        return {name: getattr(self, name).tolist() for name in ("low", "high", "mean", "std")}

    @classmethod
    def from_json(cls, given: dict[str, list[float]]) -> Normaliser:
        """See `to_json`."""
        return cls(*(np.array(given[name], np.float64) for name in ("low", "high", "mean", "std")))


def serve(requests: BinaryIO, replies: BinaryIO) -> None:
    """A worker's life; see processes.answer."""
    answer(requests, replies, lambda texts, _: compute(cast(list[str], texts)))


if __name__ == "__main__":
    live(serve)
