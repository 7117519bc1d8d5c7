"""Rows of a store -> one padded batch of ids, as Graphormer's tables number them.

B molecules, N atoms (padded), P hops, Fa and Fb features, E directed bonds of the batch, K kinds of bonds.

Every tensor is one gather from the store's flat arrays. Padded places read some real entry and are set to 0, so a
batch costs the same whatever its molecules' sizes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from isoform.molecules.data.graphs import COLUMN, GraphStore, ranges

FIRST_ATOM_ID = 2  # microsoft/Graphormer: convert_to_single_emb adds 1, the collator another
HF_FIRST_ATOM_ID = 3  # the collator of transformers adds one more than the tables of Microsoft's checkpoints expect


def collate(
    store: GraphStore,
    rows: Sequence[int] | np.ndarray,
    *,
    hf_compat: bool = False,
    compact: bool = False,
    bonds: bool = False,
) -> dict[str, Tensor]:
    """The molecules `rows` of a store (at least one) as a batch.

    "atoms"      int16 [B, N, Fa] 2 + 512 * column + value (3 + ... with `hf_compat`), 0 = padding
    "degree"     int16 [B, N] neighbours + 1, 0 = padding
    "distance_ids"
                 int16 [B, N, N] bonds on the shortest path between two atoms + 1, 511 = unreachable, 0 = padding
    "path_bond_ids"
                 int16 [B, N, N, P, Fb] 3 + 512 * column + value of the bonds on that path, 0 = none; or, `compact`,
    "path_kinds" uint8 or int16 [B, N, N, P] their kinds, with
    "kind_bond_ids"
                 int16 [K + 1, Fb] the ids of every kind: kind_bond_ids[path_kinds] is what "path_bond_ids" would be, in
                 a sixth of the memory
    "valid"      bool [B, N]
    "laplacian"  float32 [B, N, k] where the store has eigenvectors
    and with `bonds`, for models that see bonded atoms alone:
    "bond_index" int64 [E, 2] atoms of the batch, sample * N + atom
    "bond_ids"   int16 [E, Fb] ids of their features, as in "path_bond_ids"
    """
    rows = np.asarray(rows, np.int64)
    graphs, sizes = store.graphs, store.sizes[rows]
    place = np.arange(int(sizes.max()))
    valid = place < sizes[:, None]
    atom = (graphs.atom_offsets[rows][:, None] + place) * valid
    first = HF_FIRST_ATOM_ID if hf_compat else FIRST_ATOM_ID
    columns = first + COLUMN * np.arange(graphs.atoms.shape[1], dtype=np.int16)
    both = valid[:, :, None] & valid[:, None, :]
    pair = store.pair_offsets[rows][:, None, None] + place[:, None] * sizes[:, None, None] + place
    pair *= both
    path_kinds = store.path_kinds.take(
        pair, axis=0
    )  # padding reads pair 0, an atom and itself: no bond on the way
    batch = {
        "atoms": (graphs.atoms.take(atom, axis=0) + columns) * valid[..., None],
        "degree": (store.degree.take(atom) + np.int16(1)) * valid,
        "distance_ids": store.distance_ids(pair) * both,
        "valid": valid,
    }
    if compact:
        batch |= {"path_kinds": path_kinds, "kind_bond_ids": store.kind_bond_ids}
    else:
        batch["path_bond_ids"] = store.kind_bond_ids.take(path_kinds, axis=0)
    if store.laplacian.shape[1]:
        batch["laplacian"] = store.laplacian.take(atom, axis=0) * valid[..., None]
    if bonds:
        n_bonds = np.diff(graphs.bond_offsets)[rows]
        at = ranges(graphs.bond_offsets[rows], n_bonds)
        sample = np.repeat(np.arange(len(rows)) * len(place), n_bonds)
        batch["bond_index"] = graphs.ends[at] + sample[:, None]
        batch["bond_ids"] = store.kind_bond_ids.take(store.codes.take(at), axis=0)
    return {name: torch.from_numpy(value) for name, value in batch.items()}


def flip_signs(batch: dict[str, Tensor], rng: np.random.Generator) -> dict[str, Tensor]:
    """The batch with the sign of every molecule's every eigenvector drawn anew: augmentation, for training alone."""
    positions = batch["laplacian"]
    signs = rng.choice(np.array([-1, 1], np.float32), (len(positions), 1, positions.shape[2]))
    return {**batch, "laplacian": positions * torch.from_numpy(signs)}
