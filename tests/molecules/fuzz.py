"""Random and mutated SMILES through the featuriser: `python tests/molecules/fuzz.py [COUNT] [SEED]`, else 100,000.

No text may crash it, hang it or get lost: each is a graph or is named with what is wrong with it.
test_data_featurise.py does the same with a few.
"""

from __future__ import annotations

import random
import sys
import time
from collections import Counter

from smiles import broken

from isoform.molecules.data.featurise import featurise_many
from isoform.molecules.data.graphs import build_store


def main(count: int, seed: int) -> int:
    rng = random.Random(seed)
    texts = [broken(rng) for _ in range(count)]
    start = time.monotonic()
    found = featurise_many(texts, 2, canonical=True)
    seconds = time.monotonic() - start
    store = build_store(found.graphs)
    named = {number for number, why in found.skipped if why}
    assert sorted([*found.kept.tolist(), *named]) == list(range(count)), "a text was lost"
    assert len(store) == len(found.kept)
    print(
        f"{count:,} texts (seed {seed}): {len(store):,} graphs, {len(named):,} named, in {seconds:.0f} s"
    )
    reasons = Counter(why.split("(")[0].strip()[:60] for _, why in found.skipped)
    for why, times in reasons.most_common(12):
        print(f"{times:8,}  {why}")
    return 0


if __name__ == "__main__":
    sys.exit(
        main(
            int(sys.argv[1]) if len(sys.argv) > 1 else 100_000,
            int(sys.argv[2]) if len(sys.argv) > 2 else 0,
        )
    )
