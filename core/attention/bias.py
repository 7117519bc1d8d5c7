"""Score biases as values: compact inputs that become a dense [B, H, N, M] tensor only where one is needed.

B samples, H heads, N queries, M keys, R chosen rows, V table rows, C coordinates, K basis functions, P hops, F
features.

Every value is a registered pytree dataclass: it passes through export, compile and activation checkpointing, and its
floating-point tensors receive gradients. Values add up with `+`. A size of 1 in B, H, N or M is shared by all.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass

import torch
from torch import Tensor

from isoform.core.attention.embedding_sum import sum_rows
from isoform.core.attention.mask import Rows, Samples

ALL = slice(None)

# What a dense bias may take before it is built in chunks: a few layers' worth of a large model's activations.
LIMIT_BYTES = 64 * 2**20


class Bias(abc.ABC):
    """What every bias value can do."""

    @abc.abstractmethod
    def slice(self, rows: Rows | None = None, batch: Samples = ALL) -> Bias:
        """The same bias of chosen query rows (a slice or [R] indices) and samples; views where both are slices."""

    @abc.abstractmethod
    def to_dense(self) -> Tensor:
        """The bias as one tensor, broadcastable to [B, H, N, M].

        float32, or float64 where the value's own tensors are; differentiable twice.
        """

    @property
    @abc.abstractmethod
    def shape(self) -> tuple[int, int, int, int]:
        """(B, H, N, M) of `to_dense()`, 1 where shared."""

    @property
    def width(self) -> int:
        """Numbers held for a pair while `to_dense` is computed (H for one that is only looked up)."""
        return self.shape[1]

    def __add__(self, other: Bias) -> Bias:
        return Sum([self, other])


@dataclass
class Dense(Bias):
    """A bias as it is: b broadcasts to [B, H, N, M] from the right. -inf takes a key away from a query."""

    b: Tensor

    def __post_init__(self) -> None:
        if isinstance(self.b, Tensor) and self.b.dim() > 4:
            raise ValueError(f"a dense bias broadcasts to [B, H, N, M]; got {self.b.dim()} axes")

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(B, H, N, M), 1 where shared."""
        b, h, n, m = (1,) * (4 - self.b.dim()) + tuple(self.b.shape)
        return b, h, n, m

    def slice(self, rows: Rows | None = None, batch: Samples = ALL) -> Dense:
        """See `Bias.slice`."""
        return Dense(_slice(self.b.view(self.shape), rows, batch, row_axis=2))

    def to_dense(self) -> Tensor:
        """See `Bias.to_dense`."""
        return _working(self.b.view(self.shape))


@dataclass
class Table(Bias):
    """A looked-up bias: pair (i, j) of sample b gets row ids_BNM[b, i, j] of table_VH, one number a head.

    ids_BNM is of any integer type, uint8 and int16 included (Graphormer's spatial encoding, arXiv:2106.05234, eq. 6;
    the relative position tables of Swin and T5).
    """

    ids_BNM: Tensor
    table_VH: Tensor

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(B, H, N, M), 1 where shared."""
        b, n, m = self.ids_BNM.shape
        return b, self.table_VH.shape[1], n, m

    def slice(self, rows: Rows | None = None, batch: Samples = ALL) -> Table:
        """See `Bias.slice`."""
        return Table(_slice(self.ids_BNM, rows, batch), self.table_VH)

    def to_dense(self) -> Tensor:
        """See `Bias.to_dense`."""
        rows = sum_rows(self.ids_BNM.int().reshape(-1, 1), _working(self.table_VH))
        return rows.view(*self.ids_BNM.shape, -1).permute(0, 3, 1, 2)


@dataclass
class PathTable(Bias):
    """Graphormer's edge encoding (arXiv:2106.05234, eq. 7): the mean over the hops of a pair's shortest path.

    ids_BNMPF are the edge features of hop p on the path from i to j, rows of table_VH; mixing_PHH[p] is hop p's
    matrix over heads (more hops than ids has are ignored). With d = length_BNM, the edges on the path, clamped to 1..P,

        bias[b, :, i, j] = sum_p mean_f table[ids[b, i, j, p, f]] @ mixing[p] / d[b, i, j].

    The matrices are folded into one table a hop before the lookup. A pair or hop without an edge needs an id whose
    row of the table is zero.
    """

    ids_BNMPF: Tensor
    length_BNM: Tensor
    table_VH: Tensor
    mixing_PHH: Tensor

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(B, H, N, M), 1 where shared."""
        b, n, m = self.ids_BNMPF.shape[:3]
        return b, self.table_VH.shape[1], n, m

    def slice(self, rows: Rows | None = None, batch: Samples = ALL) -> PathTable:
        """See `Bias.slice`."""
        ids, length = _slice(self.ids_BNMPF, rows, batch), _slice(self.length_BNM, rows, batch)
        return PathTable(ids, length, self.table_VH, self.mixing_PHH)

    def to_dense(self) -> Tensor:
        """See `Bias.to_dense`."""
        hops, n_features = self.ids_BNMPF.shape[3:]
        n_rows = self.table_VH.shape[0]
        with torch.autocast(self.table_VH.device.type, enabled=False):
            tables = torch.matmul(
                _working(self.table_VH), _working(self.mixing_PHH[:hops])
            ).flatten(0, 1)
        hop = torch.arange(hops, dtype=torch.int32, device=tables.device)[:, None] * n_rows
        total = sum_rows((self.ids_BNMPF.int() + hop).reshape(-1, hops * n_features), tables)
        divisor = self.length_BNM.int().clamp(1, hops) * n_features
        return (total.view(*divisor.shape, -1) / divisor[..., None]).permute(0, 3, 1, 2)


