"""The settings of vision apps: each has a reader, and an old key names the new one."""

from pathlib import Path

import pytest
from pydantic import BaseModel

from config_readers import reads_of, unread_keys
from isoform.core.config import resolve_app
from isoform.core.errors import UserError
from isoform.vision import DOMAIN
from isoform.vision.config import VisionApp
from isoform.vision.data.sources import SOURCES, source_of

ROOT = Path(__file__).resolve().parents[2]


def test_every_key_has_a_reader():
    assert unread_keys(VisionApp, [ROOT / "core", ROOT / "vision"]) == []


def test_a_key_without_a_reader_is_found(tmp_path):
    class DataTable(BaseModel):
        mean: float = 0
        root: str = ""
        names: str = ""

    class App(BaseModel):
        data: DataTable = DataTable()
        size: int = 0

    code = "def f(app, x):\n    table = app.data\n    x.mean()\n    return table.root, getattr(app, 'size')\n"
    (tmp_path / "a.py").write_text(code)
    (tmp_path / "b.py").write_text(
        "def g(image):\n    return image.mean, image.names\n"
    )  # of something else
    assert unread_keys(App, [tmp_path]) == ["data.mean", "data.names"]
    (tmp_path / "b.py").write_text(
        "def g(data: DataTable):\n    return [getattr(data, n) for n in ('mean', 'x')]\n"
    )
    assert unread_keys(App, [tmp_path], {"data.mean": "b.py", "data.names": "b.py"}) == [
        "data.names"
    ]
    assert reads_of("x.y = 1").attributes == frozenset()


@pytest.mark.parametrize("old", VisionApp.moved)
def test_an_old_key_names_the_new_one(old):
    with pytest.raises(
        UserError, match=f"{old}: unknown key; it is called {VisionApp.moved[old]} now"
    ):
        resolve_app("vit-mnist-tiny", domain=DOMAIN, sets=[f"{old}=1"])


def test_an_unknown_source_names_those_that_there_are():
    with pytest.raises(
        UserError, match=r"no such source of images; known: mnist5k, .*, torchvision:NAME"
    ):
        resolve_app("vit-mnist-tiny", domain=DOMAIN, sets=["data.source=mnist6k"])
    assert source_of("torchvision:SVHN").title == "torchvision:SVHN"
    assert all(source.title and source.needs for source in SOURCES.values())
