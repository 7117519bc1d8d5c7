"""Score biases as values: compact inputs that become a dense [B, H, N, M] tensor only where one is needed.

B samples, H heads, N queries, M keys, R chosen rows, V table rows, C coordinates, K basis functions, P hops, F
features.

Every value is a registered pytree dataclass: it passes through export, compile and activation checkpointing, and its
floating-point tensors receive gradients. Values add up with `+`. A size of 1 in B, H, N or M is shared by all.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from isoform.core.attention.embedding_sum import look_up, sum_rows
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
    @abc.abstractmethod
    def kind(self) -> str:
        """What kind of bias this is to an implementation that computes it from its compact inputs."""

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
    def kind(self) -> str:
        """See `Bias.kind`."""
        return "dense"

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
    def kind(self) -> str:
        """See `Bias.kind`."""
        return "table"

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
        found = look_up(self.ids_BNM.int().flatten(), _working(self.table_VH))
        return found.view(-1, *self.ids_BNM.shape).transpose(0, 1)


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
    def kind(self) -> str:
        """See `Bias.kind`."""
        return "path"

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

    @property
    def heads(self) -> int:
        """H."""
        return self.weights_KH.shape[1]

    @property
    def width(self) -> int:
        """Numbers held for a distance while it is turned into a bias."""
        return self.weights_KH.shape[0] + self.heads

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
class Slope:
    """A bias that grows or falls with the distance, as fast as each head likes: slope_H[h] * d.

    Press et al., "Train short, test long", 2021 (arXiv:2108.12409), in space.
    """

    slope_H: Tensor

    @property
    def heads(self) -> int:
        """H."""
        return self.slope_H.shape[0]

    @property
    def width(self) -> int:
        """Numbers held for a distance while it is turned into a bias."""
        return self.heads

    def __call__(self, distance: Tensor) -> Tensor:
        """[..., H] of distances [...]."""
        return distance[..., None] * _working(self.slope_H)


@dataclass
class Distance(Bias):
    """A bias of the Euclidean distance between query and key (Graphormer-3D, arXiv:2203.04810, section 3).

    `basis` says what a distance means to each head: `Gaussians` or a `Slope`. coords_q_BNC and coords_kv_BMC receive
    gradients too; at distance 0 that gradient is 0.
    """

    coords_q_BNC: Tensor
    coords_kv_BMC: Tensor
    basis: Gaussians | Slope

    @property
    def kind(self) -> str:
        """See `Bias.kind`."""
        return "distance" if isinstance(self.basis, Gaussians) else "slope"

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(B, H, N, M), 1 where shared."""
        b = max(self.coords_q_BNC.shape[0], self.coords_kv_BMC.shape[0])
        return (
            b,
            self.basis.heads,
            self.coords_q_BNC.shape[1],
            self.coords_kv_BMC.shape[1],
        )

    @property
    def width(self) -> int:
        """See `Bias.width`."""
        return self.basis.width

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
class RelativeGrid(Bias):
    """A bias looked up by where two tokens stand to each other on a grid, with no ids of pairs anywhere.

    Tokens carry codes such that codes_q_N[i] - codes_kv_M[j] is the row of table_VH of their displacement: `of` makes
    them for a window of any number of axes (Liu et al., "Swin Transformer", 2021, arXiv:2103.14030, eq. 4). A negative
    code is of a token outside the grid; pairs with such tokens read the table's last three rows: query outside, key
    outside, both (Bao et al., "BEiT", 2021, arXiv:2106.08254).
    """

    codes_q_N: Tensor
    codes_kv_M: Tensor
    table_VH: Tensor

    @classmethod
    def of(cls, table_VH: Tensor, grid: Sequence[int], prefix: int = 0) -> RelativeGrid:
        """The bias among the tokens of a grid such as (height, width), behind `prefix` tokens outside it.

        table_VH has a row for each displacement, the first axis slowest, each axis from -(size - 1) to size - 1; and
        three more with a prefix. Raises ValueError for another number of rows.
        """
        displacements = math.prod(2 * size - 1 for size in grid)
        n_rows = displacements + (3 if prefix else 0)
        if table_VH.shape[0] != n_rows:
            raise ValueError(
                f"a grid {tuple(grid)} with {prefix} tokens before it has {n_rows} displacements, "
                f"the table {table_VH.shape[0]} rows"
            )
        code = torch.zeros((), dtype=torch.int32, device=table_VH.device)
        for size in grid:
            place = torch.arange(size, dtype=torch.int32, device=table_VH.device)
            code = code[..., None] * (2 * size - 1) + place
        outside = code.new_full((prefix,), -1)
        middle = displacements // 2
        return cls(
            torch.cat([outside, code.flatten() + middle]),
            torch.cat([outside, code.flatten()]),
            table_VH,
        )

    @property
    def kind(self) -> str:
        """See `Bias.kind`."""
        return "grid"

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(B, H, N, M), 1 where shared."""
        return 1, self.table_VH.shape[1], self.codes_q_N.shape[0], self.codes_kv_M.shape[0]

    def slice(self, rows: Rows | None = None, batch: Samples = ALL) -> RelativeGrid:
        """See `Bias.slice`."""
        codes = self.codes_q_N if rows is None else self.codes_q_N[rows]
        return RelativeGrid(codes, self.codes_kv_M, self.table_VH)

    def to_dense(self) -> Tensor:
        """See `Bias.to_dense`."""
        n_rows = self.table_VH.shape[0]
        q, kv = self.codes_q_N[:, None].int(), self.codes_kv_M[None].int()
        ids = torch.where(kv < 0, n_rows - 2, q - kv)
        ids = torch.where(q < 0, torch.where(kv < 0, n_rows - 1, n_rows - 3), ids)
        return Table(ids[None], self.table_VH).to_dense()


@dataclass
class Sum(Bias):
    """The sum of biases."""

    parts: list[Bias]

    @property
    def kind(self) -> str:
        """See `Bias.kind`."""
        return kinds(self)

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


def flat(bias: Bias | Tensor | None) -> list[Bias]:
    """The parts of a bias in the order of their kinds, sums of sums taken apart; none for None."""
    if isinstance(bias, Sum):
        parts = [part for each in bias.parts for part in flat(each)]
        return sorted(parts, key=lambda part: part.kind)
    if isinstance(bias, Tensor):
        return [Dense(bias)]
    return [] if bias is None else [bias]


def kinds(bias: Bias | Tensor | None) -> str:
    """The kinds of a bias's parts, such as "path+table"; "none" without one."""
    return "+".join(part.kind for part in flat(bias)) or "none"


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


for _cls in (Dense, Table, PathTable, Gaussians, Slope, Distance, RelativeGrid, Sum):
    torch.export.register_dataclass(_cls, serialized_type_name=f"isoform.bias.{_cls.__name__}")
