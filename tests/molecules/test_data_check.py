"""`check`: what it counts and names, leakage, and a page that opens offline and runs nothing."""

import base64
import json
import re

import pytest

from commands import exit_code
from isoform.molecules import DOMAIN
from isoform.molecules.config import MoleculesApp
from isoform.molecules.data.check import check
from isoform.molecules.data.check_page import svg_of
from isoform.molecules.data.dataset import read_data as make
from isoform.molecules.data.parsing import canonical, parse_smiles
from isoform.molecules.prepare import prepare

from .miniatures import SMILES, bbbp, case, molhiv, refusal, sd_record, write, zinc


def app(**settings):
    settings = {key: str(v) if key in ("root", "path") else v for key, v in settings.items()}
    return MoleculesApp.model_validate({"domain": "molecules", "app": "x", "data": settings})


ROWS = [
    "smiles,name,y,split",
    "CCO,a,1.5,train", "OCC,b,2.5,train", "C1CC,c,3,train", "CCN,d,>4,val", "NCC,e,5,test", "C[C@H](F)Cl,f,6,train",
    "C[C@@H](F)Cl,g,7,test", "CC(=O)[O-].[Na+],h,8,train", "CC(=O)O,i,,train", "[13CH4],j,10,train", "C,k,11,val",
    "only two,cells", "*C,l,12,test",
]  # fmt: skip


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "a.csv", "\n".join(ROWS) + "\n")


def test_everything_that_is_odd_is_counted_and_named(path):
    report = check(app(path=path, targets=("y",), split="given"))
    found = report.data
    assert found["rows"] == 13 and found["molecules"] == 9 and found["task"] == "regression"
    assert found["splits"] == {
        "train": 4,
        "val": 2,
        "test": 3,
    }  # the one without a label is in none
    skipped = {one["row"]: one["reason"] for one in found["skipped"]}
    assert skipped == {
        "line 13": "has 2 cells where there are 4 columns", "line 4": "is no SMILES: unclosed ring",
        "line 3": "is the same molecule as line 2", "line 10": "has no label",
    }  # fmt: skip
    assert found["duplicates"] == [["line 2", "line 3"]] == found["conflicting_labels"]
    assert found["leaks"] == [["val: line 5", "test: line 6"]] and report.leakage
    near = {tuple(names) for names in found["near_duplicates"]}
    assert near == {("line 7", "line 8"), ("line 11", "line 12")}
    kinds = found["kinds"]
    assert kinds["several fragments (salts, mixtures)"] == kinds["isotopes"] == 1
    assert (
        kinds["dummy atoms (*)"] == 1
        and kinds["a single atom"] == 2
        and kinds["marked stereo centres"] == 2
    )
    assert found["targets"]["y"]["missing"] == 0 and found["targets"]["y"]["max"] == 12
    assert (
        found["atoms"] == {"smallest": 1, "median": 3, "largest": 5}
        and found["elements"]["Na"] == 1
    )
    json.dumps(found, allow_nan=False)
    text = "\n".join(report.lines)
    for words in ("a.csv: 13 rows, 9 molecules (4 train, 2 val, 3 test)", "'>4' (line 5)", "skipped: 2\n",
                  "rows without a label: 1 (line 10)",
                  "LEAKAGE, one molecule in several splits: 1\n  val: line 5, test: line 6",
                  "different labels: 1\n  line 2 = line 3", "(2 in several splits): 2"):  # fmt: skip
        assert words in text, words


def test_leakage_may_be_allowed_and_is_still_named(path):
    report = check(app(path=path, targets=("y",), split="given", allow_leakage=True))
    assert report.refusal is None
    assert (
        not report.leakage
        and report.data["leaks"]
        and any("LEAKAGE" in line for line in report.lines)
    )


def test_a_file_alone_is_split_at_random_without_leakage(path):
    report = check(DOMAIN.app_of_path(path))
    assert (
        not report.leakage
        and report.data["leaks"] == []
        and "the same molecule is in no two splits" in report.lines
    )
    assert sum(report.data["splits"].values()) == 8 and any(
        "data.task = auto" in line for line in report.lines
    )


