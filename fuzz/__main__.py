"""`python -m fuzz [TARGET...] [--mutations N] [--minutes M] [--seed N] [--keep]`: see fuzz/__init__.py."""

from __future__ import annotations

import argparse
import sys

from fuzz.drive import fuzz, keep, mutation, seed_files
from fuzz.targets import TARGETS

LEAST_PAST = 0.3


def main() -> int:
    """Prints a line a target; 1 where there are findings, or too little of what was changed lies past the headers."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", help=f"of {', '.join(TARGETS)}")
    parser.add_argument("--mutations", type=int, default=100_000, help="a target")
    parser.add_argument("--minutes", type=float, default=20.0, help="a target, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--keep", action="store_true", help="store what finds something in fuzz/corpus"
    )
    told = parser.parse_args()
    if unknown := set(told.targets) - set(TARGETS):
        parser.error(f"no target is called {', '.join(sorted(unknown))}")
    outcomes = []
    for name in told.targets or TARGETS:
        outcome = fuzz(name, told.mutations, seed=told.seed, minutes=told.minutes)
        outcomes.append(outcome)
        print(outcome.line(), flush=True)
        files = seed_files(TARGETS[name]) if outcome.findings and told.keep else []
        for what, numbers in outcome.findings.items():
            print(f"    {len(numbers)} times, first in mutation {numbers[0]}: {what}", flush=True)
            for number in numbers[:2] if told.keep else ():
                content, _ = mutation(TARGETS[name], files, told.seed, number)
                print(f"        kept as {keep(TARGETS[name], content).name}")
    mutations, changes = sum(one.done for one in outcomes), sum(one.changes for one in outcomes)
    past = sum(one.past_changes for one in outcomes) / max(1, changes)
    found = sum(len(one.findings) for one in outcomes)
    print(
        f"{mutations:,} mutations, {changes:,} changes, {past:.0%} past the header, {found} findings"
    )
    return int(bool(found) or past < LEAST_PAST)


if __name__ == "__main__":
    sys.exit(main())
