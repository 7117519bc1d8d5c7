"""What a verb of the command line is handed."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from isoform.core.cli.console import Console

if TYPE_CHECKING:
    from isoform.core.domain import AnyDomain


@dataclass(frozen=True)
class Context:
    """What a verb gets: its arguments, the domains, and where to speak."""

    args: argparse.Namespace
    domains: Mapping[str, Callable[[], AnyDomain]]
    console: Console

    @property
    def domain(self) -> AnyDomain:
        """The domain that the command line names."""
        return self.domains[self.args.command]()
