"""Every file of ../shared/cases/molecules by one look of `isoform molecules check`: what is learned of it, or why not.

What each file is about in detail is in the tests of its kind (columns, outside, identity, unlearnt, data_check).
"""

from __future__ import annotations

import json

import pytest

from commands import exit_code
from isoform.molecules import DOMAIN

from .miniatures import case, write
from .smiles import MOLECULES

# File: molecules, targets (those of a refusal are none), and words of what is said, or of why nothing is learned.
RIGHT: dict[str, tuple[int, tuple[str, ...], str]] = {
    "M9_phthalimide.csv": (12, ("y",), '"y" 2 to 2.5 (line 2, line 3)'),
    "all_missing_only.csv": (20, (), "no column of labels to learn (empty: a)"),
    "censored_qualifier_column.csv": (20, ("standard_value",), "13 censored values count as their bound"),
    "chembl_export.csv": (20, ("Standard Value", "pChEMBL Value"), 'the unit of "Standard Value" is nM'),
    "cid_target.csv": (20, ("pIC50",), "not to be predicted (identifier): CID"),
    "comment_csv.csv": (60, ("y",), "passed over (# exported 2024)"),
    "enhanced_stereo.smi": (1, (), "no column of labels to learn"),
    "formula.csv": (20, ("y",), "not to be predicted (text): name"),
    "half_unlabelled.csv": (100, ("expt",), "rows without a label: 100"),
    "header_BBB.csv": (20, ("BBB",), "auto: binary"),
    "header_BCF.csv": (20, ("BCF",), "auto: regression"),
    "header_IC.csv": (20, ("IC",), "auto: regression"),
    "header_S.csv": (20, ("S",), "auto: regression"),
    "inchi.csv": (1, (), "leaves none of 1 molecule for val"),
    "missing_tags.sdf": (6, ("pIC50",), "rows without a label: 4 (m0, m3, m6, m9)"),
    "one_class_all.csv": (200, (), "(the same in every row: active)"),
    "one_class_val.csv": (200, ("active",), 'the column "split" is not used'),
    "percent.csv": (20, ("inhibition",), 'the unit "%", as it stands: 12 % is 12'),
    "plusminus.csv": (0, (), 'column "IC50": its cells look like numbers that can\'t be read'),
    "pubchem_outcome.csv": (60, ("Outcome",), "not to be predicted (identifier): PUBCHEM_CID"),
    "sentinel_999.csv": (20, ("logS",), "set data.missing = [-999]"),
    "sep_line.csv": (60, ("y",), 'the line "sep=;" tells how cells are divided'),
    "shuffled_index.csv": (20, ("pIC50",), "not to be predicted (running number): column 1"),
    "smi_activity.smi": (20, ("column 3",), 'what stands behind the names are columns: "column 3"'),
    "smi_activity_tab.smi": (20, ("column 3",), 'what stands behind the names are columns: "column 3"'),
    "smi_comma.smi": (20, (), "no column of labels to learn"),
    "tab_trailing_name.csv": (20, ("y",), "20 cells with a name behind the SMILES"),
    "task_missing_in_val.csv": (200, ("a", "b", "c"), "target c: 0: 34, 1: 26, 140 missing"),
    "thousands.csv": (20, ("IC50_nM",), "the comma is read as a thousands mark"),
    "tsv_commas.tsv": (60, ("activity (mean, sd, n)",), "auto: regression"),
    "two_smiles_columns.csv": (1, (), "leaves none of 1 molecule for val"),
    "units_column.csv": (20, ("IC50",), "10 from nM were converted"),
    "units_mixed.csv": (0, (), 'column "IC50": its cells have several units (uM, nM)'),
}  # fmt: skip
UNREADABLE = ("plusminus.csv", "units_mixed.csv")  # the whole is refused, with the column


def test_every_case_is_here():
    assert {path.name for path in case(".").iterdir()} - {"README.md"} == set(RIGHT)


@pytest.mark.parametrize("name", RIGHT)
def test_a_look_at_a_case(name, tmp_path, capsys):
    molecules, targets, words = RIGHT[name]
    command = [
        "molecules",
        "check",
        str(case(name)),
        "--page",
        str(tmp_path / "a.html"),
        "--json",
    ]
    code = exit_code(*command)
    out, err = capsys.readouterr()
    found = json.loads(out.splitlines()[-1])
    assert code == (0 if targets else 2) and words in out + err
    assert not code or words in err
    if name not in UNREADABLE:
        assert found["molecules"] == molecules
    if targets:
        assert tuple(found["targets"]) == targets


def test_the_column_of_the_run_is_the_one_that_is_read():
    """two_smiles_columns.csv with the column that it was trained on: 80 molecules, and not one."""
    config = DOMAIN.app_of_path(case("two_smiles_columns.csv"))
    chosen = config.data.model_copy(update={"smiles": "ligand"})
    report = DOMAIN.check(config.model_copy(update={"data": chosen}))
    assert report.data["molecules"] == 80 and tuple(report.data["targets"]) == ("y",)


def test_a_wide_table_is_folded(tmp_path):
    """29 targets with a sentinel each: a line says it of the first, and one of how many more."""
    targets = [f"t{k}" for k in range(29)]
    rows = [
        [text, *(-999 if (i + k) % 7 == 0 else round(0.37 * i + 0.1 * k, 2) for k in range(29))]
        for i, text in enumerate(MOLECULES[:37])
    ]
    lines = [",".join(["smiles", *targets]), *(",".join(map(str, row)) for row in rows)]
    path = write(tmp_path / "wide.csv", "\n".join(lines) + "\n")
    config = DOMAIN.app_of_path(path)
    report = DOMAIN.check(config)
    assert sum("holds -999" in line for line in report.lines) == 5
    assert sum(line.startswith("target t") for line in report.lines) == 12
    assert report.lines.count("  and 24 more such lines") == 1
    assert "  and 17 more targets" in report.lines
    assert sum("holds -999" in line for line in report.data["findings"]) == 29
    notes = DOMAIN.prepare(config).notes
    assert sum("holds -999" in line for line in notes) == 5 and "  and 24 more such lines" in notes
