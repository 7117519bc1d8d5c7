"""Several draws of one cloud's points, for votes and averaged predictions.

N points, C channels.
"""

from __future__ import annotations

import numpy as np

from isoform.pointcloud.data.transforms import Augment, draw_points

POOL = 1200 / 1024  # Point-MAE draws 1,024 points at random from the 1,200 that lie farthest apart


class Draws:
    """Draws of a framed cloud [N, C] for a model that sees at most `points` of it: a function of their number alone.

    key      of the cloud, such as its digest, which every draw's generator begins with
    change   what is done to each draw; None: nothing
    """

    def __init__(
        self, cloud: np.ndarray, points: int, key: int, change: Augment | None = None
    ) -> None:
        self.points, self.key, self.change = points, key, change
        most = round(points * POOL)
        self.pool = cloud[draw_points(cloud, most, "farthest")] if len(cloud) > most else cloud

    def __getitem__(self, number: int) -> np.ndarray:
        """float32 [at most `points`, C]."""
        rng = np.random.default_rng([self.key, number])
        cloud = self.pool
        if len(cloud) > self.points:
            cloud = cloud[draw_points(cloud, self.points, "random", rng)]
        return cloud if self.change is None else self.change(cloud, rng)
