"""The command line of `python -m isoform.DOMAIN.demo RUN`, which draws one picture from any run of a domain."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from isoform.core.errors import UserError


def main(
    domain: str, what: str | None, draw: Callable[..., Path], arguments: Sequence[str] | None = None
) -> int:
    """Calls `draw` (run, out, data=) and names the picture; 2 for the user's mistake. `what` is said by --help."""
    parser = argparse.ArgumentParser(prog=f"python -m isoform.{domain}.demo", description=what)
    parser.add_argument("run", metavar="RUN", help="the folder of a trained run")
    parser.add_argument(
        "--out", metavar="FILE", help="the picture: .png, .svg or .pdf (default RUN/demo.png)"
    )
    parser.add_argument(
        "--data", metavar="PATH", help="other data than the run's own, as for eval --data"
    )
    args = parser.parse_args(arguments)
    try:
        path = draw(args.run, args.out, data=args.data)
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(f"{path}\n")
    return 0
