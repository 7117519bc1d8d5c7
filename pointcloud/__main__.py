"""`python -m isoform.pointcloud VERB ...`, the same as `isoform pointcloud VERB ...`."""

from __future__ import annotations

import sys

from isoform.core.cli import main
from isoform.pointcloud import DOMAIN

if __name__ == "__main__":
    sys.exit(main(["pointcloud", *sys.argv[1:]], domains={"pointcloud": lambda: DOMAIN}))