@dataclass
class Gaussians:
    """Radial basis functions and what each says to each head.

    g_h(d) = sum_k weights_KH[k, h] * exp(-((d - means_K[k]) / stds_K[k])^2 / 2), d in the coordinates' unit.
    """

    means_K: Tensor
    stds_K: Tensor
    weights_KH: Tensor

    def __call__(self, distance: Tensor) -> Tensor:
        """[..., H] of distances [...]."""
        means, stds, weights = (
            _working(self.means_K),
            _working(self.stds_K),
            _working(self.weights_KH),
        )
        with torch.autocast(distance.device.type, enabled=False):
            return torch.exp(-0.5 * ((distance[..., None] - means) / stds).square()) @ weights


@dataclass
class Distance(Bias):
    """A bias of the Euclidean distance between query and key (Graphormer-3D, arXiv:2203.04810, section 3).

    coords_q_BNC and coords_kv_BMC receive gradients too; at distance 0 that gradient is 0.
    """

    coords_q_BNC: Tensor
    coords_kv_BMC: Tensor
    basis: Gaussians

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(B, H, N, M), 1 where shared."""
        b = max(self.coords_q_BNC.shape[0], self.coords_kv_BMC.shape[0])
        return (
            b,
            self.basis.weights_KH.shape[1],
            self.coords_q_BNC.shape[1],
            self.coords_kv_BMC.shape[1],
        )

    @property
    def width(self) -> int:
        """See `Bias.width`."""
        return self.basis.weights_KH.shape[0] + self.shape[1]

    def slice(self, rows: Rows | None = None, batch: Samples = ALL) -> Distance:
        """See `Bias.slice`."""
        return Distance(
            _slice(self.coords_q_BNC, rows, batch),
            _slice(self.coords_kv_BMC, None, batch),
            self.basis,
        )

    def to_dense(self) -> Tensor:
        """See `Bias.to_dense`."""
        difference = _working(self.coords_q_BNC)[:, :, None] - _working(self.coords_kv_BMC)[:, None]
        square = difference.square().sum(-1)
        # The square root has no derivative at 0, where every token meets itself.
        apart = square > 0
        distance = torch.where(apart, square, 1).sqrt().where(apart, 0)
        return self.basis(distance).permute(0, 3, 1, 2)


@dataclass
class Sum(Bias):
    """The sum of biases."""

    parts: list[Bias]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(B, H, N, M), 1 where shared."""
        b, h, n, m = torch.broadcast_shapes(*(part.shape for part in self.parts))
        return b, h, n, m

    @property
    def width(self) -> int:
        """See `Bias.width`."""
        return max(part.width for part in self.parts)

    def slice(self, rows: Rows | None = None, batch: Samples = ALL) -> Sum:
        """See `Bias.slice`."""
        return Sum([part.slice(rows, batch) for part in self.parts])

    def to_dense(self) -> Tensor:
        """See `Bias.to_dense`."""
        total = self.parts[0].to_dense()
        for part in self.parts[1:]:
            total = total + part.to_dense()
        return total


def materialise(bias: Bias | None, limit_bytes: int | None = None) -> Bias | None:
    """The bias as `Dense` if that takes no more than the limit (64 MiB unless told), else unchanged.

    A backbone calls it once a forward pass, so that all its layers share one dense bias and one backward pass into
    tables.
    """
    if bias is None or isinstance(bias, Dense):
        return bias
    b, _, n, m = bias.shape
    limit = LIMIT_BYTES if limit_bytes is None else limit_bytes
    return Dense(bias.to_dense().contiguous()) if 4 * b * n * m * bias.width <= limit else bias


def _working(value: Tensor) -> Tensor:
    """Scores and biases are float32, or float64 where the input is."""
    return value if value.dtype == torch.float64 else value.float()


def _slice(value: Tensor, rows: Rows | None, batch: Samples, row_axis: int = 1) -> Tensor:
    """Chosen samples (axis 0) and rows, leaving axes of size 1 as they are: those are shared by all."""
    if value.shape[0] != 1:
        value = value[batch]
    if rows is None or value.shape[row_axis] == 1:
        return value
    return value[(ALL,) * row_axis + (rows,)]


for _cls in (Dense, Table, PathTable, Gaussians, Distance, Sum):
    torch.export.register_dataclass(_cls, serialized_type_name=f"isoform.bias.{_cls.__name__}")
