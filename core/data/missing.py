"""What stands for "no value" in a table: words, and the numbers that programs write where they have none."""

from __future__ import annotations

# In small letters. A cell that is one of these is no number and no mistake either; a column of text keeps it as it is.
MISSING = frozenset([
    "", "na", "n/a", "n.a.", "<na>", "nan", "-nan", "nat", "null", "none", "nil", "missing", "unknown", "nd", "n.d.",
    "-", "--", "---", ".", "?", "#n/a", "#na", "#nv", "#value!", "#div/0!", "#ref!", "#num!", "#name?",
])  # fmt: skip
# Codes that instruments and archives write for a missing value; named where they lie far from all other numbers.
CODES = (
    -99.0,
    -999.0,
    -9999.0,
    -99999.0,
    -999.9,
    -999.25,
    -9999.9,
    -99.9,
    -99.99,
    -999.99,
    -9999.99,
    -32768.0,
    9999.0,
    9999.9,
    9999.99,
    99999.0,
    999999.0,
    -1e20,
    1e20,
    1e30,
)
