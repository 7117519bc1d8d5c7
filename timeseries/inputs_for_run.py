"""Files from outside, as a run wants them: its columns in its order, on its frequency."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from isoform.core.errors import UserError, join_names
from isoform.timeseries.config import DataConfig, TimeseriesApp
from isoform.timeseries.data import assemble, holidays, read
from isoform.timeseries.data.ids import number_series, prefixes, spread
from isoform.timeseries.data.panel import Findings, Panel
from isoform.timeseries.data.rows import variable_of
from isoform.timeseries.data.table import Table, read_columns
from isoform.timeseries.state import TimeseriesState

_BENCHMARKS = {".npz": "pems", ".txt": "solar"}  # files that only their own reader understands
_KEYS = {"past": "data.past", "known": "data.known_future", "static": "data.static"}
COVARIATES = tuple(_KEYS)
# What the run's settings say of its own file alone.
_FREE = {
    "source": "file",
    "val_from": None,
    "test_from": None,
    "since": None,
    "until": None,
    "folds": None,
    "fold": None,
}
SHOWN = 5  # names in a sentence
_TABULAR = (str, Path, pd.DataFrame)


def settings(config: TimeseriesApp) -> TimeseriesApp:
    """The run's settings for windows of any file: without the borders of its own data."""
    return config.model_copy(update={"data": config.data.model_copy(update=_FREE)})


def names_of(state: TimeseriesState, kind: str) -> list[str]:
    """The run's columns of a kind that come from a file, in the order of its model."""
    if kind == "known":
        return [name for name in state.known if name != holidays.NAME]
    names: list[str] = getattr(state, "variates" if kind == "target" else kind)
    return names


# Reading -------------------------------------------------------------------------------------------------------------


def read_for_run(
    source: Any, config: TimeseriesApp, state: TimeseriesState, *, known_elsewhere: bool = False
) -> Panel:
    """A file, DataFrame or Panel with the run's columns in the run's order.

    Of a wide file the run's variates must all be there; only a file that has none of them (or a long one) may bring
    others, which are forecast unseen. known_elsewhere: known-future covariates may be missing. Raises UserError.
    """
    if isinstance(source, Panel):
        return _aligned(source, config, state, known_elsewhere=known_elsewhere)
    data = _roles(source, config, state)
    try:
        panel = _read(source, data)
    except UserError as error:
        panel = _other_columns(source, data, config, state, known_elsewhere, error)
    if panel.tz is not None and state.freq is not None and state.tz is None:
        warnings.warn(
            f"{panel.name}: its stamps have a zone and those of the run had none: its calendar is read in {panel.tz}",
            stacklevel=3,
        )
    return _aligned(panel, config, state, known_elsewhere=known_elsewhere)


def read_benchmark(path: Path, config: TimeseriesApp, state: TimeseriesState) -> Panel:
    """Another copy of a benchmark's file, by its own reader and official borders. Raises UserError."""
    panel = read.read_panel(config.data.model_copy(update={"path": str(path)}))
    return _aligned(panel, config, state, any_variates=True)


def read_future(source: Any, config: TimeseriesApp, state: TimeseriesState, panel: Panel) -> Panel:
    """The known-future covariates of a file or DataFrame, on the frequency and in the zone of `panel`, no targets.

    Of a run with ids the file may have them too, or some of their columns (its rows hold of every series that shares
    these), or one value for all. Raises UserError for a missing column, or where the run has no such covariates.
    """
    if not names_of(state, "known"):
        raise UserError(
            f"{_called(source)}: this run has no known-future covariates to take from it (data.known_future); leave "
            "--future out"
        )
    own = config.data.model_copy(
        update={
            **_FREE,
            "targets": (),
            "past": (),
            "static": (),
            "drop": (),
            "freq": panel.freq,
            "tz": panel.tz or config.data.tz,
            "holidays": None,
            "stream": "memory",
            "panel": state.panel or config.data.panel,
            "path": str(source) if isinstance(source, (str, Path)) else None,
        }
    )
    found = _read_known(source, own, panel, names_of(state, "known"))
    if (found.tz is None) != (panel.tz is None):
        with_zone, without = (found, panel) if panel.tz is None else (panel, found)
        raise UserError(
            f"{without.name}: its stamps have no offset and those of {with_zone.name} have one; write both alike"
        )
    return found