def test_benchmarks_and_classes(tmp_path):
    report = check(app(source="bbbp", root=bbbp(tmp_path)))
    assert report.data["targets"]["p_np"]["counts"] == {"0": 10, "1": 10}
    assert report.data["targets"]["p_np"]["by_split"]["test"] == {"0": 1, "1": 1}
    report = check(app(source="molhiv", root=molhiv(tmp_path), split="given"))
    assert report.data["splits"] == {"train": 13, "val": 3, "test": 4} and not report.leakage
    kinds = write(
        tmp_path / "k.csv",
        "smiles,kind\n" + "\n".join(f"{s},{'abc'[k % 3]}" for k, s in enumerate(SMILES)),
    )
    report = check(DOMAIN.app_of_path(kinds))
    assert (
        report.data["classes"] == ["a", "b", "c"]
        and report.data["targets"]["kind"]["counts"]["a"] == 7
    )


def test_graphs_without_smiles(tmp_path):
    report = check(app(source="zinc12k", root=zinc(tmp_path), split="given"))
    assert report.data["molecules"] == 16 and report.data["atoms"]["smallest"] == 1
    assert (
        "graphs without SMILES: duplicates and leakage were not looked for" in report.lines
        and "<img" not in report.page
    )


def test_a_list_without_labels_and_too_few_molecules(tmp_path):
    report = check(DOMAIN.app_of_path(write(tmp_path / "a.smi", "CCO x\nOCC y\nCCN z\n")))
    assert report.data["targets"] == {} and report.data["duplicates"] == [["line 1", "line 2"]]
    assert report.refusal == "a.smi: no column of labels to learn; name it with data.targets"
    report = check(DOMAIN.app_of_path(write(tmp_path / "b.smi", "CCO x\n")))
    assert report.data["splits"] == {} and any(
        line.startswith("no splits: ") for line in report.lines
    )
    assert "no such file" in refusal(check, DOMAIN.app_of_path(tmp_path / "none.csv"))


def pictures(page):
    return [
        base64.b64decode(code).decode()
        for code in re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', page)
    ]


def test_the_page_draws_molecules_and_escapes_names(tmp_path):
    rows = [f"{smiles},<script>alert({k})</script>,{k + 0.5}" for k, smiles in enumerate(SMILES)]
    report = check(
        app(path=write(tmp_path / "a.csv", "smiles,id,y\n" + "\n".join(rows)), label="id")
    )
    drawn = pictures(report.page)
    assert len(drawn) >= 8 and all("<svg" in one and "<script" not in one for one in drawn)
    assert "<script>" not in report.page and "&lt;script&gt;alert(19)" in report.page
    assert "default-src 'none'" in report.page and "http:" not in re.sub(
        r'base64,[^"]+', "", report.page
    )


def test_pictures_of_what_cannot_be_drawn_are_empty():
    assert svg_of("no molecule") == "" and svg_of("C" * 121) == ""
    assert base64.b64decode(svg_of("CCO")).startswith(b"<?xml")
    block = sd_record("CCO").replace("CCO", "").partition("$$$$")[0]
    named = block.replace("M  END", "A    3\n<script>x</script>\nM  END")
    assert "<script" not in base64.b64decode(svg_of("", named)).decode()


def test_sd_files_keep_their_stereo_chemistry(tmp_path):
    pair = ("C[C@H](N)C(=O)O", "C[C@@H](N)C(=O)O")
    report = check(
        DOMAIN.app_of_path(
            write(
                tmp_path / "a.sdf", "".join(sd_record(s, f"m{k}") for k, s in enumerate(pair * 2))
            )
        )
    )
    assert report.data["duplicates"] == [["m0", "m2"], ["m1", "m3"]] and report.data[
        "near_duplicates"
    ] == [["m0", "m1"]]
    assert canonical(parse_smiles(pair[0])) != canonical(parse_smiles(pair[1]))


