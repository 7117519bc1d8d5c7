"""`python -m isoform.timeseries VERB ...`, the same as `isoform timeseries VERB ...`."""

from __future__ import annotations

import sys

from isoform.core.cli import main
from isoform.timeseries import DOMAIN

if __name__ == "__main__":
    sys.exit(main(["timeseries", *sys.argv[1:]], domains={"timeseries": lambda: DOMAIN}))