def _read_known(source: Any, data: DataConfig, panel: Panel, known: Sequence[str]) -> Panel:
    """A file of known-future covariates with all, some or none of the id columns: weather has no ids of shops."""
    ids, without = data.id or (), data.model_copy(update={"id": None})
    table = _table(source, without) if ids and isinstance(source, _TABULAR) else None
    if table is None:
        try:
            return _read(source, data)
        except UserError:
            if not ids:
                raise
            return _read(source, without)
    have = tuple(name for name in ids if name in table.names)
    if not have:
        return _read(source, without, table)
    some = data.model_copy(update={"id": have})
    table = _table(source, some)  # cells of ids are text: 007 is no 7
    assert table is not None
    found = _read(source, some, table)
    named = [str(one.attrs.get("id") or "") for one in panel]
    named = panel.variates if named == [""] else named
    if len(have) < len(ids):
        rows = spread(table.frame, ids, named)
        if rows.empty:
            raise UserError(
                f"{_called(source)}: no series of {panel.name} has its {' and '.join(have)}; give those of the data"
            )
        table, some = read_columns(rows, data), data
        found = _read(source, data, table)
    _refuse_absent_ids(_called(source), number_series(table, some.id or ())[1], panel, known)
    return found


def _refuse_absent_ids(where: str, ids: Sequence[str], panel: Panel, known: Sequence[str]) -> None:
    """Raises UserError where ids that are variates have covariates of their own, and the file none of their rows."""
    variates = {part for name in panel.variates for part in prefixes(name)}
    absent = [
        name for name in known if (mine := variates & {*prefixes(name)}) and not mine & {*ids}
    ]
    if absent:
        raise UserError(
            f"{where}: has no rows for {join_names(absent, SHOWN)}, which this run reads; add them"
        )


def _roles(source: Any, config: TimeseriesApp, state: TimeseriesState) -> DataConfig:
    """The run's table `data` for another file: roles by the run's names, its frequency and zone."""
    data = config.data
    changes: dict[str, Any] = {
        **_FREE,
        "freq": state.freq or data.freq,
        "tz": data.tz or state.tz,
        "panel": state.panel or data.panel,
    }
    if isinstance(source, (str, Path)):
        changes["path"] = str(source)
        kind = _BENCHMARKS.get(Path(source).suffix.lower())
        if kind == data.source:
            return data.model_copy(update={**_FREE, "source": kind, "path": str(source)})
    variates = tuple(names_of(state, "target"))
    if data.id is None and variates:
        # By variable name where a variable has further axes than time: its columns have other names.
        # A run that left out columns of its own file has said how rows that they tell apart are joined.
        joined = data.how if data.drop else data.aggregate
        changes |= {"targets": data.targets or variates, "drop": (), "aggregate": joined}
    return data.model_copy(update=changes)


def _read(source: Any, data: DataConfig, table: Table | None = None) -> Panel:
    """A file or DataFrame; of a `table` that was read already, its columns by other roles."""
    if table is not None:
        again = replace(table, left_out=list(table.left_out))
        name = Path(source).name if isinstance(source, (str, Path)) else "the DataFrame"
        return assemble.panel_of(again, data, Findings(), assemble.Source(name))
    if isinstance(source, pd.DataFrame):
        return read.read_frame(source, data)
    if not isinstance(source, (str, Path)):
        raise UserError(f"{type(source).__name__}: give a file, a pandas DataFrame or a Panel")
    return read.read_panel(data)


def _table(source: Any, data: DataConfig) -> Table | None:
    """The columns of a DataFrame or a table's file; None for anything else."""
    if isinstance(source, pd.DataFrame):
        return read_columns(source, data)
    if (
        data.source != "file"
        or not isinstance(source, str | Path)
        or not Path(source).is_file()
        or read.kind_of(Path(source)) == "netcdf"
    ):
        return None
    return read_columns(source, data)