def test_a_file_takes_settings_and_ends_with_2_where_nothing_can_be_learned(tmp_path, capsys):
    path = write(
        tmp_path / "a.csv",
        "smiles,a,b\n" + "\n".join(f"{'C' * k}O,4,{k / 7}" for k in range(1, 18)),
    )

    def run(*words):
        argv = ["molecules", "check", str(path), "--page", str(tmp_path / "p.html"), *words]
        return exit_code(*argv), *capsys.readouterr()

    code, out, _ = run("--set", "data.targets=b,a")
    assert code == 0 and out.index("target b:") < out.index("target a:")
    code, out, err = run("--set", "data.label=b")
    assert code == 2 and "not to be predicted (the same in every row): a" in out
    assert (
        err
        == "a.csv: no column of labels to learn (the same in every row: a); name it with data.targets\n"
    )


def sparse(tmp_path):
    """23 molecules of which a third has no label; the frameworks are few, so that scaffold leaves no test."""
    texts = [*SMILES, "CCCO", "CCCN", "CCCC"]
    rows = [f"{smiles},{'' if k % 3 == 1 else k + 0.5}" for k, smiles in enumerate(texts)]
    return write(tmp_path / "sparse.csv", "smiles,y\n" + "\n".join(rows) + "\n")


@pytest.mark.parametrize("split", ["random", "scaffold", "cluster"])
@pytest.mark.parametrize("duplicates", ["mean", "keep"])
@pytest.mark.parametrize("source", ["sparse", "half_unlabelled.csv", "missing_tags.sdf"])
def test_check_describes_the_split_that_training_makes(tmp_path, split, duplicates, source):
    path = sparse(tmp_path) if source == "sparse" else case(source)
    config = app(path=path, split=split, duplicates=duplicates)
    report = check(config)
    assert report.data["splits"] == make(config).sizes() and report.data["splits"]["val"] > 0


def test_what_a_split_gives_is_said_beside_what_was_asked(tmp_path):
    path = case("half_unlabelled.csv")
    config = app(path=path, split="scaffold")
    for lines in (check(config).lines, prepare(config).notes):
        text = "\n".join(lines)
        assert "asked for 80 / 10 / 10 of train / val / test, given 79 / 21 / 0" in text
        assert "no molecule is left for test" in text
    assert check(config).data["splits"] == {"train": 79, "val": 21}
    for settings in ({"split": "random"}, {"split": "scaffold", "test_fraction": 0.0}):
        text = "\n".join(check(app(path=path, **settings)).lines)
        assert "no molecule is left" not in text
    assert "asked for" not in "\n".join(check(app(path=path)).lines)


def test_a_group_that_takes_most_rows_is_said(tmp_path):
    rows = [f"{smiles},{k + 0.5},{'big' if k < 14 else k}" for k, smiles in enumerate(SMILES)]
    path = write(tmp_path / "g.csv", "smiles,y,series\n" + "\n".join(rows) + "\n")
    text = "\n".join(
        check(app(path=path, group="series", val_fraction=0.2, test_fraction=0.2)).lines
    )
    assert (
        "data.split = random: asked for 12 / 4 / 4 of train / val / test, given 14 / 2 / 4" in text
    )


@pytest.mark.parametrize("other", ["CC(=O)O", "CCO"])
def test_near_duplicates_in_several_splits_are_not_called_no_leakage(tmp_path, other):
    rows = ["smiles,y,split", "CC(=O)[O-].[Na+],1.5,train", "CCN,2.5,train", f"{other},3.5,test"]
    rows += ["CCC,4.5,val", "CCCl,5.5,train"]
    lines = check(
        app(path=write(tmp_path / "a.csv", "\n".join(rows)), targets=("y",), split="given")
    ).lines
    near = other == "CC(=O)O"
    assert any("(1 in several splits)" in line for line in lines) == near
    assert ("the same molecule is in no two splits" in lines) == near
    assert ("no leakage between splits found" in lines) != near
