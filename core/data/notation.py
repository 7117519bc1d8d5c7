"""One cell of a number taken apart: sign, digits with their marks, exponent, unit, and what bounds it.

Which of the marks is the decimal one a cell alone may leave open; see `numbers`, which decides for a whole column.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

_LONGEST = 64  # characters of a number
_BLANKS = " \u00a0\u2007\u2009\u202f"
MINUS = "\u2010\u2012\u2013\u2212\ufe63\uff0d-"  # the plain one last: in a class of a pattern it is itself there
_APOSTROPHES = "'\u2019"
_CURRENCY = "$€£¥₹₽₩₺₪₴₫₱฿"
_MONEY = (  # letters that stand in front of a number; any others there make a code of it
    rf"(?:US|AU?|CA?|NZ|HK|R)?[{_CURRENCY}]"
    r"|EUR|USD|GBP|CHF|JPY|CNY|RMB|INR|BRL|AUD|CAD|NZD|SEK|NOK|DKK|PLN|CZK|HUF|RUB|TRY|ZAR|MXN|KRW|SGD|HKD"
    r"|S?Fr\.|kr\.?|Kč|zł|Rs\.?"
)
_LETTER = "A-Za-zµμΩ°\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f"
_SIGN = rf"(?P<{{}}>[+{MINUS}])?[{_BLANKS}]*"
_CELL = re.compile(
    r"(?P<bound><=|>=|=<|=>|<<|>>|<|>|≤|≥|~|≈)?\s*"
    + r"(?P<open>\()?\s*"
    + _SIGN.format("sign")
    + rf"(?P<before>{_MONEY})?[{_BLANKS}]*"
    + _SIGN.format("inner")
    + rf"(?P<body>[.,]?[0-9](?:[0-9.,{_APOSTROPHES}{_BLANKS}]*[0-9])?[.,]?)"
    + r"(?P<exponent>[eE][-+]?[0-9]{1,3})?"
    + rf"(?P<behind>[{MINUS}])?"
    + rf"[{_BLANKS}]*(?P<unit>[%‰°]|{_MONEY}|[{_LETTER}][{_LETTER}%/²³·]{{0,11}}[23]?\.?)?"
    + r"\s*(?P<close>\))?"
)
_GROUPS = re.compile(r"[0-9]{1,3}([.,][0-9]{3})+|[0-9]{1,2}(,[0-9]{2})+,[0-9]{3}")
_SIMPLE = re.compile(r"(-)?([0-9][0-9.,]{0,40})")
# Like a number to the eye, though it isn't read as one; no date, clock or code.
_LOOSE = re.compile(
    rf"[<>≤≥~≈=(\s+{MINUS}]*(?:{_MONEY})?[\s+{MINUS}]*(?![0-9]{{1,2}}\.[0-9]{{1,2}}\.[0-9])"
    rf"[0-9][0-9.,{_APOSTROPHES}{_BLANKS}]*"
    r"(?:\s*(?:±|\+/-|\+-).*|\s*[*x\u00d7\u00b7]\s*10\^?-?[0-9]+|\s*[^\s\d:]{1,12})?"
)


class Parts(NamedTuple):
    """A cell taken apart; `body` holds digits, points and commas alone."""

    body: str
    negative: bool = False
    bound: str = ""
    exponent: str = ""
    unit: str = ""
    grouped: bool = False  # by blanks or apostrophes

    @property
    def evidence(self) -> str:
        """The mark that can only be the decimal one here, "" where there is none, "?" where either could be."""
        points, commas = self.body.count("."), self.body.count(",")
        if not points and not commas:
            return ""
        if points and commas:
            decimal = "." if self.body.rindex(".") > self.body.rindex(",") else ","
        elif points + commas > 1:
            decimal = "," if points else "."
        else:
            mark = "." if points else ","
            whole, _, rest = self.body.partition(mark)
            open_ = len(rest) == 3 and 1 <= len(whole) <= 3 and whole[0] != "0"
            return "?" if open_ and not self.exponent and not self.grouped else mark
        return "" if math.isnan(self.value(decimal)) else decimal

    def value(self, decimal: str) -> float:
        """The number, NaN where the marks don't fit."""
        thousands = "," if decimal == "." else "."
        whole, mark, rest = self.body.partition(decimal)
        if thousands in whole and _GROUPS.fullmatch(whole) is None:
            return math.nan
        if thousands in rest or (mark and decimal in rest):
            return math.nan
        number = float(f"{whole.replace(thousands, '') or '0'}.{rest or '0'}{self.exponent}")
        return -number if self.negative else number


def _is_grouped(groups: Sequence[str]) -> bool:
    return 1 <= len(groups[0]) <= 3 and all(len(group) == 3 for group in groups[1:])


def take_apart(cell: str) -> Parts | None:
    """The parts of a cell that looks like a number, else None."""
    simple = _SIMPLE.fullmatch(cell)
    if simple is not None:
        return Parts(simple[2], simple[1] is not None)
    match = _CELL.fullmatch(cell) if len(cell) <= _LONGEST else None
    if match is None or bool(match["open"]) != bool(match["close"]):
        return None
    signs = [match[name] for name in ("sign", "inner", "behind") if match[name]]
    if len(signs) > 1 or (match["before"] and match["unit"]):
        return None
    if match["unit"] and match["body"][-1] in ".,":  # 3.png, 12. Jan
        return None
    body, grouped = match["body"], False
    for marks in (_BLANKS, _APOSTROPHES):
        used = {mark for mark in body if mark in marks}
        if not used:
            continue
        if grouped or len(used) > 1:
            return None
        mark = used.pop()
        whole = re.split("[.,]", body, maxsplit=1)[0]
        if mark in body[len(whole) :] or not _is_grouped(whole.split(mark)):
            return None
        body, grouped = body.replace(mark, ""), True
    return Parts(
        body,
        bool(match["open"]) or signs not in ([], ["+"]),
        match["bound"] or "",
        match["exponent"] or "",
        match["unit"] or match["before"] or "",
        grouped,
    )


def decimal_evidence(cells: Iterable[str]) -> str:
    """The decimal mark that the first telling cell shows, "" where none does."""
    for cell in cells:
        if "." in cell or "," in cell:
            parsed = take_apart(cell)
            if parsed is not None and parsed.evidence in (".", ","):
                return parsed.evidence
    return ""


def looks_like_number(cell: str) -> bool:
    """Whether a person would take a cell for a number, though it may not be read as one: 1 ± 0.1, 3 uM, 12.3*."""
    return len(cell) <= _LONGEST and _LOOSE.fullmatch(cell) is not None
