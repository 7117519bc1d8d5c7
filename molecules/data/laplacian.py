"""Laplacian eigenvectors as positions (Dwivedi & Bresson 2021, arXiv:2012.09699), by torch-geometric's transform."""

from __future__ import annotations

import numpy as np

from isoform.molecules.data.records import PackedGraphs


def eigenvectors(graphs: PackedGraphs, k: int) -> np.ndarray:
    """float32 [T, k]: the k eigenvectors behind the first, 0 where a molecule has too few atoms for that many.

    An eigenvector's sign means nothing: here its largest entry is positive, so that a data set always comes out the
    same; training flips it at random (`collate.flip_signs`).
    """
    import torch
    from torch_geometric.data import Data
    from torch_geometric.transforms import AddLaplacianEigenvectorPE

    found = np.zeros((len(graphs.atoms), k), np.float32)
    with torch.random.fork_rng(devices=[]):  # the transform draws signs from torch's generator
        for number in range(len(graphs)):
            atoms, _, ends = graphs.graph(number)
            n = len(atoms)
            columns = min(k, n - 1)
            if columns == 0 or not len(ends):
                continue
            # Of a graph of 100 atoms or more the transform iterates from a vector, which is random unless given.
            start = {"v0": np.random.default_rng(0).standard_normal(n)} if n >= 100 else {}
            transform = AddLaplacianEigenvectorPE(columns, is_undirected=True, **start)
            data = Data(edge_index=torch.from_numpy(ends.T.astype(np.int64)), num_nodes=n)
            vectors = transform(data).laplacian_eigenvector_pe.numpy()
            largest = np.take_along_axis(vectors, np.abs(vectors).argmax(0)[None], 0)
            first = graphs.atom_offsets[number]
            found[first : first + n, :columns] = vectors * np.where(largest < 0, -1, 1)
    return found
