"""`isoform timeseries forecast RUN FILE...`: what follows each file, as a table or an array file and a picture."""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from isoform.core import api
from isoform.core.data import writers
from isoform.core.domain import Speaker
from isoform.core.errors import UserError
from isoform.core.report import drawing
from isoform.timeseries import plots
from isoform.timeseries.data.panel import Panel

FORMATS = (".csv", ".parquet", ".nc", ".zarr")
TABLES = (".csv", ".parquet")  # those that hold the forecasts of several files


@dataclass(frozen=True)
class Made:
    """The forecasts of one file."""

    file: str
    panel: Panel
    found: xr.Dataset

    def summary(self) -> dict[str, Any]:
        """What they are, for --json."""
        first, last = stamps_of(self.found)[[0, -1]]
        return {
            "series": self.found.sizes.get("id", 1),
            "variates": self.found.sizes["variate"],
            "horizon": int(self.found["step"].max()),
            "from": text_of(first),
            "until": text_of(last),
        }


def run_forecast(args: argparse.Namespace, console: Speaker) -> int:
    """The command: reads, forecasts, then writes everything asked for, or nothing.

    Of several files, those that can't be forecast are named, a sentence each, and the others written; the exit code is
    2 if none is left (with --strict: if any failed).
    """
    from isoform.timeseries import DOMAIN

    places = places_of(args.files, args.out, args.plot)
    levels = parse_levels(args.quantiles)
    predictor: Any = (
        api.load_predictor(DOMAIN, args.run_dir, args.checkpoint)
        if args.baseline is None
        else api.load_baseline(DOMAIN, args.run_dir, args.baseline, args.checkpoint)
    )
    predictor.wanted_levels(levels)  # what the run can't give is no file's fault
    made, failed = _forecast_all(predictor, args, levels, console)
    if not made:
        raise UserError(
            f"none of {len(args.files)} files could be forecast; mend those named above"
        )
    _write(made, places, args, console)
    _report(made, failed, args, console)
    if failed and args.strict:
        raise UserError(f"{len(failed)} of {len(args.files)} files failed; mend those named above")
    return 0


def _forecast_all(
    predictor: Any, args: argparse.Namespace, levels: tuple[float, ...] | None, console: Speaker
) -> tuple[list[Made], dict[str, str]]:
    """The forecasts of every file that has any, and {file: why not} of the others.

    A line that holds of several files is said once. Raises UserError where the only file can't be forecast.
    """
    several = len(args.files) > 1
    made: list[Made] = []
    failed: dict[str, str] = {}
    said: dict[str, list[str]] = {}  # line -> files
    for file in console.track(args.files, "forecasting") if several else args.files:
        try:
            one, lines = _forecast(predictor, file, args, levels)
            made.append(one)
        except UserError as error:
            if not several:
                raise
            failed[file], lines = str(error), [str(error)]
        for line in lines:
            said.setdefault(line, []).append(file)
    note = predictor.note_on_intervals(levels)
    for line, files in said.items():
        console.warn(_of_files(line, files) if several and line != note else line)
    return made, failed


def _forecast(
    predictor: Any, file: str, args: argparse.Namespace, levels: tuple[float, ...] | None
) -> tuple[Made, list[str]]:
    """The forecasts of a file, and what a person should know of it."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        panel = predictor.read(file, known_elsewhere=args.future is not None)
        found = predictor.forecast(panel, future=args.future, start=args.start, levels=levels)
    lines = [*panel.findings.lines, *(str(one.message) for one in said)]
    return Made(file, panel, found), list(dict.fromkeys(lines))


def _of_files(line: str, files: Sequence[str]) -> str:
    """A line with the files that it is about, unless it begins with its file's name."""
    if line.startswith((files[0], Path(files[0]).name)):
        return line
    return f"{files[0]}{f' and {len(files) - 1:,} more' if len(files) > 1 else ''}: {line}"


def _write(
    made: Sequence[Made],
    places: Mapping[str, Path] | None,
    args: argparse.Namespace,
    console: Speaker,
) -> None:
    several = len(args.files) > 1
    pictures: dict[str | Path, bytes | str] = {}
    if args.plot is not None:
        curves = plots.curves(made[0].found, made[0].panel)
        pictures[args.plot] = drawing.picture(plots.draw(curves, made[0].panel.tz), args.plot)
    if places is not None:
        tables: dict[str | Path, bytes | str] = {
            places[one.file]: writers.csv_text(columns_of(one.found)) for one in made
        }
        writers.write_together({**tables, **pictures})
    elif args.out is not None and several:
        writers.write_columns(table_of(made, texts=not args.out.endswith(".parquet")), args.out)
    elif args.out is not None:
        write(made[0].found, args.out, pictures)
    else:
        writers.write_together(pictures)
        if not console.json:
            table = table_of(made) if several else columns_of(made[0].found)
            console.say(writers.csv_text(table).rstrip("\n"))


