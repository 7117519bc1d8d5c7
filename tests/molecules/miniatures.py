"""Benchmarks of 20 molecules in their official file layouts, and tables of one's own."""

from __future__ import annotations

import gzip
import pickle
from functools import partial
from pathlib import Path

import numpy as np
import torch

import answers
import reported
from isoform.molecules.config import DataConfig
from isoform.molecules.data.clean import clean_and_split
from isoform.molecules.data.file import read_file
from isoform.molecules.data.labelled import Labelled
from isoform.molecules.data.parsing import parse_smiles
from isoform.molecules.data.read import read_molecules

# Twenty different molecules; the last three share a framework with the tenth.
SMILES = (
    "CCO", "CC(=O)O", "c1ccccc1", "CCN", "C", "C#N", "[Na+].CC(=O)[O-]", "C[C@H](N)C(=O)O", "F/C=C/F", "C1CCCCC1",
    "c1ccncc1", "O=C=O", "CC(C)(C)O", "C1CC1", "N#CC1CC1", "CS(C)=O", "Clc1ccc(Br)cc1", "CC1CCCCC1", "OC1CCCCC1",
    "NC1CCCCC1",
)  # fmt: skip
PARTS = {"train": range(0, 13), "valid": range(13, 16), "test": range(16, 20)}

case = partial(reported.case, "molecules")


def data(**settings):
    """A DataConfig; paths may be Path."""
    return DataConfig(
        **{key: str(value) if isinstance(value, Path) else value for key, value in settings.items()}
    )


def read(path: Path, **settings) -> Labelled:
    """A file, read with these settings of the data."""
    return read_file(path, data(**settings))


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    """A text file, packed where its name ends in .gz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = text.encode(encoding)
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


def load_molecules(settings: DataConfig) -> Labelled:
    """Read, cleaned and split."""
    return clean_and_split(read_molecules(settings), settings)


def refusal(call, *args) -> str:
    """The sentence that a call is refused with."""
    return answers.refusal(lambda: call(*args))


def esol(root: Path) -> Path:
    """delaney-processed.csv; label k of row k is -k / 2."""
    head = (
        "Compound ID,ESOL predicted log solubility in mols per litre,Minimum Degree,Molecular Weight,"
        "Number of H-Bond Donors,Number of Rings,Number of Rotatable Bonds,Polar Surface Area,"
        "measured log solubility in mols per litre,smiles"
    )
    rows = [
        f'"name, {k}",-1.0,1,{100 + k}.5,1,0,2,20.0,{-k / 2},{smiles} '
        for k, smiles in enumerate(SMILES)
    ]
    write(root / "delaney-processed.csv", "\n".join([head, *rows]) + "\n")
    return root


def bbbp(root: Path) -> Path:
    """BBBP.csv: even rows do not pass the barrier."""
    rows = [f"{k + 1},name {k},{k % 2},{smiles}" for k, smiles in enumerate(SMILES)]
    write(root / "BBBP.csv", "\n".join(["num,name,p_np,smiles", *rows]) + "\n")
    return root


def bace(root: Path) -> Path:
    """bace.csv with a few of its 590 descriptors; Model is the authors' split."""
    model = {row: name.capitalize() for name, rows in PARTS.items() for row in rows}
    rows = [
        f"{s},BACE_{k + 1},{k % 2},{model[k]},{4 + k / 10},{300 + k},{k}"
        for k, s in enumerate(SMILES)
    ]
    write(root / "bace.csv", "\n".join(["mol,CID,Class,Model,pIC50,MW,canvasUID", *rows]) + "\n")
    return root


def molhiv(root: Path) -> Path:
    """ogbg_molhiv as OGB unpacks it."""
    rows = [f"{k % 2},{smiles},HIV{k}" for k, smiles in enumerate(SMILES)]
    return _ogb(root / "ogbg_molhiv", ["HIV_active,smiles,mol_id", *rows], root)


