"""`isoform pointcloud reconstruct RUN CLOUD... --out FILE`: hidden patches of clouds drawn again by a pretrained model.

N points of a cloud, G patches of K points, M of them hidden, C channels.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from isoform.core import api
from isoform.core.domain import Speaker
from isoform.core.errors import UserError, count
from isoform.core.supervised.rows import name_of_input
from isoform.pointcloud.config import PointcloudApp
from isoform.pointcloud.data.records import digest_of
from isoform.pointcloud.data.transforms import draw_points, frame_of
from isoform.pointcloud.files import Cloud, write_cloud
from isoform.pointcloud.losses import drawn_distances
from isoform.pointcloud.masks import count_masked, mask_of
from isoform.pointcloud.ops import knn_points
from isoform.pointcloud.outputs import places_of, written_whole
from isoform.pointcloud.pointmae.model import Drawn, PointMae
from isoform.pointcloud.pointmae.patches import cut_into_patches
from isoform.pointcloud.predictor import PointcloudPredictor
from isoform.pointcloud.prepare import update

PLY = (".ply",)


@dataclass(frozen=True)
class Redrawn:
    """A cloud [N, C] whose hidden patches were drawn again; all in the cloud's frame.

    seen      bool [N], points of the patches that the model was shown
    hidden    bool [N], points of the others alone; a point may lie in no patch
    drawn     [M K, 3]
    distance  Chamfer distance of the hidden patches, as the loss has it, and `centre`: of a model that puts every
              point into its patch's middle
    """

    seen: np.ndarray
    hidden: np.ndarray
    drawn: np.ndarray
    distance: float
    centre: float


def draw_again(
    model: PointMae, config: PointcloudApp, points: np.ndarray, noise: np.ndarray
) -> Redrawn:
    """Hides the patches that `config.mask` takes by `noise` [G] (masks.py) and lets the model draw them."""
    patches_of = config.tokeniser
    rows = np.arange(len(points))
    if len(points) < patches_of.groups:  # as in training, every cloud has all of its patches
        rows = draw_points(points, patches_of.groups, "farthest")
    device = next(model.parameters()).device
    cloud = torch.from_numpy(np.ascontiguousarray(points[rows], np.float32))[None].to(device)
    with torch.no_grad():
        patches = cut_into_patches(cloud, patches_of)
        mask = mask_of(config.mask, torch.from_numpy(noise)[None].to(device), patches.centres)
        made = model.draw_masked(patches, mask)
        distance = drawn_distances(made, config.loss.chamfer)
        middle = Drawn(made.visible, made.masked, torch.zeros_like(made.points), made.target)
        centre = drawn_distances(middle, config.loss.chamfer)
    near = knn_points(patches.centres, cloud[..., :3], K=patches_of.group_size).idx[0]
    seen, masked = np.zeros(len(points), bool), np.zeros(len(points), bool)
    for into, chosen in ((seen, near[~mask[0]]), (masked, near[mask[0]])):
        index = chosen.flatten().cpu().numpy()
        into[rows[index[index >= 0]]] = True
    drawn = made.points[0] + patches.centres[0, mask[0]][:, None]
    return Redrawn(
        seen,
        masked & ~seen,
        drawn.flatten(0, 1).cpu().numpy(),
        float(distance[0]),
        float(centre[0]),
    )


@dataclass(frozen=True)
class Reconstruction:
    """What a pretrained model makes of a cloud, in the frame of its file: float64 [., 3] each.

    kept, hidden       points of the cloud, unchanged; of those kept the model saw what lies in a patch that was shown
    drawn              in place of the hidden ones
    distance, centre   see Redrawn; in the model's frame, where a cloud of scale "unit" has radius 1
    masked, patches    how many patches were hidden, and of how many
    points             of the file; data.points of them at most are kept or hidden
    """

    kept: np.ndarray
    hidden: np.ndarray
    drawn: np.ndarray
    distance: float
    centre: float
    masked: int
    patches: int
    points: int

    def completed(self) -> Cloud:
        """Kept and drawn points, with the field "drawn": 1 where the model drew, else 0."""
        return _marked(self.kept, self.drawn, "drawn")

    def original(self) -> Cloud:
        """Kept and hidden points as they were, with the field "hidden"."""
        return _marked(self.kept, self.hidden, "hidden")


def _marked(first: np.ndarray, second: np.ndarray, name: str) -> Cloud:
    mark = np.repeat(np.array([0, 1], np.uint8), [len(first), len(second)])
    return Cloud(np.concatenate([first, second]), {name: mark})


class Reconstructor(PointcloudPredictor):
    """A pretrained model on clouds from outside: features, and hidden patches drawn again."""

    def reconstruct(
        self, cloud: Any, *, mask_ratio: float | None = None, seed: int = 0
    ) -> Reconstruction:
        """A file of points or an array [N, 3], some of its patches hidden and drawn again.

        mask_ratio  share of hidden patches; None: the run's. One is hidden and one is shown at least
        seed        which ones: the same for the same cloud, whatever else is asked. Raises UserError.
        """
        config = with_ratio(self.config, mask_ratio)
        data, groups = config.data, config.tokeniser.groups
        if seed < 0:
            raise UserError(f"seed {seed}: it is 0 or above")
        read = self.read(cloud)
        points, frame = read.xyz, frame_of(read.xyz, data.scale, data.up)
        beside = self.noticed.features.read(read, name_of_input(cloud, 0))
        own = np.concatenate([frame.into(points), beside], 1)
        if len(own) > data.points:
            rows = draw_points(own, data.points, data.draw)
            own, chosen = own[rows], points[rows]
        else:
            chosen = points
        rng = np.random.default_rng([seed, digest_of(points)])
        if not isinstance(self.model, PointMae):
            raise UserError("several models would draw several clouds; take the run of one seed")
        made = draw_again(self.model, config, own, rng.random(groups, dtype=np.float32))
        return Reconstruction(
            kept=chosen[~made.hidden],
            hidden=chosen[made.hidden],
            drawn=frame.back(made.drawn),
            distance=made.distance,
            centre=made.centre,
            masked=count_masked(config.mask, groups),
            patches=groups,
            points=len(points),
        )


def with_ratio(config: PointcloudApp, ratio: float | None) -> PointcloudApp:
    """The app with another share of hidden patches. Raises UserError for one that isn't between 0 and 1."""
    if ratio is None:
        return config
    if not 0 < ratio < 1:
        raise UserError(f"mask ratio {ratio:g}: it lies between 0 and 1, without these two")
    return update(config, mask={"ratio": ratio})


