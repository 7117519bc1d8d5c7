"""Files that people reported. They lie beside the repository, not in it."""

from __future__ import annotations

from pathlib import Path

import pytest

CASES = Path(__file__).resolve().parents[2] / "shared" / "cases"


def case(domain: str, name: str) -> Path:
    """A file of a domain; the test is skipped where it isn't at hand."""
    path = CASES / domain / name
    if not path.exists():
        pytest.skip(f"no {path}")
    return path
