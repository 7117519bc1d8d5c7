"""The `isoform` command."""

from __future__ import annotations

import sys

from isoform.core.cli import main as run
from isoform.registry import domains


def main() -> None:
    """Runs the command line of this process and exits with its code."""
    sys.exit(run(domains=domains()))


if __name__ == "__main__":
    main()
