"""The command line of this domain, for its tests."""

import pytest

from isoform.core.cli import main
from isoform.timeseries import DOMAIN


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]):
    """Words behind `isoform timeseries` -> (exit code, stdout, stderr)."""

    def call(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(["timeseries", *map(str, words)], domains={"timeseries": lambda: DOMAIN})
        return code, *capsys.readouterr()

    return call
