"""Which rules readers used, and on how many systems."""

from __future__ import annotations

from collections import Counter

from isoform.core.errors import count


class Notes(Counter[str]):
    """How many systems each rule was used on; `lines` says it."""

    def note(self, rule: str, used: bool) -> None:
        """Counts a system, where the rule was used on it."""
        if used:
            self[rule] += 1

    def lines(self) -> list[str]:
        """One line a rule."""
        return [f"{count(times, 'system')}: {rule}" for rule, times in self.items()]
