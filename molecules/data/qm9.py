"""QM9 from the package qm9pack, read as files: 130,831 molecules of up to 9 atoms of C, N, O and F, with 19 targets.

Of the 133,885 molecules of QM9 (Ramakrishnan et al. 2014, doi:10.1038/sdata.2014.22) the package leaves out the 3,054
whose relaxed geometry is another molecule than the one meant ("uncharacterized"), as others do too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import numpy as np

from isoform.core.data.embedded import read_embedded
from isoform.core.errors import UserError
from isoform.molecules.config import DataConfig
from isoform.molecules.data.columns import pick
from isoform.molecules.data.labelled import Labelled

VERSION = "1.0.3"
ROWS = 130_831
SHA256 = {
    "qm9_part1.csv": "19f0a5d595462d52cd82eef3370f3e9eb55a1f52cb14985657200349568deff3",
    "qm9_part2.csv": "2bca113fdc0b28a13563c80ed9b240e934f3da6c64c64fe74ddb4f0f36036e61",
    "qm9_part3.csv": "9c5efb5733d2af149db8d95d36ff198b4ffed12d9f7b344220a1e5877d5c6a43",
}
# In the order, and in the units, of torch-geometric's QM9.
UNITS = {
    "mu": "D", "alpha": "a0^3", "homo": "eV", "lumo": "eV", "gap": "eV", "r2": "a0^2", "zpve": "eV", "u0": "eV",
    "u298": "eV", "h298": "eV", "g298": "eV", "cv": "cal/(mol K)", "u0_atom": "eV", "u298_atom": "eV",
    "h298_atom": "eV", "g298_atom": "eV", "a": "GHz", "b": "GHz", "c": "GHz",
}  # fmt: skip
TARGETS = tuple(UNITS)
EV = 27.211386246  # of a hartree
# Energies of single atoms, hartree, by the same method (B3LYP/6-31G(2df,p)): atomref.txt of QM9. Rows H C N O F,
# columns U at 0 K, U, H and G at 298.15 K.
ATOMS = np.array([
    [-0.500273, -0.498857, -0.497912, -0.510927],
    [-37.846772, -37.845355, -37.844411, -37.861317],
    [-54.583861, -54.582445, -54.581501, -54.598897],
    [-75.064579, -75.063163, -75.062219, -75.079532],
    [-99.718730, -99.717314, -99.716370, -99.733544],
])  # fmt: skip
_HEADER = (
    b"RotA_GHz,RotB_GHz,RotC_GHz,Dipole_debye,Polarizability_bohr3,HOMO_au,LUMO_au,HOMO_LUMO_gap_au,R2_bohr2,ZPVE_au,"
    b"InternalEnergy_0K_au,InternalEnergy_298K_au,Enthalphy_298K_au,GibbsFreeEnergy_298K_au,Heatcapacity_Cv_cal_mol_K"
)
_NUMBERS = _HEADER.count(b",") + 1
_HARTREE = [5, 6, 7, 9, 10, 11, 12, 13]  # of these columns


def read_qm9(data: DataConfig) -> Labelled:
    """QM9 with data.targets (all 19 if unset) in eV where they are energies, atomisation energies included.

    Names are the published ones (gdb_1 to gdb_133885). The package is read as files, never imported.
    Raises UserError where it isn't installed or isn't the version that is known, and for settings of other files.
    """
    for key in ("path", "smiles", "label", "classes"):
        if getattr(data, key) is not None:
            raise UserError(
                f'data.{key} is set, but data.source = "qm9" brings its own file; unset it'
            )
    if data.split == "given":
        raise UserError(
            "data.split = given: QM9 comes without splits; use random, scaffold or cluster"
        )
    if data.task not in ("auto", "regression"):
        raise UserError(f"data.task = {data.task}: the targets of QM9 are numbers; use regression")
    wanted = TARGETS if data.targets is None else data.targets
    chosen = [pick(name, TARGETS, "QM9", "data.targets") for name in wanted]
    smiles, names, numbers, counts = _read(qm9_files())
    values = _targets(numbers, counts)
    return Labelled(
        smiles=smiles,
        names=names,
        targets=np.ascontiguousarray(values[:, [TARGETS.index(name) for name in chosen]]),
        target_names=chosen,
        units=[UNITS[name] for name in chosen],
        origin=f"QM9 (qm9pack {VERSION})",
        licence="MIT (qm9pack); of QM9 itself see doi:10.6084/m9.figshare.c.978904",
        sha256=hashlib.sha256("".join(SHA256.values()).encode()).hexdigest(),
        findings=[
            f"{len(smiles):,} of QM9's 133,885 molecules: the package leaves out the 3,054 uncharacterised ones"
        ],
        task="regression",
    )


def qm9_files() -> Iterator[bytes]:
    """The package's files one after the other, 80 MB each. Raises UserError where it isn't installed as it is known."""
    for name, digest in SHA256.items():
        yield read_embedded("qm9pack", VERSION, f"qm9pack/data/{name}", digest, "QM9 comes")


def _read(files: Iterable[bytes]) -> tuple[list[str], list[str], np.ndarray, np.ndarray]:
    """(SMILES, names, float64 [n, 15] as in the files, atoms of H, C, N, O and F [n, 5]).

    The files are known to the byte, so lines are cut where the columns that are needed stand: by the quotation marks in
    front, and the fifteen numbers at the end; coordinates and spectra, most of the 226 MB, are passed over.
    """
    smiles, names, values, elements = [], [], [], []
    for raw in files:
        numbers: list[bytes] = []
        counts: list[bytes] = []
        header, *lines = raw.split(b"\n")
        assert header.rstrip().endswith(_HEADER)
        for line in lines:
            if not line:
                continue
            _, _, index, text, _, _, _, atoms, _ = line.split(b'"', 8)
            smiles.append(text.decode("ascii"))
            names.append(f"gdb_{int(index.strip(b','))}")
            counts.append(atoms.strip(b"[]"))
            numbers += line.rsplit(b",", _NUMBERS)[1:]
        values.append(np.array(numbers, dtype="S24").astype(np.float64).reshape(-1, _NUMBERS))
        elements.append(
            np.array(b",".join(counts).split(b","), dtype="S4").astype(np.float64).reshape(-1, 5)
        )
    return smiles, names, np.concatenate(values), np.concatenate(elements)


def _targets(numbers: np.ndarray, elements: np.ndarray) -> np.ndarray:
    """[n, 19] in TARGETS' order and units."""
    numbers = numbers.copy()
    atomised = numbers[:, 10:14] - elements @ ATOMS
    numbers[:, _HARTREE] *= EV
    rotation, rest = numbers[:, :3], numbers[:, 3:]
    return np.concatenate([rest, atomised * EV, rotation], 1)
