"""One test id a stored case, found below --golden-dir."""

from __future__ import annotations

from pathlib import Path

import pytest

from golden.cases import PENDING, find


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case_path" not in metafunc.fixturenames:
        return
    folder = Path(metafunc.config.getoption("--golden-dir"))
    cases = list(find(folder)) if folder.is_dir() else []
    parameters = [
        pytest.param(
            path,
            id=path.relative_to(folder).with_suffix("").as_posix(),
            marks=[pytest.mark.xfail(reason=f"kind {kind!r} is pending", strict=True)]
            if kind in PENDING
            else [],
        )
        for path, kind in cases
    ]
    if not parameters:
        parameters = [
            pytest.param(None, id="none", marks=pytest.mark.skip(reason=f"no cases below {folder}"))
        ]
    metafunc.parametrize("case_path", parameters)
