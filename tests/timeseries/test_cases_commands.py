"""The files that were reported, by the command that went wrong on them: check says what is right, and train trains."""

from __future__ import annotations

from pathlib import Path

import pytest

from .files import case

SMALL = [
    "backbone.dim=16", "backbone.depth=1", "backbone.heads=2", "backbone.mlp_dim=32", "train.epochs=1",
    "eval.baselines=[]",
]  # fmt: skip

# file, settings -> exit code, what is said
CHECKS = [
    ("S1_sum_of_stores", ['data.drop=["store"]', "data.aggregate=sum"], 0, ["1 variate"]),
    ("S1_sum_of_stores", [], 2, ['set data.id = ["store"]']),
    ("S2_two_stores_text_id", [], 2, ["each stamp occurs 2 times", 'set data.id = ["store"]']),
    ("S2_store_item", [], 2, ['set data.id = ["store", "item"]']),
    ("S2_store_item", ['data.id=["store"]'], 2, ['set data.id = ["store", "item"]']),
    ("S2_store_item", ['data.id=["store","item"]'], 0, ["6 variates"]),
    ("S3_german_integers", [], 0, ["Absatz: 726 to 1195"]),
    ("S3_german_peaks", [], 0, ["mean 957.7"]),
    ("S7_weekly_at_0600", [], 0, ["one each W-MON", "horizon 52"]),
    ("S7_business_month_end", [], 0, ["one each BME", "season: 12 rows"]),
    ("S7_business_month_end", ["data.freq=BME"], 0, ["one each BME", "season: 12 rows"]),
    ("S7_business_month_end_gap", [], 0, ["one each BME", "season: 12 rows"]),
    ("S7_business_month_start", [], 0, ["one each BMS", "season: 12 rows"]),
    ("S7_jittered_hours", [], 0, ["one each h", "from 2024-01-01 00:00:00"]),
    ("S7_jittered_hours", ["data.freq=h"], 0, ["one each h", "from 2024-01-01 00:00:00"]),
    ("C1_monthly_120", [], 0, ["look-back 30, horizon 12"]),
    ("C2_yearly_120", [], 0, ["look-back 28, horizon 7"]),
    ("P2_leading_target", [], 2, ["target y_next_hour is the target y 1 row ahead", "--allow-leakage"]),
    ("P2_leading_target", ['data.drop=["y_next_hour"]'], 0, ["no leakage found"]),
    ("M1_pipe", [], 0, ["divided by a vertical bar", "60 rows"]),
    ("M1_preamble", [], 0, ["60 rows"]),
    ("M1_semicolon_header_with_comma", [], 0, ["Leistung, MW: 77.28"]),
    ("M1_sentinel", [], 0, ["data.missing = [-9999]"]),
    ("M1_sentinel", ["data.missing=[-9999]"], 0, ["5.8 % missing"]),
    ("M2_excel_serial", [], 0, ["one each h", "as spreadsheets count"]),
    ("M2_stamps_cet", [], 0, ["one each h", "Europe/Berlin"]),
    ("M2_stamps_eurostat_month", [], 0, ["one each MS", "from 2008-01-01"]),
    ("M2_stamps_iso_week", [], 0, ["one each W-MON", "from 2020-01-06"]),
    ("M2_stamps_mm_yyyy", [], 0, ["one each MS", "from 2008-01-01"]),
    ("M2_stamps_q1_1980", [], 0, ["one each QS-JAN", "from 1980-01-01"]),
    ("M3_trading_hours", [], 0, ["no leakage found"]),
]  # fmt: skip


@pytest.fixture
def cli(cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Words behind `isoform timeseries` -> (exit code, all that is said)."""
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> tuple[int, str]:
        code, *said = cli(*words)
        return code, "".join(said)

    return call


def sets(*settings: str) -> list[str]:
    return [word for one in settings for word in ("--set", one)]


@pytest.mark.parametrize(("name", "settings", "code", "said"), CHECKS)
def test_check_of_a_case(cli, name: str, settings: list[str], code: int, said: list[str]) -> None:
    path = case(f"{name}.csv")
    by_path = cli("check", str(path), *sets(*settings))
    by_app = cli("check", "itransformer-own", *sets(f"data.path={path}", *settings))
    for found, out in (by_path, by_app):
        assert found == code and all(part in out for part in said), out
        assert "Traceback" not in out and "Warning" not in out


@pytest.mark.parametrize("name", ["C1_monthly_120", "C2_yearly_120", "S7_weekly_at_0600"])
def test_train_of_a_case_and_forecast(cli, name: str) -> None:
    """With the look-back and horizon that it chooses itself."""
    path = case(f"{name}.csv")
    run = ["--run-dir", "run", *sets(f"data.path={path}", *SMALL)]
    code, out = cli("train", "itransformer-own", *run)
    assert code == 0, out
    code, out = cli("forecast", "run", str(path), "--out", "next.csv")
    assert code == 0 and Path("next.csv").is_file(), out


@pytest.mark.parametrize("bounds", ["{load=[120,80]}", "{load=[0,200],tmep=[0,1]}"])
def test_bounds_that_fit_nothing_stop_check_and_train(cli, bounds: str) -> None:
    words = sets(f"data.path={case('base_hourly.csv')}", f"data.bounds={bounds}", *SMALL)
    for verb in ("check", "train"):
        code, out = cli(verb, "itransformer-own", *words)
        assert code == 2 and ("tmep" if "tmep" in bounds else "load") in out, out
    assert not any(Path("runs").glob("itransformer*"))


def test_train_of_two_stores_asks_for_their_ids(cli) -> None:
    words = sets(f"data.path={case('S2_two_stores_text_id.csv')}", *SMALL)
    code, out = cli("train", "itransformer-own", *words)
    assert code == 2 and 'set data.id = ["store"]' in out and not Path("runs").exists()