def _report(
    made: Sequence[Made], failed: Mapping[str, str], args: argparse.Namespace, console: Speaker
) -> None:
    several = len(args.files) > 1
    found = made[0].found
    levels = [float(q) for q in found["quantile"].values] if "quantiles" in found else []
    asked = {"quantiles": levels, "out": args.out, "plot": args.plot}
    if several:
        each = {one.file: one.summary() for one in made} | {
            file: {"error": why} for file, why in failed.items()
        }
        files = [{"file": file, **each[file]} for file in args.files]
        console.result = {"files": files, "failed": len(failed), **asked}
    else:
        console.result = {**made[0].summary(), **asked}
    if args.out is None and console.json:
        console.result["rows"] = table_of(made) if several else columns_of(found)
    if args.out is not None:
        console.say(f"{_said(made, len(args.files))}: {args.out}")
    if args.plot is not None:
        count = made[0].summary()["series"] * made[0].summary()["variates"]
        shown = min(plots.MOST, count)
        console.say(
            f"picture{f' (the first {shown} of {count})' if shown < count else ''}: {args.plot}"
        )


def _said(made: Sequence[Made], files: int) -> str:
    one = made[0].summary()
    if files > 1:
        return f"{len(made)} of {files} files forecast, {one['horizon']} steps each"
    many = f"{one['series']} series x " if one["series"] > 1 else ""
    return f"{many}{one['variates']} variate(s) x {one['horizon']} steps, {one['from']} to {one['until']}"


def parse_levels(text: str | None) -> tuple[float, ...] | None:
    """ ".1,.9" -> (0.1, 0.9), ascending; None stays: what the run can give. Raises UserError for what is no level."""
    if text is None:
        return None
    try:
        levels = sorted({float(part) for part in text.split(",") if part.strip()})
    except ValueError:
        raise UserError(
            f"--quantiles {text}: should be numbers between 0 and 1, such as .1,.5,.9"
        ) from None
    if any(not 0 < level < 1 for level in levels):
        raise UserError(f"--quantiles {text}: every level lies between 0 and 1, such as .1,.5,.9")
    return tuple(levels)


def check_out(path: str | Path) -> None:
    """Raises UserError for an ending that isn't written, or a store that is there already."""
    if Path(path).suffix.lower() not in FORMATS:
        raise UserError(f"{path}: --out should end in {', '.join(FORMATS)}")
    writers.format_of(path, FORMATS)
    if Path(path).suffix.lower() == ".zarr" and Path(path).exists():
        raise UserError(f"{path}: exists already; name another --out")


def places_of(files: Sequence[str], out: str | None, plot: str | None) -> dict[str, Path] | None:
    """{file: where its forecasts go} if `out` is a folder; None if it is a file, or there is none.

    A folder is what exists as one, or ends in a slash. Raises UserError for an ending that isn't written, for what
    several files can't share, and for two that would go to one place.
    """
    if plot is not None:
        drawing.kind_of(plot)
    if plot is not None and len(files) > 1:
        raise UserError("--plot draws the forecasts of one file; name one, or leave --plot out")
    if out is None:
        if len(set(files)) < len(files):
            raise UserError("a file is named twice; name each once")
        return None
    if not out.endswith("/") and not (Path(out).is_dir() and Path(out).suffix != ".zarr"):
        check_out(out)
        if len(files) > 1 and Path(out).suffix.lower() not in TABLES:
            raise UserError(
                f"{out}: the forecasts of several files go into one table, {' or '.join(TABLES)}, or into a "
                f"folder: --out {Path(out).stem}/"
            )
        return None
    places: dict[Path, str] = {}
    for file in files:
        place = Path(out) / f"{Path(file).name.split('.')[0]}.csv"
        if place in places:
            raise UserError(
                f"{places[place]} and {file}: both would go to {place}; forecast them into two folders"
            )
        places[place] = file
    return {file: place for place, file in places.items()}


# ---------------------------------------------------------------------- forecasts as a table


def stamps_of(found: xr.Dataset) -> pd.DatetimeIndex:
    """The forecasts' stamps, with their zone where they have one."""
    stamps = pd.DatetimeIndex(found.time.values)
    zone = found.attrs.get("time_zone")
    return stamps.tz_localize("UTC").tz_convert(zone) if zone else stamps


