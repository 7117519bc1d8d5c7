"""Adapters of the kinds about molecular graphs: a case in, an assertion out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from golden.cases import Case
from isoform.molecules.data.featurise import featurise_many
from isoform.molecules.data.graphs import COLUMN, bond_ids, build_store
from isoform.molecules.data.paths import shortest_paths


def graph_paths(case: Case, _: Path) -> None:
    """Distances, choices among equal paths and bonds along them, all molecules of the case in one padded batch."""
    found = featurise_many([molecule["smiles"] for molecule in case.json["molecules"]])
    graphs, n = found.graphs, int(found.graphs.sizes.max())
    hops = max(molecule["hops_kept"] for molecule in case.json["molecules"])
    dense = np.zeros(
        (len(graphs), n, n), np.uint8
    )  # a bond's code is its number, so that a path names its bonds
    for m in range(len(graphs)):
        atoms, bonds, ends = graphs.graph(m)
        for name, features in (
            ("atom_features", atoms),
            ("bond_features", bonds),
            ("edge_index", ends.T),
        ):
            assert np.array_equal(features, case.input[f"{m}/{name}"].numpy()), (
                f"{name} of molecule {m}"
            )
        dense[m, ends[:, 0], ends[:, 1]] = np.arange(1, len(ends) + 1)
    paths, store = shortest_paths(dense, hops), build_store(graphs, hops=hops)
    output = {}
    for m, molecule in enumerate(case.json["molecules"]):
        size, kept = molecule["atoms"], molecule["hops_kept"]
        bonds = graphs.graph(m)[1] + 2 + COLUMN * np.arange(3)
        codes = paths.codes[m, :size, :size]
        assert not codes[:, :, kept:].any()
        output[f"{m}/distance"] = paths.distance[m, :size, :size]
        output[f"{m}/via"] = paths.via[m, :size, :size]
        output[f"{m}/edge_input"] = np.concatenate([np.full((1, 3), -1), bonds])[codes[:, :, :kept]]
        # The store keeps the kinds of those bonds.
        pairs = slice(store.pair_offsets[m], store.pair_offsets[m + 1])
        ids = bond_ids(store.kinds)[store.path_kinds[pairs].reshape(size, size, hops)[:, :, :kept]]
        assert np.array_equal(ids - 1, output[f"{m}/edge_input"])
    case.compare(output={name: torch.from_numpy(value) for name, value in output.items()})


KINDS = {"graph-paths": graph_paths}