def molpcba(root: Path) -> Path:
    """ogbg_molpcba with its 128 targets; target t of row k is missing where (k + t) % 3 == 0."""
    head = [*(f"PCBA-{1000 + t}" for t in range(128)), "smiles", "mol_id"]
    rows = []
    for k, smiles in enumerate(SMILES):
        cells = ["" if (k + t) % 3 == 0 else f"{(k * t) % 2}.0" for t in range(128)]
        rows.append(",".join([*cells, smiles, f"CID{k}"]))
    return _ogb(root / "ogbg_molpcba", [",".join(head), *rows], root)


def _ogb(folder: Path, lines: list[str], root: Path) -> Path:
    write(folder / "mapping" / "mol.csv.gz", "\n".join(lines) + "\n")
    for part, rows in PARTS.items():
        write(folder / "split" / "scaffold" / f"{part}.csv.gz", "\n".join(map(str, rows)) + "\n")
    return root


def pcqm4mv2(root: Path, *, new: bool = True) -> Path:
    """pcqm4m-v2 as its archive unpacks; the last two of the 20 are test molecules without a label."""
    hidden = {18: "test-dev", 19: "test-challenge"}
    rows = [f"{k},{smiles},{'' if k in hidden else 1 + k / 8}" for k, smiles in enumerate(SMILES)]
    folder = root / "pcqm4m-v2"
    write(folder / "raw" / "data.csv.gz", "\n".join(["idx,smiles,homolumogap", *rows]) + "\n")
    parts = {
        "train": range(0, 13),
        "valid": range(13, 18),
        "test-dev": [18],
        "test-challenge": [19],
    }
    splits = {name: np.array(list(rows), np.int64) for name, rows in parts.items()}
    torch.save(splits, folder / "split_dict.pt", _use_new_zipfile_serialization=new)
    return root


def zinc(root: Path, protocol: int = 3) -> Path:
    """The published pickles (raw/train.pickle, ...) of 13 + 3 + 4 molecules, of which the 12k subset takes 11 + 2 + 3.

    Label k of molecule k is k - 0.25; an atom's type is its element's number, a bond's its order.
    """
    folder = root / "raw"
    folder.mkdir(parents=True)
    for name, rows in PARTS.items():
        part = "val" if name == "valid" else name
        # As it was written, with torch's legacy bytes for every tensor.
        content = [_zinc_molecule(SMILES[row], row - 0.25) for row in rows]
        (folder / f"{part}.pickle").write_bytes(pickle.dumps(content, protocol))
        few = {"train": 11, "val": 2, "test": 3}[part]
        (folder / f"{part}.index").write_text(
            ",".join(str(k) for k in range(len(rows))[-few:]) + "\n"
        )
    return root


def _zinc_molecule(smiles: str, label: float) -> dict[str, object]:
    mol = parse_smiles(smiles)
    n = mol.GetNumAtoms()
    adjacency = torch.zeros(n, n, dtype=torch.long)
    for bond in mol.GetBonds():
        i, j = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        adjacency[i, j] = adjacency[j, i] = int(bond.GetBondTypeAsDouble() * 2)
    return {
        "num_atom": n,
        "atom_type": torch.tensor([atom.GetAtomicNum() for atom in mol.GetAtoms()]),
        "bond_type": adjacency,
        "logP_SA_cycle_normalized": torch.tensor([label]),
    }


def sd_record(
    smiles: str, title: str = "", items: dict[str, str] | None = None, v3000: bool = False
) -> str:
    """One record of an SD file, with coordinates in 2-D, so that stereo centres are wedges."""
    from rdkit import Chem
    from rdkit.Chem import rdDepictor

    mol = parse_smiles(smiles)
    rdDepictor.Compute2DCoords(mol)
    mol.SetProp("_Name", title)
    block = Chem.MolToMolBlock(mol, forceV3000=v3000)
    return (
        block
        + "".join(f"> <{name}>\n{value}\n\n" for name, value in (items or {}).items())
        + "$$$$\n"
    )
