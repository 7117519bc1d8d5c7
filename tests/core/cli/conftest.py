"""The command line, in process, over the toy domain."""

from __future__ import annotations

import pytest

from isoform.core import api
from isoform.core.cli import main
from isoform.core.config import layers

from .toys import BUILT_IN, DOMAINS, TOYS, fitted, made, prepared


@pytest.fixture
def place(monkeypatch, tmp_path):
    """An empty working folder, and the apps of the toy domain alone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(layers, "built_in", lambda: BUILT_IN)
    made.clear()
    prepared.clear()
    fitted.clear()
    return tmp_path


@pytest.fixture
def cli(capsys, place):
    """Runs a command line; returns its exit code, stdout, stderr."""

    def run(*argv):
        capsys.readouterr()
        code = main([str(word) for word in argv], domains=DOMAINS)
        return code, *capsys.readouterr()

    return run


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A finished run, made once; tests don't write into it."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layers, "built_in", lambda: BUILT_IN)
        api.train(api.Request(TOYS, "mlp"), folder, progress=False, say=lambda line: None)
    return folder
