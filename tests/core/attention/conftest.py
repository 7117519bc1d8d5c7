"""Whether compiled attention is there: what a test says of the paths beside it must not hang on a C compiler."""

from __future__ import annotations

import pytest

from isoform.core.attention import dispatch
from isoform.core.attention.native_build import Native


@pytest.fixture
def without_native(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine without a C compiler."""
    monkeypatch.setattr(dispatch, "native", lambda: Native(None, "it is away"))


@pytest.fixture
def with_native(monkeypatch: pytest.MonkeyPatch) -> None:
    """Choices as where there is one; nothing may be computed."""
    monkeypatch.setattr(dispatch, "native", lambda: Native(None))
