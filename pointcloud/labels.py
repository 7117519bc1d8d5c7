"""`isoform pointcloud label RUN SCAN... --out FILE`: scans written with a class and a confidence for every point.

N points of a file, P classes.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
import torch

from isoform.core import api
from isoform.core.domain import Speaker
from isoform.core.errors import UserError, count
from isoform.pointcloud.data.records import taken
from isoform.pointcloud.data.scan_points import ScanPoints, chosen_points, turns_of
from isoform.pointcloud.data.scans import codes_of
from isoform.pointcloud.data.tiles import Votes
from isoform.pointcloud.files import Cloud, read_cloud, write_cloud
from isoform.pointcloud.files.write import WRITTEN
from isoform.pointcloud.outputs import places_of, written_whole
from isoform.pointcloud.predictor import PointcloudPredictor

UNCLASSIFIED = 0
LARGEST = 255  # code that the field "classification" of a .las can hold


class Labels(NamedTuple):
    """What a model says of each point: codes int64 [N], probabilities of these float32 [N], bool [N]: said nothing."""

    code: np.ndarray
    confidence: np.ndarray
    unknown: np.ndarray


class Labeller(PointcloudPredictor):
    """A segmentation on scans from outside."""

    def predict(self, inputs: Any) -> NoReturn:
        """Refused: there is no row a scan."""
        raise UserError(
            "this run's model answers for every point: isoform pointcloud label RUN SCAN --out FILE"
        )

    def embed(self, inputs: Any) -> NoReturn:
        """Refused: see predict."""
        raise UserError("this run's model has no features of whole clouds; use label")

    def take_shape(self, name: str | None) -> None:
        """The class of the clouds to come, of a model that reads it. Raises UserError: this one doesn't."""
        if name is not None:
            raise UserError("this run's model reads scans, which have no class; leave out --shape")

    @property
    def codes(self) -> tuple[np.ndarray, int]:
        """(int64 [P], what is written for each class; what is written for none)."""
        return codes_of(self.state.classes), UNCLASSIFIED

    def probabilities(self, cloud: Cloud, where: str = "the scan") -> np.ndarray:
        """float32 [N, P], averaged over the tiles that a point lies in; zeros for a point without coordinates.

        Raises UserError, naming the scan as `where`, for one that lacks a field of data.features.
        """
        data = self.config.data
        usable = cloud.usable()
        scan = ScanPoints.of(taken(cloud, usable), data, self.noticed.features, where)
        if scan.thinned is not None:
            self.noticed.thinned[where] = scan.thinned
        tiles = scan.tiles(data)
        turns = turns_of(tiles, data.points)
        self.noticed.done.append(
            f"{where}: {count(len(tiles), 'tile')} of {data.tile:g} in the scan's unit, {data.points:,} points a draw"
        )
        votes = Votes(len(scan.xyz), len(self.state.classes))
        size = self.config.eval.batch
        for start in self.track(range(0, len(turns), size), "labelling"):
            chosen, points = [], []
            for number, turn in turns[start : start + size]:
                chosen.append(chosen_points(tiles[number], number, turn, data.points))
                points.append(scan.framed(chosen[-1], tiles[number], data.tile))
            with torch.no_grad():
                logits = self.model(torch.from_numpy(np.stack(points)).to(self.device))
            for index, found in zip(chosen, logits.float().softmax(2).cpu().numpy(), strict=True):
                votes.add(index, found)
        probability = np.zeros((len(cloud), len(self.state.classes)), np.float32)
        probability[usable] = scan.answered(votes.mean())
        return probability

    def label(self, cloud: Cloud, min_probability: float = 0.0, where: str = "the scan") -> Labels:
        """The likeliest class of each point; none below `min_probability`, and without coordinates."""
        probability = self.probabilities(cloud, where)
        confidence = probability.max(1, initial=0.0)
        codes, none = self.codes
        unknown = (confidence < min_probability) | (confidence == 0)
        code = np.where(unknown, none, codes[probability.argmax(1)])
        return Labels(code, confidence, unknown)


def run_label(args: argparse.Namespace, console: Speaker) -> int:
    """The command: every scan is read and labelled before its file is written, in one step.

    Raises UserError for an `out` that doesn't fit the scans, and for one of them that can't be read.
    """
    from isoform.pointcloud import DOMAIN

    if not 0 <= args.min_probability <= 1:
        raise UserError(f"--min-probability {args.min_probability:g}: it lies between 0 and 1")
    places = places_of(args.scans, Path(args.out), WRITTEN)
    predictor: Any = api.load_predictor(DOMAIN, args.run_dir, args.checkpoint)
    predictor.speaker = console
    if getattr(predictor.config.model, "kind", "") != "segment":
        raise UserError(
            f"{args.run_dir}: its model has an answer a cloud, not a point; use predict"
        )
    predictor.take_shape(args.shape)
    told = []
    for scan, place in places.items():
        cloud = read_cloud(scan, predictor.config.data.columns)
        labels = predictor.label(cloud, args.min_probability, scan)
        for note in predictor.remarks([]):
            console.say(note)
        for note in write_labels(place, cloud, labels, predictor.config.data.label):
            console.warn(f"{place}: {note}")
        missing = int(labels.unknown.sum())
        told.append(
            {"input": scan, "out": str(place), "points": len(cloud), "unclassified": missing}
        )
        console.say(f"{place}: {count(len(cloud), 'point')}, {missing:,} of them unclassified")
    console.result["scans"] = told
    return 0


def write_labels(place: Path, cloud: Cloud, labels: Labels, field: str) -> list[str]:
    """Writes the cloud with its labels and returns notes; replaces `place` in one step.

    A .las has its codes in "classification", where `field` (data.label) names that and they fit. Otherwise they are
    the new field "label".
    """
    las = place.suffix.lower() in (".las", ".laz")
    fits = labels.code.min(initial=0) >= 0 and labels.code.max(initial=0) <= LARGEST
    own = las and field == "classification" and fits
    more = {} if own else {"label": labels.code.astype(np.int32)}
    with written_whole(place) as half:
        return write_cloud(
            half,
            cloud,
            {**more, "confidence": labels.confidence},
            codes=labels.code if own else None,
        )
