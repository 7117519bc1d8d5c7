"""`isoform timeseries forecast RUN FILE`: what follows a file, as a table or an array file and a picture."""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections.abc import Mapping
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

FORMATS = (".csv", ".parquet", ".nc", ".zarr")


def run_forecast(args: argparse.Namespace, console: Speaker) -> int:
    """The command: reads, forecasts, then writes everything asked for, or nothing."""
    from isoform.timeseries import DOMAIN

    if args.out is not None:
        check_out(args.out)
    if args.plot is not None:
        drawing.kind_of(args.plot)
    levels = parse_levels(args.quantiles)
    predictor: Any = api.load_predictor(DOMAIN, args.run_dir, args.checkpoint)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        panel = predictor.read(args.file, known_elsewhere=args.future is not None)
        found = predictor.forecast(
            panel,
            future=args.future,
            start=args.start,
            levels=levels,
        )
    for line in [*panel.findings.lines, *(str(one.message) for one in said)]:
        console.warn(line)
    pictures = {}
    if args.plot is not None:
        pictures[args.plot] = drawing.picture(
            plots.draw(plots.curves(found, panel), panel.tz), args.plot
        )
    if args.out is not None:
        write(found, args.out, pictures)
    else:
        writers.write_together(pictures)
        if not console.json:
            console.say(writers.csv_text(columns_of(found)).rstrip("\n"))
    _report(found, args, console)
    return 0


def _report(
    found: xr.Dataset,
    args: argparse.Namespace,
    console: Speaker,
) -> None:
    first, last = stamps_of(found)[[0, -1]]
    horizon, variates = int(found["step"].max()), found.sizes["variate"]
    series = found.sizes.get("id", 1)
    console.result = {
        "series": series,
        "variates": variates,
        "horizon": horizon,
        "from": text_of(first),
        "until": text_of(last),
        "quantiles": [float(q) for q in found["quantile"].values] if "quantiles" in found else [],
        "out": args.out,
        "plot": args.plot,
    }
    if args.out is None and console.json:
        console.result["rows"] = columns_of(found)
    if args.out is not None:
        many = f"{series} series x " if series > 1 else ""
        console.say(
            f"{many}{variates} variate(s) x {horizon} steps, {text_of(first)} to {text_of(last)}: {args.out}"
        )
    if args.plot is not None:
        shown = min(plots.MOST, series * variates)
        of = f" (the first {shown} of {series * variates})" if shown < series * variates else ""
        console.say(f"picture{of}: {args.plot}")


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
    """id, stamp, variate, mean, q0.1, ...: one row an id, stamp and variate, in this order.

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
    if "quantiles" in many:
        values = many["quantiles"].values[i, t]
        for k, level in enumerate(many["quantile"].values):
            columns[f"q{level:g}"] = _values(values[..., k].ravel(), texts)
    if not texts:
        columns["stamp"] = stamps[columns["stamp"]]
    return columns


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
    beside: Mapping[str | Path, bytes] | None = None,
) -> None:
    """Writes forecasts in the format that the file's ending names, and other files with them: all of it, or nothing.

    Raises UserError where something can't be written.
    """
    check_out(path)
    others = dict(beside or {})
    suffix = Path(path).suffix.lower()
    if suffix == ".zarr":
        with api.staged(path) as place:
            found.to_zarr(place, mode="w-", zarr_format=2)  # of format 3, text has no settled form
            writers.write_together(others)
        return
    if suffix == ".csv":
        content = writers.csv_text(columns_of(found)).encode()
    elif suffix == ".parquet":
        content = writers.parquet_bytes(columns_of(found, texts=False))
    else:
        with tempfile.TemporaryDirectory() as folder:
            found.to_netcdf(Path(folder) / "forecast.nc", engine="h5netcdf")
            content = (Path(folder) / "forecast.nc").read_bytes()
    writers.write_together({path: content, **others})
