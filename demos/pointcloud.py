"""Point clouds, from embedded data to a picture: learns digits as sets of points, predicts clouds of one's own, draws.

python demos/pointcloud.py [FOLDER]       about two minutes on 2 cores; FOLDER (default runs/demo-pointcloud) is new
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np

import isoform
from isoform.pointcloud.demo import draw
from isoform.pointcloud.ops import thin_to_voxels


def main(folder: Path) -> None:
    """Trains, predicts, embeds and draws."""
    shutil.rmtree(folder, ignore_errors=True)
    run = isoform.train("pointcloud/pointmae-demo", run_dir=folder)
    for name, found in {"the model": run.metrics, **run.results["baselines"]}.items():
        print(f"{name:14} {found['test']['top1']:.1%} of all test digits are right")

    # Clouds of one's own: a ring and a stroke, of which a scanner would make too many points, on the way to a file.
    angle, along = np.linspace(0, 2 * np.pi, 5000), np.linspace(-0.7, 0.7, 5000)
    ink = np.full(5000, 0.9)
    shapes = {
        "ring": np.stack([0.4 * np.sin(angle), 0.6 * np.cos(angle), ink], 1),
        "stroke": np.stack([0.1 * along, along, ink], 1),
    }
    files = []
    for name, points in shapes.items():
        kept, _ = thin_to_voxels(points, 0.03)
        files.append(folder / f"{name}.xyz")
        np.savetxt(files[-1], points[kept], fmt="%.4f")
    model = isoform.load(folder)
    for answer in model.predict(files):
        sure = f"{answer['probability']:.0%}"
        print(
            f"{Path(answer['input']).stem}: a {answer['prediction']} ({sure}, among {answer['set 0.9']})"
        )
    print(f"features of the trunk: {model.embed(files).shape}")
    print(f"the picture: {draw(folder)}")
    print(f"the report:  {folder / 'report.html'}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("runs/demo-pointcloud"))
