"""QM9 inside qm9pack: how many, which targets, in which units, by the published csv and by torch-geometric."""

import importlib.metadata
import sys
import warnings

import numpy as np
import pytest

from isoform.molecules.data import qm9
from isoform.molecules.data.read import read_molecules
from isoform.molecules.data.splits import split_rows

from .miniatures import data, refusal

try:
    importlib.metadata.distribution("qm9pack")
except importlib.metadata.PackageNotFoundError:
    pytest.skip("qm9pack is not installed", allow_module_level=True)

NAMES = [
    "mu", "alpha", "homo", "lumo", "gap", "r2", "zpve", "u0", "u298", "h298", "g298", "cv", "u0_atom", "u298_atom",
    "h298_atom", "g298_atom", "a", "b", "c",
]  # fmt: skip
# The first row of the published gdb9.sdf.csv (methane): A B C mu alpha homo lumo gap r2 zpve u0 u298 h298 g298 cv, and
# atomisation energies in kcal/mol.
METHANE = (
    157.7118, 157.70997, 157.70699, 0.0, 13.21, -0.3877, 0.1171, 0.5048, 35.3641, 0.044749, -40.47893, -40.476062,
    -40.475117, -40.498597, 6.469, -395.999594594, -398.643290011, -401.014646522, -372.471772148,
)  # fmt: skip
KCAL = 0.04336414  # eV of a kcal/mol, torch-geometric's


@pytest.fixture(scope="module")
def everything():
    return read_molecules(data(source="qm9"))


def test_what_it_holds(everything):
    assert len(everything) == qm9.ROWS == 130_831 and everything.targets.shape == (130_831, 19)
    assert list(everything.target_names) == NAMES and len(everything.units) == 19
    assert dict(zip(NAMES, everything.units, strict=True))["gap"] == "eV"
    assert np.isfinite(everything.targets).all() and everything.task == "regression"
    assert (
        everything.names[0] == "gdb_1"
        and everything.names[-1] == "gdb_133885"
        and len(set(everything.names)) == 130_831
    )
    assert (
        everything.smiles[:5] == ["C", "N", "O", "C#C", "C#N"]
        and len(set(everything.smiles)) == 130_831
    )
    assert "the 3,054 uncharacterised ones" in everything.findings[0]
    assert "qm9pack" not in sys.modules


def test_methane_in_electron_volts(everything):
    rotation, energies, atomised = METHANE[:3], METHANE[3:15], METHANE[15:]
    hartree = {"homo", "lumo", "gap", "zpve", "u0", "u298", "h298", "g298"}
    wanted = [
        value * (qm9.EV if name in hartree else 1)
        for name, value in zip(NAMES[:12], energies, strict=True)
    ]
    wanted += [value * KCAL for value in atomised] + list(rotation)
    np.testing.assert_allclose(everything.targets[0], wanted, rtol=2e-6, atol=1e-9)


def test_order_and_atom_energies_are_torch_geometrics():
    pytest.importorskip("torch_geometric")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch_geometric.datasets.qm9 import HAR2EV, atomrefs, conversion
    assert HAR2EV == qm9.EV
    energies = {
        name for name, factor in zip(NAMES, conversion.tolist(), strict=True) if factor != 1
    }
    assert energies == {name for name, unit in qm9.UNITS.items() if unit == "eV"}
    # Its table was made with a slightly different hartree.
    np.testing.assert_allclose(
        qm9.ATOMS.T * qm9.EV, [atomrefs[row] for row in (7, 8, 9, 10)], rtol=2e-7
    )


def test_targets_are_chosen_by_name(everything, monkeypatch):
    monkeypatch.setattr(
        qm9,
        "_read",
        lambda _: (["C", "N"], ["gdb_1", "gdb_2"], np.arange(30.0).reshape(2, 15), np.ones((2, 5))),
    )
    found = read_molecules(data(source="qm9", targets=("gap", "MU")))
    assert found.target_names == ["gap", "mu"] and found.units == ["eV", "D"]
    np.testing.assert_allclose(found.targets, [[7 * qm9.EV, 3], [22 * qm9.EV, 18]])


def test_a_fixed_split(everything):
    splits = split_rows(
        everything, data(source="qm9", counts=(20_000, 2_000, 2_000), duplicates="keep")
    )
    assert [len(splits[part]) for part in ("train", "val", "test")] == [20_000, 2_000, 2_000]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"targets": ("gapp",)}, "did you mean gap?"),
        ({"path": "x.csv"}, "brings its own file"),
        ({"split": "given"}, "comes without splits"),
        ({"task": "binary"}, "are numbers; use regression"),
    ],
)
def test_settings_that_do_not_fit(settings, words):
    assert words in refusal(read_molecules, data(source="qm9", **settings))


def test_another_version_is_refused(monkeypatch):
    monkeypatch.setitem(qm9.SHA256, "qm9_part1.csv", "0" * 64)
    assert "pip install --force-reinstall qm9pack==1.0.3" in refusal(
        read_molecules, data(source="qm9")
    )
    monkeypatch.setattr(importlib.metadata, "distribution", _missing)
    assert "is not installed: pip install qm9pack==1.0.3" in refusal(
        read_molecules, data(source="qm9")
    )


def _missing(name):
    raise importlib.metadata.PackageNotFoundError(name)
