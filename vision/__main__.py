"""`python -m isoform.vision VERB ...`, the same as `isoform vision VERB ...`."""

from __future__ import annotations

import sys

from isoform.core.cli import main
from isoform.vision import DOMAIN

if __name__ == "__main__":
    sys.exit(main(["vision", *sys.argv[1:]], domains={"vision": lambda: DOMAIN}))
