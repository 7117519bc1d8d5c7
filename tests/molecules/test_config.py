"""Every setting is read by somebody, and an old one names the new."""

from __future__ import annotations

from pathlib import Path

import pytest

from config_readers import unread_keys
from isoform.core.config import resolve_app
from isoform.core.errors import UserError
from isoform.molecules import DOMAIN
from isoform.molecules.config import MoleculesApp

ROOT = Path(__file__).resolve().parents[2]


def test_every_key_has_a_reader():
    assert unread_keys(MoleculesApp, [ROOT / "core", ROOT / "molecules"]) == []


@pytest.mark.parametrize("old", MoleculesApp.moved)
def test_an_old_key_names_the_new_one(old):
    with pytest.raises(UserError) as raised:
        resolve_app("graphormer-own", domain=DOMAIN, sets=[f"{old}=1"])
    assert f"{old}: unknown key; it is called {MoleculesApp.moved[old]} now" in str(raised.value)