def text_of(stamp: pd.Timestamp) -> str:
    """2026-10-25T02:30:00+01:00: ISO 8601, with the offset of its zone at that time where it has a zone."""
    return stamp.isoformat()


def texts_of(stamps: pd.DatetimeIndex) -> list[str]:
    """Of all stamps; dates alone where no stamp has a zone or a time of day."""
    if stamps.tz is None and bool((stamps == stamps.normalize()).all()):
        return [str(day) for day in stamps.strftime("%Y-%m-%d")]
    return [text_of(stamp) for stamp in stamps]


def columns_of(found: xr.Dataset, *, texts: bool = True) -> dict[str, Any]:
    """id, stamp, variate, mean, (of an ensemble) spread, q0.1, ...: one row an id, stamp and variate, in this order.

    `stamp` as text, or as pandas' stamps with their zone. A value that could not be forecast is None (NaN without
    `texts`).
    """
    stamps = stamps_of(found)
    written: Any = np.array(texts_of(stamps), dtype=object) if texts else np.arange(len(stamps))
    many = found if "id" in found.dims else found.expand_dims(id=[""])
    many = many.transpose("id", "time", "variate", ...)
    i, t = np.nonzero(
        many["step"].broadcast_like(many["mean"].isel(variate=0)).transpose("id", "time").values > 0
    )
    variates = many["variate"].values.astype(object)
    ids = many["id"].values.astype(object)
    columns: dict[str, Any] = {
        "id": np.repeat(ids[i], len(variates)),
        "stamp": np.repeat(written[t], len(variates)),
        "variate": np.tile(variates, len(i)),
        "mean": _values(many["mean"].values[i, t].ravel(), texts),
    }
    if "spread" in many:
        columns["spread"] = _values(many["spread"].values[i, t].ravel(), texts)
    if "quantiles" in many:
        values = many["quantiles"].values[i, t]
        for k, level in enumerate(many["quantile"].values):
            columns[f"q{level:g}"] = _values(values[..., k].ravel(), texts)
    if not texts:
        columns["stamp"] = stamps[columns["stamp"]]
    return columns


def table_of(made: Sequence[Made], *, texts: bool = True) -> dict[str, Any]:
    """The tables of several files as one, the column `file` first; see `columns_of`.

    Without `texts`, stamps of several zones are in UTC. Raises UserError where only some of them have a zone.
    """
    each = [columns_of(one.found, texts=texts) for one in made]
    table: dict[str, Any] = {
        "file": [one.file for one, part in zip(made, each, strict=True) for _ in part["variate"]]
    }
    for name in each[0]:
        parts = [part[name] for part in each]
        if texts or name != "stamp":
            table[name] = [value for part in parts for value in part]
            continue
        zones = {str(part.tz) for part in parts}
        if len(zones) > 1 and "None" in zones:
            raise UserError(
                "the stamps of some files have a zone and those of others none; --out a .csv or a folder"
            )
        if len(zones) > 1:
            parts = [part.tz_convert("UTC") for part in parts]
        table[name] = parts[0].append(parts[1:])
    return table


def _values(values: np.ndarray, texts: bool) -> Any:
    return cells(values) if texts else values


def cells(values: np.ndarray) -> Any:
    """Numbers for a table of text: None, an empty cell, where there is none."""
    return (
        values
        if np.isfinite(values).all()
        else [value if value == value else None for value in values.tolist()]
    )


def write(
    found: xr.Dataset,
    path: str | Path,
    beside: Mapping[str | Path, bytes | str] | None = None,
) -> None:
    """Writes forecasts in the format that the file's ending names, and other files with them: all of it, or nothing.

    Raises UserError where something can't be written.
    """
    check_out(path)
    others = dict(beside or {})
    suffix = Path(path).suffix.lower()
    if suffix == ".zarr":
        with writers.staged(path) as place:
            found.to_zarr(place, mode="w-", zarr_format=2)  # of format 3, text has no settled form
            writers.write_together(others)
        return
    if suffix == ".csv":
        content: bytes | str = writers.csv_text(columns_of(found))
    elif suffix == ".parquet":
        content = writers.parquet_bytes(columns_of(found, texts=False))
    else:
        with tempfile.TemporaryDirectory() as folder:
            found.to_netcdf(Path(folder) / "forecast.nc", engine="h5netcdf")
            content = (Path(folder) / "forecast.nc").read_bytes()
    writers.write_together({path: content, **others})