def run_reconstruct(args: argparse.Namespace, console: Speaker) -> int:
    """The command: every cloud is read and drawn before its files are written, each in one step.

    Raises UserError for places that don't fit the clouds, and for a cloud that can't be read.
    """
    from isoform.pointcloud import DOMAIN

    places = places_of(args.clouds, Path(args.out), PLY)
    originals: dict[str, Path] = {}
    if args.original is not None:
        originals = places_of(args.clouds, Path(args.original), PLY, "--original")
        if set(originals.values()) & set(places.values()):
            raise UserError(f"--original {args.original}: is where --out is written; name another")
    predictor: Any = api.load_predictor(DOMAIN, args.run_dir, args.checkpoint)
    if getattr(predictor.config.model, "kind", "") != "pretrain":
        raise UserError(
            f"{args.run_dir}: its model draws no points; reconstruct takes a pretraining (model.kind = pretrain)"
        )
    kind = predictor.config.loss.chamfer
    told = []
    for name, place in places.items():
        made = predictor.reconstruct(name, mask_ratio=args.mask_ratio, seed=args.seed)
        files = {place: made.completed()}
        if name in originals:
            files[originals[name]] = made.original()
        for file, cloud in files.items():
            with written_whole(file) as half:
                write_cloud(half, cloud, {})
        told.append(_row(name, place, originals.get(name), made))
        console.say(*_lines(place, made, kind))
    if len(told) > 1:
        means = [float(np.mean([row[key] for row in told])) for key in ("distance", "centre")]
        console.say(
            f"mean of {count(len(told), 'cloud')}: {means[0]:.4g}, every point in its patch's middle {means[1]:.4g}"
        )
    console.result |= {"distance": kind, "clouds": told}
    return 0


def _row(name: str, place: Path, original: Path | None, made: Reconstruction) -> dict[str, Any]:
    return {
        "input": name,
        "out": str(place),
        "original": None if original is None else str(original),
        "points": made.points,
        "kept": len(made.kept),
        "hidden": len(made.hidden),
        "drawn": len(made.drawn),
        "masked_patches": made.masked,
        "patches": made.patches,
        "distance": made.distance,
        "centre": made.centre,
    }


def _lines(place: Path, made: Reconstruction, kind: str) -> list[str]:
    taken = len(made.kept) + len(made.hidden)
    few = f"; {taken:,} of its {made.points:,} points were taken" if taken < made.points else ""
    return [
        f"{place}: {count(len(made.kept), 'point')} kept, {len(made.drawn):,} drawn for the {len(made.hidden):,} "
        f"hidden in {made.masked} of {made.patches} patches{few}",
        f"  Chamfer distance of the hidden patches ({kind}, in the model's frame): {made.distance:.4g}; "
        f"every point in its patch's middle: {made.centre:.4g}",
    ]