def _other_columns(
    source: Any,
    data: DataConfig,
    config: TimeseriesApp,
    state: TimeseriesState,
    known_elsewhere: bool,
    error: UserError,
) -> Panel:
    """A second look at a file that lacks something: known covariates that are given elsewhere, or all variates.

    Raises UserError: `error`, or that the rows are further apart than the run's.
    """
    try:
        table = _table(source, data)
    except UserError:
        raise error from None
    changes: list[dict[str, Any]] = (
        [{"known_future": ()}] if known_elsewhere and data.known_future else []
    )
    if data.id is None and names_of(state, "target"):
        drops = dict.fromkeys([config.data.drop, ()])
        changes += [
            {**one, "targets": None, "drop": drop} for one in ({}, *changes) for drop in drops
        ]
    for change in changes:
        try:
            panel = _read(source, data.model_copy(update=change), table)
        except UserError:
            continue
        if "targets" not in change or not set(panel.variates) & set(names_of(state, "target")):
            return panel
    if data.freq is not None and "data.freq" in str(error):
        try:
            freq = _read(source, data.model_copy(update={"freq": None}), table).freq
        except UserError:
            raise error from None
        raise UserError(
            f"{_called(source)}: its rows are {freq} apart, and this run forecasts steps of {data.freq}; give such "
            "rows, or train a run on these"
        ) from None
    raise error


def _aligned(
    panel: Panel,
    config: TimeseriesApp,
    state: TimeseriesState,
    *,
    known_elsewhere: bool = False,
    any_variates: bool = False,
) -> Panel:
    """The panel with the columns that the run's model takes, in their order.

    Raises UserError where covariates are missing (known-future ones may be, if `known_elsewhere`), or, unless
    `any_variates`, some of the variates.
    """
    wanted = names_of(state, "target")
    absent = [name for name in wanted if name not in set(panel.variates)]
    if not wanted:
        chosen = panel.variates
    elif not absent:
        chosen = wanted
    elif len(absent) < len(wanted) and config.data.id is None and not any_variates:
        raise UserError(
            f"{panel.name}: lacks {join_names(absent, SHOWN)}, which this run forecasts; add what is missing"
        )
    else:
        chosen = panel.variates
        _refuse_other_variates(panel, config, state)
        new = [name for name in chosen if name not in set(wanted)]
        line = (
            f"{len(new):,} of {len(chosen):,} variates are new to this run ({join_names(new, SHOWN)}): forecast "
            "unseen, each on the scale of its own first rows"
        )
        if new and line not in panel.findings.lines:
            panel.findings.say(line, unseen_variates=new)
    _warn_of_units(panel, state)
    kinds = {kind: names_of(state, kind) for kind in COVARIATES}
    _warn_of_texts(panel, kinds)
    series = []
    for one in panel:
        target = (
            one["target"] if chosen == panel.variates else one["target"].sel(variate=chosen)
        ).variable
        values = {
            kind: columns_of(one, kind, names, panel.name, known_elsewhere)
            for kind, names in kinds.items()
        }
        units = (
            dict(zip(panel.variates, one["units"].values, strict=True))
            if "units" in one.coords
            else {}
        )
        series.append(dataset(one.time.values, target, chosen, kinds, values, one.attrs, units))
    return replace(panel, series=tuple(series))


def _warn_of_units(panel: Panel, state: TimeseriesState) -> None:
    """Names the variates whose unit the file says, and which the run learned in another."""
    known = dict(zip(state.variates, state.units or (), strict=False))
    units = zip(panel.variates, panel.units or (), strict=False)
    other = [
        f"{name} in {unit}, the run in {known[name]}"
        for name, unit in units
        if unit and known.get(name) and unit != known[name]
    ]
    if other:
        warnings.warn(
            f"{panel.name}: is in other units than the run's ({join_names(other, SHOWN, '; ')}), whose scale, bounds "
            "and intervals are meant in its own: convert the file",
            stacklevel=4,
        )


def _warn_of_texts(panel: Panel, kinds: Mapping[str, Sequence[str]]) -> None:
    """Names the texts of covariates that the run never saw: each is none of its texts, 0 in all their columns."""
    new = []
    for kind, names in kinds.items():
        columns = {name.partition("=")[0] for name in names if "=" in name}
        have = panel.names(kind)
        new += [one for one in have if one not in names and one.partition("=")[0] in columns]
    if new:
        warnings.warn(
            f"{panel.name}: texts that this run never saw count as none of those that it knows: "
            f"{join_names(new, SHOWN)}",
            stacklevel=4,
        )


