"""Molecules, from embedded data to a picture: learns QM9's HOMO-LUMO gap from 2D graphs, predicts, embeds, draws.

python demos/molecules.py [FOLDER]       about two minutes on 2 cores; FOLDER (default runs/demo-molecules) is replaced
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
from rdkit import Chem

import isoform
from isoform.molecules.demo import draw

NAMES = {
    "CCCCCC": "hexane", "C=CC=CC=C": "hexatriene", "c1ccccc1": "benzene", "O=C1C=CC(=O)C=C1": "benzoquinone",
    "CCO": "ethanol", "c1ccoc1": "furan", "N#CC#N": "cyanogen", "NCC(=O)O": "glycine",
}  # fmt: skip


def main(folder: Path) -> None:
    """Trains, predicts, embeds and draws."""
    shutil.rmtree(folder, ignore_errors=True)
    run = isoform.train("molecules/graphormer-demo", run_dir=folder)
    for name, found in {"the model": run.metrics, **run.results["baselines"]}.items():
        print(f"{name:20} {found['test']['mae']:.2f} eV off on average, of all test molecules")

    # Molecules as a program of your own would have them: SMILES, RDKit's molecules, or files of either.
    model = isoform.load(folder)
    molecules = [*NAMES, Chem.MolFromSmiles("CC(C)=O"), "C1CC"]  # the last one is no molecule
    for answer in model.predict(molecules):
        name = NAMES.get(answer["input"]) or answer["smiles"] or answer["input"]
        if answer["error"]:
            print(f"{name}: {answer['error']}")
            continue
        between = f"{answer['low 0.9']:.1f} to {answer['high 0.9']:.1f}"
        print(
            f"{name:13} {answer['prediction']:5.2f} eV (in 9 of 10 cases {between}); most like {answer['nearest']}"
        )

    features = model.embed(list(NAMES))
    features = features - features.mean(0)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    alike = features @ features.T - 2 * np.eye(len(NAMES))
    one, other = np.unravel_index(alike.argmax(), alike.shape)
    print(f"most alike to the model: {list(NAMES.values())[one]} and {list(NAMES.values())[other]}")
    print(f"the picture: {draw(folder)}")
    print(f"the report:  {folder / 'report.html'}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("runs/demo-molecules"))
