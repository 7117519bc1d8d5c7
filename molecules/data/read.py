"""data.source -> molecules with their labels, as a source gives them."""

from __future__ import annotations

from isoform.core.errors import UserError
from isoform.molecules.config import DataConfig
from isoform.molecules.data.file import read_file
from isoform.molecules.data.labelled import Labelled


def read_molecules(data: DataConfig) -> Labelled:
    """Reads what data.source says; rows whose text can't be understood are in `skipped`. See clean.py.

    Whether a SMILES is a molecule is found out later, by standardising or featurising. Raises UserError, one sentence,
    for a missing file (with its source) and for settings that don't fit.
    """
    if data.source == "file":
        if data.path is None:
            raise UserError(
                "data.path is not set: give a file of molecules (.csv .smi .sdf .parquet), --set data.path=FILE"
            )
        return read_file(data.path, data)
    if data.source == "qm9":
        from isoform.molecules.data.qm9 import read_qm9

        return read_qm9(data)
    if data.source.startswith("pyg:"):
        from isoform.molecules.data.pyg import read_pyg

        return read_pyg(data)
    if data.source in ("zinc12k", "zinc-full"):
        from isoform.molecules.data.zinc import read_zinc

        return read_zinc(data)
    from isoform.molecules.data.benchmarks import read_benchmark

    return read_benchmark(data)
