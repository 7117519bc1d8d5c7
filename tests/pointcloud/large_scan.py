"""A labelled .las of 2,000,000 points in a UTM frame through training and `label`, and 5,000,000 points through
`predict` and `check`; each in a process of its own, whose largest memory is read:

    python tests/pointcloud/large_scan.py [POINTS] [CLOUD]

The labelled scan must be the scan byte for byte, but for its labels, and no process may need 4 GiB.
test_scan_features.py does the same with a few points.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import laspy
import numpy as np

from isoform.pointcloud.data.scenes import make_scene

UTM = np.array([512_345.0, 5_432_109.0, 231.0])
CODES = np.array([2, 6, 15, 17, 7])  # of the made scenes' classes
LIMIT = 4.0  # GiB
TINY = {
    "data.tile": 10, "data.overlap": 0.25, "tokeniser.groups": 64, "tokeniser.group_size": 16,
    "tokeniser.widths": "[16,32,64]",
    "backbone.dim": 32, "backbone.depth": 2, "backbone.heads": 2, "parts.blocks": "[0,1]",
    "parts.propagation": "[32,32]", "head.widths": "[32]", "train.epochs": 1, "eval.baselines": '["majority"]',
    "data.features": '["intensity/65535","plant height/600"]', "eval.batch": 32,
}  # fmt: skip


def write_scan(path: Path, points: int, seed: int, scenes: int) -> None:
    """Made scenes side by side, with flags, an extra dimension that is scaled and one of three."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    side = int(np.ceil(np.sqrt(scenes)))
    parts, labels = [], []
    for number in range(scenes):
        xyz, label = make_scene(rng, int(2.4 * points / scenes), 20.0)
        chosen = rng.permutation(len(xyz))[: points // scenes]
        parts.append(xyz[chosen] + [20.0 * (number % side), 20.0 * (number // side), 0])
        labels.append(label[chosen])
    xyz, label = np.concatenate(parts), np.concatenate(labels)
    header = laspy.LasHeader(point_format=6, version="1.4")
    header.offsets, header.scales = UTM, np.full(3, 0.001)
    header.add_extra_dim(laspy.ExtraBytesParams("plant height", "<u2", scales=[0.01], offsets=[0]))
    header.add_extra_dim(laspy.ExtraBytesParams("waves", "3f4"))
    las = laspy.LasData(header)
    las.x, las.y, las.z = (xyz + UTM).T
    las.classification = CODES[label].astype(np.uint8)
    n = len(xyz)
    las.intensity, las.gps_time = rng.integers(0, 65_000, n), np.sort(rng.random(n))
    las.synthetic, las.withheld = rng.random(n) < 0.1, rng.random(n) < 0.1
    las.return_number, las.number_of_returns = 1 + np.arange(n) % 3, np.full(n, 3)
    las["plant height"], las["waves"] = rng.uniform(0, 600, n), rng.random((n, 3))
    las.write(str(path))


def run(words: list[str], what: str) -> None:
    """Runs isoform in a process of its own, and prints its seconds and largest memory."""
    start = time.monotonic()
    command = [sys.executable, "-m", "isoform", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    told = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{what}: {told[-2000:]}")
    peak = used.ru_maxrss / 2**20
    print(f"{what}: {time.monotonic() - start:.0f} s, {peak:.2f} GiB", flush=True)
    for line in told.splitlines():
        if "thinned" in line:
            print(f"    {line}", flush=True)
    if peak > LIMIT:
        sys.exit(f"{what}: {peak:.2f} GiB are more than {LIMIT:g}")


def compare(scan: Path, out: Path) -> None:
    """Every field but the labels is the same, byte for byte."""
    old, new = laspy.read(scan).points.array, laspy.read(out).points.array
    for name in old.dtype.names:
        if name != "classification":
            assert old[name].tobytes() == new[name].tobytes(), name
    assert set(new.dtype.names) - set(old.dtype.names) == {"confidence"}
    assert (new["confidence"] > 0).all()
    right = (new["classification"] == old["classification"]).mean()
    print(
        f"{len(new):,} points came back as they were; {right:.1%} have their own class", flush=True
    )


def main(points: int, cloud: int) -> None:
    """See the module's text."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        data, scan = root / "data", root / "data" / "train" / "large.las"
        write_scan(scan, points, 0, max(1, points // 100_000))
        for split, seed in (("val", 1), ("test", 2)):
            write_scan(data / split / "small.las", max(1000, points // 20), seed, 1)
        settings = [f"--set={key}={value}" for key, value in {**TINY, "data.root": data}.items()]
        run(
            ["pointcloud", "train", "pointmae-seg-own", *settings, "--run-dir", str(root / "run")],
            f"train on {points:,} points",
        )
        out = root / "labelled.las"
        run(["pointcloud", "label", str(root / "run"), str(scan), "--out", str(out)], "label")
        compare(scan, out)
        large_clouds(root, cloud)


def large_clouds(root: Path, points: int) -> None:
    """A classifier of small clouds on one of many points, as .npy and .ply."""
    from isoform.pointcloud.files.ply import write_ply

    rng = np.random.default_rng(0)
    for kind in ("ball", "disc"):
        for number in range(12):
            place = root / "clouds" / kind / f"{number}.npy"
            place.parent.mkdir(parents=True, exist_ok=True)
            np.save(place, rng.normal(size=(2048, 3)) * [1, 1, kind == "ball"])
    tiny = {
        "data.root": root / "clouds",
        "train.epochs": 1,
        "backbone.depth": 1,
        "eval.baselines": "[]",
    }
    settings = [f"--set={key}={value}" for key, value in tiny.items()]
    where = ["--run-dir", str(root / "classes")]
    run(["pointcloud", "train", "pointmae-own", *settings, *where], "train a classifier")
    large = rng.normal(size=(points, 3)) + UTM
    np.save(root / "large.npy", large)
    write_ply(root / "large.ply", large, {"intensity": np.arange(points, dtype=np.uint32)})
    for suffix in (".npy", ".ply"):
        run(
            ["pointcloud", "predict", str(root / "classes"), str(root / f"large{suffix}")],
            f"predict {points:,} points of a {suffix}",
        )
        place = root / "clouds" / "ball" / f"large{suffix}"
        (root / f"large{suffix}").rename(place)
        run(
            ["pointcloud", "check", "pointmae-own", f"--set=data.root={root / 'clouds'}"],
            f"check {points:,} points of a {suffix}",
        )
        place.unlink()


if __name__ == "__main__":
    numbers = [int(word.replace("_", "")) for word in sys.argv[1:]]
    main(*(numbers + [2_000_000, 5_000_000][len(numbers) :]))
