"""Clouds that are nearly the same: one shape with its points in another order, noisy or drawn anew, moved, scaled, or
turned around an axis.

n clouds, N points of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from isoform.core.data.splits import number_texts

# In spacings. Two drawings of one surface lie 1.0 apart but for chance, and what is farther is another shape. Of few
# points even different shapes are no farther: of those only copies are told.
NEAR, COPY, FEW = 1.15, 0.3, 512
POINTS = 1024  # of a cloud that are compared
LEVELS = np.linspace(0.1, 0.9, 5)  # quantiles of a profile
ALIKE = 0.1  # root mean square difference of profiles; of 512 points of one shape 95 in 100 stay below 0.072
CANDIDATES = 16  # that a cloud is compared with; of many clouds fewer, 3 at least, for about PAIRS
PAIRS = 32_000
FIRST = 32  # points of the look that chooses a turn
START = 0.05  # how far the means of few points and half a step of a turn move a cloud, in radii
ANGLES = 72  # in which a turn is sought
STEPS = 3  # in which it is refined


class Look(NamedTuple):
    """So many points lay one cloud upon another, and it is the last look if they stay so many times too far apart."""

    points: int
    doubt: float


LOOKS = (Look(64, 1.5), Look(256, 1.2))  # before all points are compared


class Pair(NamedTuple):
    """Two clouds, first < second, and how far apart they are in spacings of their points."""

    first: int
    second: int
    distance: float


def near_pairs(clouds: Sequence[np.ndarray], most: float = NEAR) -> list[Pair]:
    """Pairs of clouds [N, 3] that show one shape, at most `most` spacings apart (COPY, where one has FEW points).

    From a point of a cloud to the nearest of the other it is so far, in the mean; a spacing is how far it is there to
    the nearest of its own. The larger of both directions counts: 0 for equal points, 1 for two random drawings of one
    surface, whatever its shape and the points' number. Before, each cloud is centred and scaled to a mean square
    radius of 1, and one is laid upon the other by a turn and a shift (iterative closest points; Besl and McKay 1992),
    which begins unturned or turned around one of the axes.

    Each cloud is compared with the CANDIDATES that are most like it by profiles that no turn changes: n log n. A pair
    that others join already is left out.
    """
    shapes = [_Shape(cloud) for cloud in clouds]
    found: list[Pair] = []
    leader = list(range(len(shapes)))

    def lead(cloud: int) -> int:
        while leader[cloud] != cloud:
            leader[cloud] = leader[leader[cloud]]
            cloud = leader[cloud]
        return cloud

    for first, second in _candidates(np.array([shape.profile for shape in shapes])):
        if lead(first) == lead(second):
            continue
        one, two = shapes[first], shapes[second]
        bound = most if min(len(one.own), len(two.own)) >= FEW else min(most, COPY)
        distance = _apart(one, two, bound)
        if distance <= bound:
            found.append(Pair(first, second, distance))
            leader[lead(second)] = lead(first)
    return found


def join_pairs(count: int, pairs: Sequence[Pair]) -> np.ndarray:
    """int64 [count]: clouds that a chain of pairs joins have one number, 0, 1, ... by first appearance."""
    ends = [pair.first for pair in pairs], [pair.second for pair in pairs]
    joined = coo_array((np.ones(len(pairs)), ends), shape=(count, count))
    return number_texts(connected_components(joined, directed=False)[1].tolist())


class _Shape:
    """A cloud to be compared; the order of its points changes nothing.

    own      float64 [at most POINTS, 3], distinct, centred and scaled, in an order by chance
    spacing  mean distance to the nearest other point
    profile  quantiles of distances from the middle, and between points (Osada et al. 2002)
    turning  Fourier coefficients [3 axes, ANGLES / 2 + 1] of how much lies in which direction from an axis
    """

    def __init__(self, cloud: np.ndarray) -> None:
        distinct = np.unique(np.asarray(cloud[:, :3], np.float64), axis=0)
        order = np.random.default_rng(0).permutation(len(distinct))
        own = distinct[order[:POINTS]]
        own = own - own.mean(0)
        self.own = own = own / (float(np.sqrt(np.square(own).sum(1).mean())) or 1.0)
        self.tree = KDTree(own)
        nearest = self.tree.query(own, k=2)[0][:, 1] if len(own) > 1 else np.zeros(1)
        self.spacing = float(nearest.mean())
        between = np.concatenate(
            [np.linalg.norm(own - np.roll(own, k, 0), axis=1) for k in (1, 2, 3)]
        )
        radii = np.linalg.norm(own, axis=1)
        self.profile = np.concatenate([np.quantile(radii, LEVELS), np.quantile(between, LEVELS)])
        self.turning = np.stack([_directions(own, axis) for axis in range(3)])


def _directions(own: np.ndarray, axis: int) -> np.ndarray:
    u, v = own[:, (axis + 1) % 3], own[:, (axis + 2) % 3]
    place = ((np.arctan2(v, u) / (2 * np.pi) + 0.5) * ANGLES).astype(np.int64) % ANGLES
    weight = np.bincount(place, np.square(u) + np.square(v), ANGLES)
    return np.fft.rfft(weight)


def _candidates(profiles: np.ndarray) -> list[tuple[int, int]]:
    """Pairs (first < second) of profiles [n, k] that agree, of each cloud with the most alike."""
    if len(profiles) < 2:
        return []
    bound = ALIKE * np.sqrt(profiles.shape[1])
    tree = KDTree(profiles)
    most = min(CANDIDATES, max(3, PAIRS // len(profiles)))
    _, others = tree.query(profiles, k=most + 1, distance_upper_bound=bound)
    rows = np.repeat(np.arange(len(profiles)), others.shape[1])
    pairs = np.sort(np.stack([rows, others.ravel()], 1)[others.ravel() < len(profiles)], axis=1)
    pairs = np.unique(pairs[pairs[:, 0] < pairs[:, 1]], axis=0)
    return [(int(first), int(second)) for first, second in pairs]


def _apart(one: _Shape, two: _Shape, bound: float) -> float:
    """Spacings between two clouds, see near_pairs; infinite where a look tells that they are more than `bound`."""
    if one.spacing == 0 or two.spacing == 0:  # of one point each
        return 0.0 if len(one.own) == len(two.own) == 1 else np.inf
    turns, enough = _turns(one, two), bound * one.spacing
    seen = one.tree.query(two.own[:FIRST] @ turns.transpose(0, 2, 1))[0].mean(1)
    found = [float(np.inf)]
    for start in {0, 1 + int(seen[1:].argmin())}:
        if seen[start] > LOOKS[0].doubt * enough + START:
            continue
        turn, shift = turns[start], np.zeros(3)
        for look in LOOKS:
            points = two.own[: look.points]
            turn, shift = _lay_upon(one, points, turn, shift)
            if one.tree.query(points @ turn.T + shift)[0].mean() > look.doubt * enough:
                break
        else:
            moved = two.own @ turn.T + shift
            there = one.tree.query(moved)[0].mean() / one.spacing
            if there <= bound:
                back = KDTree(moved).query(one.own)[0].mean() / two.spacing
                found.append(float(max(there, back)))
    return min(found)


def _turns(one: _Shape, two: _Shape) -> np.ndarray:
    """[4, 3, 3]: none, and around each axis the turn of the second at which the directions agree best."""
    turns = [np.eye(3)]
    agreement = np.fft.irfft(one.turning * two.turning.conj(), ANGLES)
    for axis, best in enumerate(agreement.argmax(1).tolist()):
        angle = 2 * np.pi * best / ANGLES
        u, v = (axis + 1) % 3, (axis + 2) % 3
        turn = np.eye(3)
        turn[u, u] = turn[v, v] = np.cos(angle)
        turn[v, u] = np.sin(angle)
        turn[u, v] = -turn[v, u]
        turns.append(turn)
    return np.stack(turns)


def _lay_upon(
    one: _Shape, points: np.ndarray, turn: np.ndarray, shift: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(turn [3, 3], shift [3]) of points [N, 3] after STEPS of iterative closest points.

    Each is the best turn onto the nearest points (Kabsch 1976).
    """
    middle = points.mean(0)
    for _ in range(STEPS):
        _, index = one.tree.query(points @ turn.T + shift)
        near = one.own[index]
        left, _, right = np.linalg.svd((near - near.mean(0)).T @ (points - middle))
        sign = np.array([1, 1, np.sign(np.linalg.det(left @ right))])
        turn = (left * sign) @ right
        shift = near.mean(0) - turn @ middle
    return turn, shift
