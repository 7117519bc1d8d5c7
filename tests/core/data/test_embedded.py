"""Files inside installed packages: read without an import, and only where they are to the byte what is known."""

import hashlib
import importlib

import pytest

from isoform.core.data.embedded import read_embedded
from isoform.core.errors import UserError


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package "pebbles" 1.2.3 with one data file; importing it fails."""
    content = b"7,11,13\n"
    (tmp_path / "pebbles" / "data").mkdir(parents=True)
    (tmp_path / "pebbles" / "__init__.py").write_text("raise RuntimeError('imported')")
    (tmp_path / "pebbles" / "data" / "x.csv").write_bytes(content)
    info = tmp_path / "pebbles-1.2.3.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pebbles\nVersion: 1.2.3\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    return hashlib.sha256(content).hexdigest()


def read(sha256, package="pebbles", path="pebbles/data/x.csv"):
    return read_embedded(package, "1.2.3", path, sha256, "the pebbles come")


def test_the_known_file_is_read(package):
    assert read(package) == b"7,11,13\n"


def test_another_file_and_an_absent_package_are_refused(package):
    known = r"is not the file of pebbles 1\.2\.3 \(found 1\.2\.3\): pip install --force-reinstall pebbles==1\.2\.3"
    for bad in ({"sha256": "0" * 64}, {"sha256": package, "path": "pebbles/data/y.csv"}):
        with pytest.raises(UserError, match=known):
            read(**bad)
    with pytest.raises(
        UserError, match="the pebbles come inside the package no-such-one, which is not installed"
    ):
        read(package, "no-such-one")
