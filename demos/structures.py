"""Molecules and crystals from noise: a model that comes along goes on learning, gives structures back, makes new ones.

python demos/structures.py [FOLDER]      about two minutes on 2 cores; FOLDER (default runs/demo-structures) is replaced
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from rdkit import Chem

import isoform


def main(folder: Path) -> None:
    """Trains a little, samples both kinds into files, and reads these as other programs do."""
    shutil.rmtree(folder, ignore_errors=True)
    run = isoform.train("molecules/adit-demo", run_dir=folder)
    found = run.metrics["test"]
    right, off = found["back_types"], found["back_rmsd"]
    print(
        f"given back by way of the latents: {right:.1%} of elements right, {off:.3f} Angstrom off"
    )
    made = {"molecule": folder / "molecules.sdf", "crystal": folder / "crystals.cif"}
    for kind, file in made.items():
        words = [sys.executable, "-m", "isoform", "molecules", "sample", str(folder), "-n", "12"]
        subprocess.run([*words, "--kind", kind, "--out", str(file)], check=True)
    for mol in Chem.SDMolSupplier(str(made["molecule"]), removeHs=True):
        if mol is not None and mol.GetProp("valid") == "1":
            print(f"{mol.GetProp('_Name')}: {Chem.MolToSmiles(mol)}")
    answers = isoform.load(folder).embed([str(made["molecule"])])
    print(f"features of the encoder: {answers.shape}")
    print(f"the report, where they turn:  {folder / 'report.html'}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("runs/demo-structures"))
