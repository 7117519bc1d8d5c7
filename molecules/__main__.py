"""`python -m isoform.molecules VERB ...`, the same as `isoform molecules VERB ...`."""

from __future__ import annotations

import sys

from isoform.core.cli import main
from isoform.molecules import DOMAIN

if __name__ == "__main__":
    sys.exit(main(["molecules", *sys.argv[1:]], domains={"molecules": lambda: DOMAIN}))
