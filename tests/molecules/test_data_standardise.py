"""Salts, charges and tautomers: each switch alone, counted; spelling; what is no molecule is named."""

import numpy as np
import pytest

from isoform.molecules.data.graphs import select
from isoform.molecules.data.labelled import Labelled, take
from isoform.molecules.data.parsing import canonical, parse_smiles
from isoform.molecules.data.records import PackedGraphs
from isoform.molecules.data.standardise import standardise

from .miniatures import data, refusal


def table(*smiles, **fields):
    count = len(smiles)
    fields = {
        "targets": np.arange(float(count))[:, None],
        "target_names": ["y"],
        "units": [""],
    } | fields
    return Labelled(
        smiles=list(smiles), names=[f"line {k + 2}" for k in range(count)], origin="t.csv", **fields
    )


SALT, CHARGED, ENOL = "CC(=O)[O-].[Na+]", "C[NH3+]", "CC(O)=CC"
ALL = (SALT, CHARGED, ENOL, "OCC", "C[N+](C)(C)C")


@pytest.mark.parametrize(
    ("switches", "smiles", "said"),
    [
        ({}, list(ALL), []),
        ({"canonical": True}, ["CC(=O)[O-].[Na+]", "C[NH3+]", "CC=C(C)O", "CCO", "C[N+](C)(C)C"], []),
        ({"fragment": True}, ["CC(=O)[O-]", "C[NH3+]", "CC=C(C)O", "CCO", "C[N+](C)(C)C"],
         ["1 molecule was reduced to the largest fragment (data.fragment)", "cut off: [Na+] (1)"]),
        ({"neutralise": True}, ["CC(=O)[O-].[Na+]", "CN", "CC=C(C)O", "CCO", "C[N+](C)(C)C"],
         ["1 molecule was neutralised (data.neutralise)"]),
        ({"fragment": True, "neutralise": True}, ["CC(=O)O", "CN", "CC=C(C)O", "CCO", "C[N+](C)(C)C"],
         ["1 molecule was reduced to the largest fragment (data.fragment)",
          "2 molecules were neutralised (data.neutralise)", "cut off: [Na+] (1)"]),
        ({"tautomer": True}, ["CC(=O)[O-].[Na+]", "C[NH3+]", "CCC(C)=O", "CCO", "C[N+](C)(C)C"],
         ["1 molecule was turned into the canonical tautomer (data.tautomer)"]),
    ],
)  # fmt: skip
def test_each_switch_does_its_own_and_is_counted(switches, smiles, said):
    found = standardise(table(*ALL), data(**switches))
    assert list(found.smiles) == smiles and list(found.findings) == said
    if switches:
        assert found.keys == found.smiles
    else:  # what was written stays, the keys alone are canonical
        assert list(found.keys) == [canonical(parse_smiles(text)) for text in ALL]


def test_a_heavy_counter_ion_is_cut_off():
    found = standardise(table("CN.F[P-](F)(F)(F)(F)F", "[Na+].[Cl-]"), data(fragment=True))
    assert found.smiles[0] == "CN" and found.smiles[1] in ("[Cl-]", "[Na+]")


def test_what_is_no_molecule_is_named_and_the_other_fields_follow():
    source = table(
        "CCO", "C1CC", "CN(C)(C)C", "CCN", "C" * 12, split=np.array(["train", "val", "test", "", "test"], dtype=object),
        weight=np.arange(5.0), skipped=[("line 9", "before")], findings=["earlier"],
    )  # fmt: skip
    found = standardise(source, data(max_atoms=11))
    assert found.smiles == ["CCO", "CCN"] and found.names == ["line 2", "line 5"]
    assert found.targets[:, 0].tolist() == [
        0,
        3,
    ] == found.weight.tolist() and found.split.tolist() == ["train", ""]
    assert found.skipped == [
        ("line 9", "before"), ("line 3", "is no SMILES: unclosed ring"),
        ("line 4", "Explicit valence for atom # 1 N, 4, is greater than permitted"),
        ("line 6", "has 12 atoms, more than 11"),
    ]  # fmt: skip
    assert list(found.findings) == ["earlier"]
    assert "t.csv: holds no molecule (line 2: is no SMILES: unclosed ring)" in refusal(
        standardise, table("C1CC", "x"), data()
    )


def packed(sizes, bonds):
    total, ends = sum(sizes), []
    for size, count in zip(sizes, bonds, strict=True):
        ends += [(0, size - 1)] * count
    return PackedGraphs(
        np.arange(total * 2, dtype=np.int16).reshape(-1, 2), np.arange(sum(bonds), dtype=np.int16)[:, None],
        np.array(ends, np.int32).reshape(-1, 2), np.concatenate([[0], np.cumsum(sizes)]),
        np.concatenate([[0], np.cumsum(bonds)]),
    )  # fmt: skip


def test_graphs_stay_as_they_are_and_cannot_be_cleaned():
    source = table("", "", graphs=packed((3, 2), (4, 0)))
    assert standardise(source, data()) is source and source.keys is None
    assert "data.tautomer = true: t.csv comes as graphs" in refusal(
        standardise, source, data(tautomer=True)
    )


def test_picking_rows_of_packed_graphs_gives_the_same_graphs():
    graphs = packed((3, 1, 5, 2), (4, 0, 2, 6))
    for rows in ([2, 0], [1], [], [3, 3, 1, 0]):
        found = select(graphs, np.array(rows, np.int64))
        assert len(found) == len(rows)
        for place, row in enumerate(rows):
            for ours, theirs in zip(found.graph(place), graphs.graph(row), strict=True):
                np.testing.assert_array_equal(ours, theirs)
    both = take(table("", "", "", "", graphs=graphs), np.array([3, 1]))
    assert len(both) == len(both.graphs) == 2 and both.names == ["line 5", "line 3"]


def test_what_was_cut_off_is_named_and_large_parts_apart():
    partner = "OC(=O)c1ccccc1"  # 9 heavy atoms: a co-crystal, no counter-ion
    drug = "CC(C)Cc1ccc(cc1)C(C)C(=O)O"
    found = standardise(
        table(f"{drug}.Cl", "CCN.Cl", f"{drug}.{partner}", "CCN.Cl.Cl.O"), data(fragment=True)
    )
    assert "4 molecules were reduced to the largest fragment (data.fragment)" in found.findings
    assert "cut off: Cl (4), O (1)" in found.findings
    assert (
        "cut off, and of 8 atoms or more, as in co-crystals and mixtures: O=C(O)c1ccccc1 (1)"
        in found.findings
    )


def test_max_atoms_is_of_what_stays():
    salt = "CCN." + ".".join(["OCC(O)CO"] * 3)
    assert standardise(table("CCO", salt), data(max_atoms=7)).names == ["line 2"]
    cut = standardise(table("CCO", salt), data(max_atoms=7, fragment=True))
    assert cut.names == ["line 2", "line 3"]
    large = standardise(table("CCO", "CCCCCCCC.Cl"), data(max_atoms=7, fragment=True))
    assert large.skipped == [("line 3", "has 8 atoms, more than 7")]
