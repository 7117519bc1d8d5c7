"""What an app leaves open fits the data, whatever their length and calendar; settings that don't fit are refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import isoform
from commands import exit_code
from isoform.core import config as configs
from isoform.core.errors import UserError
from isoform.timeseries import DOMAIN
from isoform.timeseries.check import check
from isoform.timeseries.data.splits import borders_of
from isoform.timeseries.prepare import prepare_panel
from isoform.timeseries.state import TimeseriesState

from .files import case
from .panels import app, panel, series, walk, with_gaps

CALENDARS = ("YS", "QS-OCT", "MS", "W-SUN", "D", "h", "15min", "B", "BME")
LENGTHS = (24, 30, 48, 104, 132, 240, 600, 1200)


def own(*sets):
    """itransformer-own with everything open but what is set."""
    return configs.resolve_app(
        "itransformer-own", domain=DOMAIN, sets=["data.path=made.csv", *sets]
    )


def of_length(rows, freq, **options):
    start = "1400-01-01" if freq == "YS" else "1970-01-01"
    return panel(series(walk(rows, 2), freq=freq, start=start, **options), freq=freq)


def assert_trains(made, config):
    """Windows in every split, each holding what it should, and nothing left to choose."""
    prepared = prepare_panel(config, made)
    model, sizes = prepared.config.model, prepared.data.sizes()
    assert sizes["train"] + prepared.data.left_out >= model.context and sizes["train"]
    assert set(sizes) == {"train", "val", "test"}
    assert 1 <= model.horizon <= made.most_rows // 10 and 2 <= model.context <= made.most_rows // 4
    assert prepared.config.data.season >= 1
    again = prepare_panel(prepared.config, made)
    assert again.config == prepared.config and again.data.sizes() == sizes
    return prepared


@pytest.mark.parametrize("freq", CALENDARS)
@pytest.mark.parametrize("rows", LENGTHS)
def test_every_length_of_every_calendar_has_windows(freq, rows):
    assert_trains(of_length(rows, freq), own())


@settings(max_examples=30)
@given(st.integers(24, 700), st.sampled_from(CALENDARS), st.floats(0, 0.15))
def test_any_length_has_windows(rows, freq, missing):
    made = of_length(rows, freq)
    values = made.first["target"].values
    made.first["target"].values[:] = with_gaps(values, missing, seed=rows)
    assert_trains(made, own())


@settings(max_examples=30)
@given(
    st.integers(24, 300),
    st.sampled_from(CALENDARS),
    st.one_of(st.none(), st.integers(1, 5)),
    st.one_of(st.none(), st.integers(2, 7)),
    st.floats(0.01, 0.3),
    st.floats(0, 0.3),
)
def test_what_is_set_stays_and_the_rest_is_chosen_round_it(rows, freq, horizon, context, val, test):
    given_model = {"model.horizon": horizon, "model.context": context}
    sets = [f"{key}={value}" for key, value in given_model.items() if value is not None]
    made = of_length(rows, freq)
    prepared = prepare_panel(
        own(*sets, f"data.val_fraction={val}", f"data.test_fraction={test}"), made
    )
    model = prepared.config.model
    assert prepared.data.sizes()["train"] >= 1
    assert horizon in (None, model.horizon) and context in (None, model.context)
    data = prepared.config.data
    assert (data.val_fraction, data.test_fraction) == (val, test)


# What was chosen before is chosen still: (calendar, rows) -> (look-back, horizon)
@pytest.mark.parametrize(("freq", "rows", "wanted"), [
    ("YS", 24, (6, 2)), ("QS-OCT", 48, (12, 4)), ("MS", 240, (48, 12)), ("W-SUN", 997, (208, 52)), ("D", 104, (26, 7)),
    ("D", 5003, (28, 7)), ("h", 600, (150, 24)), ("h", 5003, (168, 24)), ("15min", 2003, (500, 96)),
    ("B", 600, (20, 5)),
])  # fmt: skip
def test_look_back_and_horizon_of_data_that_are_long_enough(freq, rows, wanted):
    model = prepare_panel(own(), of_length(rows, freq)).config.model
    assert (model.context, model.horizon) == wanted


@pytest.mark.parametrize(
    ("rows", "horizon", "sizes"),
    [(48, 11, (8, 1, 1)), (113, 17, (29, 1, 7)), (31, 13, (5, 0, 0))],
)
def test_fractions_that_nobody_set_hold_a_horizon_that_is_given(rows, horizon, sizes):
    """48 rows hold 5 and 10 of validation and test by default; a horizon of 13 would leave training 5 of 31."""
    prepared = prepare_panel(own(f"model.horizon={horizon}"), of_length(rows, "MS"))
    found = prepared.data.sizes()
    assert (found["train"], found.get("val", 0), found.get("test", 0)) == sizes
    said = [note for note in prepared.notes if note.startswith("no window for")]
    assert len(said) == sizes.count(0)


def test_a_split_without_a_window_is_said():
    prepared = prepare_panel(app(24, 6, val_fraction=0.01), panel(series(walk(331, 2))))
    assert prepared.data.sizes().keys() == {"train", "test"}
    assert "no window for validation: its rows hold no horizon" in prepared.notes


def test_too_few_rows_are_refused_in_a_sentence_that_counts_them():
    made = panel(series(walk(19, 2)))
    with pytest.raises(
        UserError,
        match=r"19 rows are too few for a look-back of 11 .* training has 13 of",
    ):
        prepare_panel(app(11, 3), made)
    gaps = panel(series(with_gaps(walk(101, 2), 0.3)))
    with pytest.raises(
        UserError, match=r"lack more than data\.max_missing = 0\.01 of their values"
    ):
        prepare_panel(app(11, 3, max_missing=0.01), gaps)


# One pipeline ---------------------------------------------------------------------------------------------------------


def written(path, rows, freq="D", columns=("load",), start="1970-01-01"):
    table = pd.DataFrame({"date": pd.date_range(start, periods=rows, freq=freq)})
    for i, name in enumerate(columns):
        table[name] = walk(rows, 1, seed=i)[:, 0]
    table.to_csv(path, index=False)
    return path


@pytest.mark.parametrize("sets", [
    [], ["model.context=19"], ["model.horizon=23"], ["data.bounds={lod=[0,1]}"], ["data.calendar=none"],
    ["data.calendar=none", "tokeniser.calendar=none"], ["tokeniser.identity=true", "augment.variates=0.5"],
    ["model.family=samformer"], ["data.val_from=2030-01-01"], ["data.freq=MS"],
])  # fmt: skip
def test_check_refuses_exactly_what_training_refuses(tmp_path, sets):
    config = own(f"data.path={written(tmp_path / 'made.csv', 31)}", *sets)
    try:
        DOMAIN.task(DOMAIN.prepare(config)).build()
        refusal = None
    except UserError as error:
        refusal = str(error)
    assert check(config).refusal == refusal


# Time marks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("freq", "sets", "marks"),
    [
        ("YS", [], []),
        ("D", ["data.calendar=none"], []),
        ("QS-OCT", [], ["month_of_year"]),
        ("MS", [], ["month_of_year"]),
    ],
)
def test_data_without_time_marks_tell_no_origin(freq, sets, marks):
    prepared = prepare_panel(own(*sets), of_length(61, freq))
    assert prepared.data.calendar_names == marks
    assert prepared.config.tokeniser.origin == bool(marks)
    said = (
        "tokeniser.origin is off: these data have no time marks (data.calendar)" in prepared.notes
    )
    assert said == (not marks)
    DOMAIN.task(prepared).build()


def test_an_origin_without_a_calendar_ahead_is_refused():
    with pytest.raises(UserError, match=r'tokeniser\.calendar must be "future"'):
        prepare_panel(own("tokeniser.calendar=past"), of_length(61, "D"))


# Settings by variate --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bounds", "message"), [
    ({"load": [5, 5]}, r"data.bounds: load = \[5, 5\] holds no range"),
    ({"load": [np.nan, 1]}, "holds no range"),
    ({"laod": [0, 1]}, r"laod is no variate of these data \(load, temp\); did you mean load\?"),
    ({"load": [0, 1], "wind": [0, 1]}, r"wind is no variate of these data \(load, temp\)$"),
])  # fmt: skip
def test_bounds_that_fit_no_variate_are_refused(bounds, message):
    made = panel(series(walk(101, 2)).assign_coords(variate=["load", "temp"]))
    with pytest.raises(UserError, match=message):
        prepare_panel(app(7, 5, bounds=bounds), made)


def test_bounds_that_fit_are_kept():
    made = panel(series(walk(101, 2)).assign_coords(variate=["load", "temp"]))
    bounds = {"load": [0, np.inf], "*": [-np.inf, 7]}
    kept = prepare_panel(app(7, 5, bounds=bounds), made).config.data.bounds
    assert kept == {"load": (0, np.inf), "*": (-np.inf, 7)}


# Panels by date -------------------------------------------------------------------------------------------------------


def test_one_series_is_cut_by_date_as_by_rows():
    for rows in (31, 101, 997):
        made = panel(series(walk(rows, 2)))
        by_rows, by_date = (borders_of(app(7, 5, split=how).data, made) for how in ("rows", "date"))
        assert by_rows == by_date


def test_all_series_are_cut_at_the_same_time():
    """101 days from 1 January; another of 47 days begins 54 days later, a third ends after 31."""
    made = panel(
        series(walk(101, 2), freq="D", id="long"),
        series(walk(47, 2), freq="D", start="2024-02-24", id="new"),
        series(walk(31, 2), freq="D", id="gone"),
        freq="D",
    )
    cuts = borders_of(app(7, 5, split="date").data, made)
    assert cuts[0] == {"train": (0, 71), "val": (71, 81), "test": (81, 101)}
    assert cuts[1] == {"train": (0, 17), "val": (17, 27), "test": (27, 47)}
    assert cuts[2] == {"train": (0, 31), "val": (31, 31), "test": (31, 31)}
    dated = borders_of(app(7, 5, split="date", test_from="2024-04-01").data, made)
    assert [cut["test"][0] for cut in dated] == [91, 37, 31]
    assert dated[0]["val"] == (81, 91) and dated[1]["val"] == (27, 37)


def test_test_times_that_train_others_are_named():
    made = panel(
        series(walk(211, 2), freq="D", id="long"),
        series(walk(101, 2), freq="D", start="2024-04-01", id="new"),
        series(walk(101, 2), freq="D", id="gone"),
        freq="D",
    )
    said = [note for note in prepare_panel(app(7, 5), made).notes if "training times" in note]
    assert said == [
        "test times of 1 of 3 series lie in the training times of others (gone is tested from 2024-03-22 00:00:00 on, "
        'new trains until 2024-06-10 00:00:00): data.split = "date" cuts all of them at the same time'
    ]
    by_date = prepare_panel(app(7, 5, split="date"), made)
    assert not any("training times" in note for note in by_date.notes)
    same = panel(*(series(walk(101, 2), freq="D", id=name) for name in ("a", "b")), freq="D")
    assert not any("training times" in note for note in prepare_panel(app(7, 5), same).notes)


def test_what_was_fitted_is_kept_by_series():
    made = panel(
        series(walk(101, 2), freq="D", id="long"),
        series(walk(53, 2), freq="D", start="2024-03-22", id="new"),
        series(walk(20, 2), freq="D", start="2024-03-22", id="short"),  # than any window
        freq="D",
    )
    state = DOMAIN.task(prepare_panel(app(24, 6), made)).inference_state()
    assert state.fitted_until == {
        "long": "2024-03-21T00:00:00.000000",
        "new": "2024-05-02T00:00:00.000000",
    }
    loaded = TimeseriesState.model_validate_json(state.model_dump_json())
    assert [loaded.fitted_end(name) for name in ("long", "new", "short")] == [
        *state.fitted_until.values(),
        None,
    ]


def test_a_run_of_one_series_or_an_older_run_saw_all_series_until_then():
    for known in ({"": "2024-03-21"}, "2024-03-21"):
        state = TimeseriesState(fitted_until=known)
        assert state.fitted_end("") == state.fitted_end("other") == "2024-03-21"
    assert TimeseriesState().fitted_end("other") is None


# Trained, and the cases that were reported ----------------------------------------------------------------------------

TINY = {
    "backbone.dim": 16,
    "backbone.depth": 1,
    "backbone.heads": 2,
    "backbone.mlp_dim": 32,
    "train.epochs": 1,
}


@pytest.mark.parametrize(("freq", "rows"), [("YS", 24), ("BME", 30), ("h", 53)])
def test_short_series_train_and_forecast(tmp_path, freq, rows):
    path = written(tmp_path / "made.csv", rows, freq, ("load", "temp"))
    run = isoform.train("timeseries/itransformer-own", run_dir=tmp_path / "run", progress=False,
                        **TINY, **{"data.path": str(path)})  # fmt: skip
    assert {"val", "test"} <= run.results["metrics"].keys()
    found = isoform.load(run.folder).forecast(path)
    assert np.isfinite(found["mean"].values).all()


@pytest.mark.parametrize(
    ("name", "context", "horizon", "season"),
    [("C1_monthly_120.csv", 30, 12, 12), ("C2_yearly_120.csv", 28, 7, 1)],
)
def test_monthly_and_yearly_files_can_be_trained(name, context, horizon, season):
    config = own(f"data.path={case(name)}")
    prepared = DOMAIN.prepare(config)
    model = prepared.config.model
    assert (model.context, model.horizon, prepared.config.data.season) == (context, horizon, season)
    assert prepared.data.sizes().keys() == {"train", "val", "test"}
    DOMAIN.task(prepared).build()
    assert check(config).refusal is None


def test_a_week_of_six_hours_is_the_season_of_the_report_and_the_backtest():
    prepared = DOMAIN.prepare(
        own(f"data.path={case('S5_weekly_pattern_6h.csv')}", "model.horizon=4")
    )
    task = DOMAIN.task(prepared)
    assert (task.season, task.inference_state().season) == (28, 28)


def test_misspelt_and_inverted_bounds_of_a_file_are_refused():
    path = case("base_hourly.csv")
    with pytest.raises(UserError, match=r"data\.bounds: the smaller number.*120"):
        own(f"data.path={path}", "data.bounds={load=[120,80]}")
    config = own(f"data.path={path}", "data.bounds={load=[0,200],tmep=[0,1]}")
    assert "tmep is no variate" in (check(config).refusal or "")


def test_a_new_store_doesn_t_take_the_others_windows(tmp_path, capsys):
    path = case("P1_panel_with_new_store.csv")
    found = []
    table = pd.read_csv(path)
    shortest = table.groupby("store").size().idxmin()
    others = tmp_path / "others.csv"
    table[table.store != shortest].to_csv(others, index=False)
    run = tmp_path / "run"
    small = {**TINY, "model.context": 24, "model.horizon": 7, "data.id": "store"}
    results = isoform.train("timeseries/itransformer-own", run_dir=run, progress=False,
                            **small, **{"data.path": str(path)}).results  # fmt: skip
    for file in (path, others):
        out = tmp_path / f"{file.stem}.backtest.csv"
        argv = ["timeseries", "backtest", str(run), str(file), "--step", "1", "--out", str(out)]
        assert exit_code(*argv) == 0
        rows = pd.read_csv(out)
        found.append(len(rows) // 7)
    capsys.readouterr()
    assert found == [85, 85]
    assert (
        results["metrics"]["test"]["windows"] == 96
    )  # 11 of them in times that train the other store
