"""Numbers as a person reads them: in reports, in the progress bar."""

from __future__ import annotations

from collections.abc import Iterable


def number(value: float | None) -> str:
    """Four significant digits; integers whole, and "-" for what isn't known."""
    if value is None or value != value:
        return "-"
    if isinstance(value, int):
        return str(value)
    return f"{0 if abs(value) < 1e-9 else value:.4g}"


def several(values: Iterable[float | None]) -> str:
    """Numbers of four significant digits side by side; "-" for what isn't known."""
    return " ".join("-" if value is None else f"{value:.4g}" for value in values)


def axis_number(value: float) -> str:
    """A number beside a chart's axis: short, thousands apart."""
    if value and not 1e-3 <= abs(value) < 1e6:
        return f"{value:.3g}"
    return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"


def fraction(value: float) -> str:
    """A number between 0 and 1 by three decimals, so that a column of them lines up; "-" for NaN."""
    return "-" if value != value else f"{value:.3f}"


def clock(seconds: float) -> str:
    """A duration as h:mm:ss or m:ss."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def mebibytes(count: float) -> str:
    """A number of bytes as MiB."""
    return f"{count / 2**20:,.0f} MiB"
