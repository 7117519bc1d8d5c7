"""Which columns of a chemist's table are predicted, and how columns beside them qualify their numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from isoform.core.errors import UserError
from isoform.molecules.data.clean import clean
from isoform.molecules.data.file import read_file
from isoform.molecules.data.labelled import Labelled
from isoform.molecules.data.qualifiers import direction_of, words_of
from isoform.molecules.data.targets import describe_left_out

from .miniatures import case, data, read, refusal, write

ROWS = 17
MOLECULES = [f"{'C' * k}O" for k in range(1, ROWS + 1)]
Y = [round(0.37 * (k % 7) - 1, 2) for k in range(ROWS)]
SPREAD = [
    (7919 * k + 41) % 90_001 + 11 for k in range(ROWS)
]  # whole, all different, far from dense


def table(folder: Path, header: str, *columns: list) -> Path:
    lines = [header, *(",".join(map(str, row)) for row in zip(MOLECULES, *columns, strict=True))]
    return write(folder / "t.csv", "\n".join(lines) + "\n")


def read_case(name: str, **settings) -> Labelled:
    return read(case(name), **settings)


def reasons(found: Labelled) -> dict[str, str]:
    return dict(found.unlearned)


# Identifiers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["CID", "PUBCHEM_CID", "compound_id", "MoleculeID", "molid", "idx", "Unnamed: 0", "__index_level_0__", "cmpd_no"],
)  # fmt: skip
def test_whole_numbers_under_the_name_of_an_identifier_are_no_target(tmp_path, name):
    found = read_file(table(tmp_path, f"smiles,{name},y", SPREAD, Y), data())
    assert list(found.target_names) == ["y"] and reasons(found) == {name: "identifier"}
    assert f"not to be predicted (identifier): {name}" in found.findings
    asked = read_file(tmp_path / "t.csv", data(targets=(name,)))
    assert asked.targets[:, 0].tolist() == SPREAD, "data.targets has the last word"


@pytest.mark.parametrize("name", ["pIC50", "lipid", "octane number", "IC50_nM", "密度", "acid"])
def test_a_property_is_no_identifier_for_its_letters(tmp_path, name):
    values = [k % 5 for k in range(ROWS)]
    assert list(read_file(table(tmp_path, f"smiles,{name}", values), data()).target_names) == [name]


def test_repeated_identifiers_are_found_and_numbers_with_fractions_are_none(tmp_path):
    path = table(tmp_path, "smiles,assay_id,y", [k % 3 + 700 for k in range(ROWS)], Y)
    assert list(read_file(path, data()).target_names) == ["y"]
    path = table(tmp_path, "smiles,assay_id", [k % 3 + 0.5 for k in range(ROWS)])
    assert list(read_file(path, data()).target_names) == ["assay_id"]


def test_row_numbers_in_any_order_and_the_index_of_a_part(tmp_path):
    shuffled = [(k * 5) % ROWS for k in range(ROWS)]
    found = read_file(table(tmp_path, "smiles,rank of y,y", shuffled, Y), data())
    assert reasons(found) == {"rank of y": "running number"}
    lines = ["", *map(str, SPREAD)]  # the index of a test split is far from dense
    rows = zip(lines, ["smiles", *MOLECULES], ["y", *Y], strict=True)
    path = write(tmp_path / "i.csv", "\n".join(",".join(map(str, row)) for row in rows) + "\n")
    found = read_file(path, data())
    assert list(found.target_names) == ["y"] and reasons(found) == {"column 1": "identifier"}


def test_in_doubt_it_is_asked_with_the_list(tmp_path):
    path = table(tmp_path, "smiles,code,pIC50", SPREAD, Y)
    said = refusal(lambda: read_file(path, data()))
    assert '"code" holds another whole number in every row, as identifiers do' in said
    assert "--set data.targets=pIC50 without it, or --set data.targets=code,pIC50" in said
    path = table(tmp_path, "smiles,code,p I", SPREAD, Y)
    assert "--set 'data.targets=p I' without it" in refusal(lambda: read_file(path, data()))
    alone = read_file(table(tmp_path, "smiles,code", SPREAD), data())
    assert list(alone.target_names) == ["code"] and any(
        "if it is an identifier" in f for f in alone.findings
    )
    measured = read_file(table(tmp_path, "smiles,IC50 nM,y", SPREAD, Y), data())
    assert list(measured.target_names) == ["IC50 nM", "y"], "its name says that it is measured"


def test_classes_beside_an_identifier_are_the_target(tmp_path):
    kinds = [("Active", "Inactive", "Unclear")[k % 3] for k in range(ROWS)]
    found = read_file(table(tmp_path, "smiles,SID,Outcome", SPREAD, kinds), data())
    assert found.task == "multiclass" and found.classes == ("Active", "Inactive", "Unclear")
    assert reasons(found) == {"SID": "identifier"}


@pytest.mark.parametrize("name", ["cid_target.csv", "shuffled_index.csv"])
def test_cases_of_identifiers(name):
    found = read_case(name)
    assert list(found.target_names) == ["pIC50"]
    np.testing.assert_array_equal(found.targets[:3, 0], [0.94, -1.4, -0.68])


def test_case_pubchem_outcome():
    found = read_case("pubchem_outcome.csv")
    assert list(found.target_names) == ["Outcome"] and found.task == "multiclass"
    assert found.classes == ("Active", "Inactive", "Inconclusive") and found.targets[
        :3, 0
    ].tolist() == [0, 1, 2]


# Nothing to learn -----------------------------------------------------------------------------------------------------


def test_where_nothing_can_be_learned_every_column_has_its_reason(tmp_path):
    notes = [f"note {k}" for k in range(ROWS)]
    path = table(tmp_path, "smiles,same,none,note,id", [4] * ROWS, [""] * ROWS, notes, SPREAD)
    found = read_file(path, data())
    with pytest.raises(UserError, match="no column of labels to learn") as error:
        clean(found, data())
    for reason in ("the same in every row: same", "empty: none", "text: note", "identifier: id"):
        assert reason in str(error.value)
    assert describe_left_out([("a", "x"), ("b", "y"), ("c", "x")]) == ["x: a, c", "y: b"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("all_missing_only.csv", "(empty: a)"),
        ("one_class_all.csv", "(the same in every row: active)"),
        ("units_mixed.csv", 'column "IC50": its cells have several units (uM, nM)'),
        ("plusminus.csv", 'column "IC50": its cells look like numbers that can\'t be read'),
    ],
)
def test_cases_of_nothing_to_learn(name, words):
    assert words in refusal(lambda: clean(read_case(name), data()))


def test_case_percent():
    found = read_case("percent.csv")
    assert list(found.units) == ["%"] and found.targets[:3, 0].tolist() == [28, 42, 20]
    assert any("12 % is 12" in line for line in found.findings)


# Notation and sentinels -----------------------------------------------------------------------------------------------


def test_case_thousands():
    found = read_case("thousands.csv")
    assert found.targets[:3, 0].tolist() == [63701, 81443, 25348]
    assert any("the comma is read as a thousands mark" in line for line in found.findings)
    assert read_case("thousands.csv", decimal=",").targets[0, 0] == 63.701


@pytest.mark.parametrize(
    ("cells", "value", "words"),
    [
        (['"1,234.5"', '"2,000.5"'], 1234.5, "the comma is a thousands mark (such as 1,234.5)"),
        (['"1,5"', '"2,25"'], 1.5, "the comma is the decimal mark"),
        (['"12,345"', '"23,456"'], 12345, "the comma is read as a thousands mark"),
        (["1'234.5", "2'000.5"], 1234.5, "apostrophes are thousands marks"),
    ],
)
def test_every_notation_that_is_chosen_is_a_finding(tmp_path, cells, value, words):
    found = read_file(table(tmp_path, "smiles,dose", [*cells, *[""] * (ROWS - 2)]), data())
    assert found.targets[0, 0] == value and any(words in line for line in found.findings)


def test_case_sentinel():
    found = read_case("sentinel_999.csv")
    assert any(
        "holds -999 in 4 cells" in f and "data.missing = [-999]" in f for f in found.findings
    )
    assert np.isnan(read_case("sentinel_999.csv", missing=(-999,)).targets[[0, 5], 0]).all()


# Relations, units and kinds -------------------------------------------------------------------------------------------


def test_a_column_of_relations_makes_bounds(tmp_path):
    signs = [("=", ">", "'<'", "~", "")[k % 5] for k in range(ROWS)]
    path = table(tmp_path, "smiles,qualifier,ki", signs, Y)
    found = read_file(path, data(censored="loss"))
    assert found.bounds is not None
    expected = [{">": 1, "'<'": -1}.get(sign, 0) for sign in signs]
    assert found.bounds[:, 0].tolist() == expected and found.targets[:, 0].tolist() == Y
    assert reasons(found) == {"qualifier": "relations of another column"}
    dropped = read_file(path, data(censored="drop"))
    assert np.isnan(dropped.targets[:, 0]).tolist() == [sign in (">", "'<'", "~") for sign in signs]
    plain = read_file(path, data())
    assert plain.bounds is None and plain.targets[:, 0].tolist() == Y
    assert any("10 censored values count as their bound" in line for line in plain.findings)


def test_qualifiers_go_by_the_rest_of_the_name(tmp_path):
    signs = [">" if k % 2 else "=" for k in range(ROWS)]
    path = table(tmp_path, "smiles,b_relation,a_value,b_value", signs, Y, Y[::-1])
    found = read_file(path, data(censored="loss"))
    assert found.bounds is not None
    assert not found.bounds[:, 0].any() and found.bounds[:, 1].tolist() == [
        k % 2 for k in range(ROWS)
    ]
    alone = read_file(path, data(censored="loss", targets=("a_value",)))
    assert alone.bounds is None, "they belong to b_value, which isn't predicted"
    assert any('the column "b_relation" is not used' in line for line in alone.findings)


def test_what_belongs_to_no_target_is_named_and_numbers_are_no_units(tmp_path):
    units = ["nM"] * ROWS
    path = table(tmp_path, "smiles,ki,ic50,units", Y, Y[::-1], units)
    found = read_file(path, data())
    assert list(found.units) == ["", ""]
    assert any('the column "units" is not used' in line for line in found.findings)
    counts = table(tmp_path, "smiles,y,n_units", Y, [k % 3 for k in range(ROWS)])
    assert read_file(counts, data(targets=("y",))).targets[:, 0].tolist() == Y


def test_bounds_in_cells_have_a_direction():
    assert [direction_of(cell) for cell in (">10", " <= 3", "≥ 7", "~3", "<<1", "5")] == [
        1,
        -1,
        1,
        0,
        -1,
        0,
    ]
    assert words_of("PUBCHEM_CID") == ["pubchem", "cid"] and words_of("MoleculeId") == [
        "molecule",
        "id",
    ]


def test_molar_units_become_the_most_common_one_and_others_are_refused(tmp_path):
    units = [("nM", "uM", "nM", "")[k % 4] for k in range(ROWS)]
    found = read_file(table(tmp_path, "smiles,ki,ki_units", Y, units), data())
    for y, unit, value in zip(Y, units, found.targets[:, 0].tolist(), strict=True):
        if unit:
            assert value == pytest.approx(y * {"nM": 1, "uM": 1000}[unit])
        else:
            assert np.isnan(value)
    assert list(found.units) == ["nM"]
    assert any(
        'the unit of "ki" is nM, by the column "ki_units"; 4 from uM' in f for f in found.findings
    )
    assert any("4 numbers without a unit, taken for missing" in line for line in found.findings)
    weights = table(tmp_path, "smiles,ki,units", Y, [("nM", "ug/mL")[k % 2] for k in range(ROWS)])
    assert 'several units in the column "units" (nM 9, ug/mL 8)' in refusal(
        lambda: read_file(weights, data())
    )


def test_different_quantities_under_one_name_are_named(tmp_path):
    kinds = [("IC50", "Ki")[k % 2] for k in range(ROWS)]
    found = read_file(table(tmp_path, "smiles,standard_type,standard_value", kinds, Y), data())
    assert any(
        'different quantities by the column "standard_type" (IC50 9, Ki 8)' in f
        for f in found.findings
    )


def test_case_censored_qualifier_column():
    found = read_case("censored_qualifier_column.csv", censored="loss")
    assert found.bounds is not None and found.bounds[:4, 0].tolist() == [1, 0, -1, 1]
    assert list(found.units) == ["nM"] and int((found.bounds != 0).sum()) == 13


def test_case_units_column():
    found = read_case("units_column.csv")
    np.testing.assert_allclose(found.targets[:4, 0], [0.94, 0.0014, 0.68, 0.00037], rtol=1e-12)
    assert list(found.units) == ["uM"] and any(
        "10 from nM were converted" in f for f in found.findings
    )


def test_case_chembl_export():
    found = read_case("chembl_export.csv", censored="loss")
    assert list(found.target_names) == ["Standard Value", "pChEMBL Value"]
    assert found.bounds is not None and found.bounds[:4].tolist() == [
        [1, 0],
        [0, 0],
        [0, 0],
        [1, 0],
    ]
    assert list(found.units) == ["nM", ""]


# Lists of SMILES ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mark", [" ", "\t"])
def test_numbers_behind_a_name_are_a_column(tmp_path, mark):
    lines = [mark.join((text, f"m{k}", str(Y[k]))) for k, text in enumerate(MOLECULES)]
    found = read_file(write(tmp_path / "a.smi", "\n".join(lines) + "\n"), data(label="name"))
    assert list(found.target_names) == ["column 3"] and found.targets[:, 0].tolist() == Y
    assert found.names[4] == "m4" and any("column 3" in line for line in found.findings)


def test_a_name_of_several_words_stays_a_name(tmp_path):
    lines = [f"{text} ethyl alcohol {'x' * (k % 3)}" for k, text in enumerate(MOLECULES)]
    found = read_file(write(tmp_path / "a.smi", "\n".join(lines) + "\n"), data(label="name"))
    assert list(found.target_names) == [] and found.names[1] == "ethyl alcohol x"


@pytest.mark.parametrize("name", ["smi_activity.smi", "smi_activity_tab.smi"])
def test_cases_of_activities_in_a_list(name):
    found = read_case(name)
    assert list(found.target_names) == ["column 3"]
    assert found.targets[:3, 0].tolist() == [0.94, -1.4, -0.68] and len(found) == 20