def _refuse_other_variates(panel: Panel, config: TimeseriesApp, state: TimeseriesState) -> None:
    """Raises UserError for a model that learned something of each of its variates, and of others has nothing.

    The variates of an imported checkpoint have no names: as many of them will do, in their order.
    """
    count = len(names_of(state, "target"))
    keys = [
        key
        for key, on in (
            ('model.normalise = "revin"', config.model.normalise == "revin"),
            ("tokeniser.identity", config.tokeniser.identity),
        )
        if on
    ]
    nameless = state.scaling is None and len(panel.variates) == count
    if keys and not nameless:
        raise UserError(
            f"{panel.name}: has other variates than this run, which learned something of each of its {count} "
            f"({' and '.join(keys)}); give a file with the same ones"
        )


def dataset(
    time: np.ndarray,
    target: Any,
    variates: Sequence[str],
    kinds: Mapping[str, Sequence[str]],
    values: Mapping[str, Any],
    attrs: Mapping[Any, Any],
    units: Mapping[str, str] | None = None,
) -> xr.Dataset:
    """One Dataset of a Panel; `kinds` names the columns of each kind of covariate, `values` holds them.

    An xarray.Variable is taken as it is, so it may lie on the disk.
    """
    given = units or {}
    labels = {kind: ((kind,), np.asarray(names, dtype=np.str_)) for kind, names in kinds.items()}
    dims = {
        "target": ("time", "variate"),
        "past": ("time", "past"),
        "known": ("time", "known"),
        "static": ("static",),
    }
    arrays = {
        kind if kind == "target" else f"{kind}_values": found
        if isinstance(found, xr.Variable)
        else xr.Variable(dims[kind], found)
        for kind, found in {"target": target, **values}.items()
    }
    coords = {
        "time": time,
        "variate": np.asarray(variates, dtype=np.str_),
        **labels,
        "units": (
            "variate",
            np.asarray([str(given.get(name, "")) for name in variates], dtype=np.str_),
        ),
    }
    return xr.Dataset(arrays, coords, attrs)


def columns_of(
    one: xr.Dataset, kind: str, names: Sequence[str], where: str, absent_ok: bool = False
) -> Any:
    """[T, names], or [names] of static ones: covariates by the run's names, as they lie in the file where they are it.

    Raises UserError for one that isn't there, unless `absent_ok` and it is known ahead.
    """
    have = [str(name) for name in one[kind].values] if kind in one.coords else []
    variable = variable_of(one, kind) if have else None
    if variable is not None and have == list(names):
        return variable
    length = () if kind == "static" else (one.sizes["time"],)
    values = np.zeros((*length, 0)) if variable is None else np.asarray(variable.values, np.float64)
    found = np.full((*length, len(names)), np.nan)
    for k, name in enumerate(names):
        at = _find(name, have)
        if at is None and not (absent_ok and kind == "known"):
            raise UserError(
                f"{where}: has no column {name} ({_KEYS[kind]}), which this run reads; add it"
            )
        if at is not None:
            found[..., k] = 0.0 if at < 0 else values[..., at]
    return found


def _find(name: str, have: Sequence[str]) -> int | None:
    """Where a covariate stands: by its name; without its id, if all ids share it; -1: a text that doesn't occur."""
    if name in have:
        return have.index(name)
    parts = name.split("/")  # an id of several columns has slashes of its own
    for rest in ("/".join(parts[first:]) for first in range(1, len(parts))):
        if rest in have:
            return have.index(rest)
    base, equals, _ = name.rpartition("=")
    if equals and any(other.startswith(f"{base}=") for other in have):
        return -1
    return None


def units_of(panel: Panel, state: TimeseriesState) -> list[str]:
    """The variates' units: the file's, else the run's."""
    known = dict(zip(state.variates, state.units or (), strict=False))
    given = panel.units or [""] * len(panel.variates)
    return [unit or known.get(name, "") for name, unit in zip(panel.variates, given, strict=True)]


def _called(source: Any) -> str:
    return str(source) if isinstance(source, (str, Path)) else f"the {type(source).__name__}"
