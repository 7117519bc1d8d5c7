"""Operations on clouds beside open3d, scipy and fpsample, and Point-MAE's pretraining step beside plain torch."""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent))
import harness
import plain_pointmae as plain
from harness import Case, Contestant, Row

PACKAGES = ("torch", "numba", "open3d-cpu", "scipy", "fpsample", "isoform")
PEERS = ("open3d", "scipy", "fpsample")
MANY, FEW, NEAR = 8192, 512, 32  # points of a large cloud, chosen or asking ones, neighbours
BATCH, POINTS, GROUPS, SIZE, HIDDEN = 16, 1024, 64, 32, 38  # of the published pretraining
DIM, DEPTH, DECODER, HEADS = 384, 12, 4, 6

# What is aimed at: (least times faster than the peer, largest peak of memory over the peer's).
AIMS: dict[str, tuple[float, float | None]] = {
    "farthest points 8192 -> 512": (1.0, None),
    "farthest points 32 x 1024 -> 64": (5.0, None),  # plain torch's time
    "32 nearest of 512 among 8192": (1.0, None),
    "Chamfer 8192": (1.0, None),
    "Chamfer 8192, backward": (1 / 1.5, None),
    "pretraining step, groups given": (1.3, 0.7),
}

Built = tuple[harness.Run, Callable[[], dict[str, Tensor]]]


def clouds(batch: int, points: int, seed: int = 1) -> Tensor:
    """Points [B, N, 3] spread over a surface, as those of objects are."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, points, 3, generator=g)
    x = x / x.norm(dim=2, keepdim=True)
    return x * (1 + 0.3 * torch.sin(4 * x[..., :1]) * torch.cos(3 * x[..., 1:2]))


def peers() -> dict[str, str]:
    """Those that import -> "", the others -> why not."""
    found = {}
    for name in PEERS:
        try:
            importlib.import_module(name)
            found[name] = ""
        except (ImportError, OSError) as error:  # open3d wants libraries of the system
            found[name] = f"{type(error).__name__}: {error}"
    return found


# Farthest points ------------------------------------------------------------------------------------------------------


def farthest(who: str, batch: int, points: int, count: int) -> Built:
    """Compared: the chosen points' coordinates in sorted order, since open3d gives them in another."""
    x = clouds(batch, points)
    x64 = [np.ascontiguousarray(cloud, np.float64) for cloud in x.numpy()]

    def chosen() -> list[np.ndarray]:
        if who == "plain torch":
            index = plain.farthest_points(x, count)
        elif who == "isoform":
            from isoform.pointcloud.ops import sample_farthest_points

            index = sample_farthest_points(x, K=count)[1]
        elif who == "fpsample":
            import fpsample

            return [
                cloud[fpsample.fps_sampling(cloud, count, start_idx=0).astype(np.int64)]
                for cloud in x.numpy()
            ]
        else:
            import open3d

            found = []
            for cloud in x64:
                points3d = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(cloud))
                found.append(np.asarray(points3d.farthest_point_down_sample(count).points))
            return found
        return [cloud[rows] for cloud, rows in zip(x.numpy(), index.numpy(), strict=True)]

    def answers() -> dict[str, Tensor]:
        ordered = [c[np.lexsort(c.astype(np.float32).T)] for c in chosen()]
        return {"points": torch.from_numpy(np.stack(ordered).astype(np.float32))}

    return chosen, answers


# Neighbours -----------------------------------------------------------------------------------------------------------


def neighbours(who: str, asking: Tensor, points: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """(squared distances, indices) [N, k] of one cloud [M, 3], by every contestant's own way; trees are built anew."""
    if who == "plain torch":
        apart, index = plain.nearest_points(asking[None], points[None], k)
        return apart[0].square(), index[0]
    if who == "isoform":
        from isoform.pointcloud.ops import knn_points

        near = knn_points(asking[None], points[None], K=k)
        return near.dists[0], near.idx[0]
    if who == "scipy":
        from scipy.spatial import cKDTree

        apart, found = cKDTree(points.numpy()).query(asking.numpy(), k)
        shape = (len(asking), k)
        return (
            torch.from_numpy(apart).reshape(shape).square(),
            torch.from_numpy(found).reshape(shape),
        )
    import open3d

    search = open3d.core.nns.NearestNeighborSearch(open3d.core.Tensor(points.numpy()))
    search.knn_index()
    index, squared = search.knn_search(open3d.core.Tensor(asking.numpy()), k)
    return torch.from_numpy(squared.numpy()), torch.from_numpy(index.numpy()).long()


def nearest(who: str) -> Built:
    """Compared: the squared distances, in order."""
    x = clouds(1, MANY)[0]

    def run() -> tuple[Tensor, Tensor]:
        return neighbours(who, x[:FEW], x, NEAR)

    return run, lambda: {"squared distances": run()[0]}


# Chamfer distance -----------------------------------------------------------------------------------------------------


def between(who: str, a: Tensor, b: Tensor) -> Tensor:
    """The squared Chamfer distance of two clouds [N, 3]."""
    if who == "isoform":
        from isoform.pointcloud.ops import chamfer_l2

        return chamfer_l2(a[None], b[None])
    if who == "plain torch":
        return plain.chamfer(a[None], b[None])
    return neighbours(who, a, b, 1)[0].mean() + neighbours(who, b, a, 1)[0].mean()


def chamfer(who: str, backward: bool) -> Built:
    """Peers without gradients run forward alone; their gradient is compared by torch, from their neighbours.

    torch.cdist multiplies matrices, and takes another neighbour where two are nearly as far: hence the
    tolerance of 1e-2.
    """
    a, b = clouds(1, MANY)[0], clouds(1, MANY, seed=2)[0]
    learns = backward and who in ("plain torch", "isoform")
    a.requires_grad_(learns)

    def run() -> Tensor:
        a.grad = None
        distance = between(who, a, b)
        if learns:
            distance.backward()
        return distance.detach()

    def answers() -> dict[str, Tensor]:
        found = {"distance": run()}
        if not backward:
            return found
        if not learns:
            there, back = neighbours(who, a, b, 1)[1][:, 0], neighbours(who, b, a, 1)[1][:, 0]
            x = a.detach().clone().requires_grad_()
            one, other = (x - b[there]).square().sum(1), (b - x[back]).square().sum(1)
            (one.mean() + other.mean()).backward()
            return {**found, "gradient": x.grad}
        return {**found, "gradient": a.grad.clone()}

    return run, answers


# Pretraining ----------------------------------------------------------------------------------------------------------

# Gradients that are compared: what the official names are called here.
GRADIENTS = {
    "MAE_encoder.encoder.first_conv.0.weight": "tokeniser.encoder.point.weight",
    "MAE_encoder.blocks.blocks.5.mlp.fc1.weight": "backbone.blocks.5.channel.inner.fc1.weight",
    "MAE_decoder.blocks.1.attn.qkv.weight": "decoder.blocks.1.mixer.inner.qkv.weight",
}


def theirs(all_patches: bool) -> nn.Module:
    """The plain model, its weights drawn from one seed."""
    torch.manual_seed(0)
    return plain.PlainPointMae(DIM, DEPTH, DECODER, HEADS, SIZE, all_patches=all_patches)


def ours() -> nn.Module:
    """isoform's model with the plain one's weights."""
    from isoform.core.config import resolve_app
    from isoform.pointcloud import DOMAIN
    from isoform.pointcloud.pointmae.layout import layout_named
    from isoform.pointcloud.pointmae.model import build_model

    settings = {"backbone.drop_path": 0.0, "decoder.drop_path": 0.0, "tokeniser.origin_rule": 0.0,
                "tokeniser.ties": "lowest"}  # fmt: skip
    model = build_model(
        resolve_app("pointmae-shapenet55-pretrain", domain=DOMAIN, settings=settings)
    )
    source = theirs(all_patches=True).state_dict()
    weights = layout_named("pointmae-pretrain").read(source, model.state_dict()).weights
    model.load_state_dict(weights)
    return model


def cut(who: str, points: Tensor) -> tuple[Tensor, Tensor]:
    """(centres [B, G, 3], patches [B, G, K, 3])."""
    if who != "isoform":
        return plain.group(points, GROUPS, SIZE)
    from isoform.pointcloud.config import PatchConfig
    from isoform.pointcloud.pointmae.patches import cut_into_patches

    found = cut_into_patches(points, PatchConfig(groups=GROUPS, group_size=SIZE))
    return found.centres, found.points


def grouping(who: str) -> Built:
    """Centres by farthest points, and the patches around them, compared by their points' distances in order."""
    points = clouds(BATCH, POINTS)

    def run() -> tuple[Tensor, Tensor]:
        return cut(who, points)

    def answers() -> dict[str, Tensor]:
        centres, patches = run()
        return {"centres": centres, "squared distances": patches.square().sum(3)}

    return run, answers


def hidden() -> Tensor:
    """bool [B, G]: which patches are hidden, drawn once."""
    g = torch.Generator().manual_seed(3)
    order = torch.rand(BATCH, GROUPS, generator=g).argsort(1)
    return torch.zeros(BATCH, GROUPS, dtype=torch.bool).scatter(1, order[:, :HIDDEN], True)


def step(who: str, given: bool, bf16: bool = False) -> Built:
    """Forward, Chamfer distance, backward, AdamW; with `given` the patches are there already; bf16: under autocast.

    Compared: the loss and three gradients, with the batch norms' own statistics, since the official code's batch norms
    see the masked patches too.
    """
    from isoform.pointcloud.losses import reconstruction_loss
    from isoform.pointcloud.pointmae.patches import Patches

    points, mask = clouds(BATCH, POINTS), hidden()
    model = ours() if who == "isoform" else theirs(all_patches=who == "plain torch")
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)
    ready = cut(who, points) if given else None

    def loss() -> Tensor:
        centres, patches = ready or cut(who, points)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            if who == "isoform":
                return reconstruction_loss(model.draw_masked(Patches(centres, patches), mask))
            return model(patches, centres, mask)

    def run() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss().backward()
        optimizer.step()

    def answers() -> dict[str, Tensor]:
        for module in model.modules():
            module.training = not isinstance(module, nn.BatchNorm1d)
        value = loss()
        value.backward()
        named = dict(model.named_parameters())
        names = {n: own if who == "isoform" else n for n, own in GRADIENTS.items()}
        found = {n: named[own].grad.reshape(len(named[own]), -1).clone() for n, own in names.items()}  # fmt: skip
        optimizer.zero_grad(set_to_none=True)
        model.train()
        return {"loss": value.detach(), **found}

    return run, answers


# The command ----------------------------------------------------------------------------------------------------------


def has_bf16() -> bool:
    """Whether the processor multiplies bfloat16 numbers itself."""
    flags = harness.environment(())["flags"].split()
    return "avx512_bf16" in flags or "amx_bf16" in flags


def cases(there: Sequence[str]) -> list[Case]:
    """All cases, with the peers that are there."""

    def operation(name: str, build: Callable[[str], Built], known: Sequence[str], mode: str = "exact",
                  forward: str | None = None) -> Case:  # fmt: skip
        who = ["plain torch", *(peer for peer in known if peer in there), "isoform"]
        modes = {peer: forward or mode for peer in PEERS}
        entries = [
            Contestant(
                w,
                "fp32",
                modes.get(w, mode),
                partial(build, w),
                peer=0 if w == "isoform" else None,
                tolerance=1e-2 if forward else 1e-3,
            )
            for w in who
        ]
        return Case(name, entries)

    def training(name: str, given: bool) -> Case:
        entries = []
        for precision in ("fp32", *["autocast bf16"] * has_bf16()):
            bf16, peer = precision != "fp32", len(entries) + 1
            for own, who, mode in (
                ("plain torch", "plain torch", "official"),
                ("plain torch", "visible", "visible patches"),
                ("isoform", "isoform", "its app"),
            ):
                entries.append(
                    Contestant(
                        own,
                        precision,
                        mode,
                        partial(step, who, given, bf16),
                        peer=peer if own == "isoform" else None,
                        tolerance=0.3 if bf16 else 1e-3,
                    )
                )
        return Case(name, entries)

    one, many = (
        partial(farthest, batch=1, points=MANY, count=FEW),
        partial(farthest, batch=32, points=1024, count=64),
    )
    return [
        operation("farthest points 8192 -> 512", one, ("open3d", "fpsample")),
        operation("farthest points 32 x 1024 -> 64", many, ("open3d", "fpsample")),
        operation("32 nearest of 512 among 8192", nearest, ("open3d", "scipy")),
        operation("Chamfer 8192", partial(chamfer, backward=False), ("open3d", "scipy")),
        operation(
            "Chamfer 8192, backward", partial(chamfer, backward=True), ("open3d", "scipy"), "both", "forward alone",
        ),
        operation("pretraining, groups of 16 x 1024", grouping, ()),
        training("pretraining step, groups given", True),
        training("pretraining step, whole", False),
    ]  # fmt: skip


def face_fastest(rows: Sequence[Row]) -> None:
    """isoform's ratio is against the fastest exact peer of its case, where there is another than plain torch."""
    for own in rows:
        others = [r for r in rows if r.case == own.case and r.name in PEERS]
        if own.name != "isoform" or not others or not own.milliseconds:
            continue
        best = min(others, key=lambda row: statistics.median(row.milliseconds))
        pairs = zip(best.milliseconds, own.milliseconds, strict=True)
        own.peer, own.ratios = f"{best.name} ({best.mode})", [a / b for a, b in pairs]


def verdicts(rows: Sequence[Row]) -> list[str]:
    """A sentence for every aim: what was reached."""
    said = []
    for own in rows:
        if own.name != "isoform" or own.precision != "fp32" or own.case not in AIMS:
            continue
        least, most = AIMS[own.case]
        naive = own.case == "farthest points 32 x 1024 -> 64"
        ratios, peer = (own.ratios_first, "plain torch") if naive else (own.ratios, own.peer)
        if not ratios:
            continue
        of_peer = 1 / statistics.median(ratios)
        text = f"{own.case}: {of_peer:.2f} of the time of {peer}, aim at most {1 / least:.2f}"
        if most is not None and own.peak_ratio is not None:
            text += f"; {own.peak_ratio:.2f} of its peak of memory, aim at most {most:.2f}"
            text += f" ({own.peak_ratio_first:.2f} of the official form's)"
        said.append(text)
    return said


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the cases and prints one table; see benchmarks/README.md."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if "--device" in given and "cuda" in given:
        import pointcloud_cuda

        return pointcloud_cuda.main(given)
    parser = argparse.ArgumentParser(prog="isoform bench pointcloud", description=__doc__)
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="cuda: pointcloud_cuda.py"
    )
    parser.add_argument("--quick", action="store_true", help="few rounds, one process a peak")
    parser.add_argument(
        "--rounds", type=int, help="turns of every contestant (default 15, quick 3)"
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="cases with this in their name")
    parser.add_argument("--no-memory", action="store_true", help="leave out the peaks of memory")
    parser.add_argument("--json", metavar="FILE", help="also write everything measured there")
    parser.add_argument(
        "--peak", nargs=2, metavar=("CASE", "INDEX"), help="print one contestant's peak, in bytes"
    )
    args = parser.parse_args(given)
    if args.peak:
        case = next(c for c in cases(()) if c.name == args.peak[0])
        print(harness.own_peak(case.contestants[int(args.peak[1])]))
        return 0
    there = peers()
    every = cases([name for name, why in there.items() if not why])
    chosen = [case for case in every if args.only in case.name]
    if not chosen:
        names = ", ".join(case.name for case in every)
        print(f"no case's name contains {args.only!r}; there are: {names}")
        return 2
    for name, why in there.items():
        if why:
            print(f"{name} is left out: {why}")
    rounds = args.rounds or (3 if args.quick else 15)
    rows = [row for case in chosen for row in harness.race(case, rounds)]
    face_fastest(rows)
    trained = [case for case in chosen if "step" in case.name]
    if trained and not args.no_memory:
        timed = [row for case in trained for row in rows if row.case == case.name]
        harness.measure_peaks(__file__, trained, timed, repeats=1 if args.quick else 3)
    command = " ".join(["isoform bench pointcloud", *given])
    about = harness.environment(PACKAGES)
    print(harness.table(rows))
    print("\n" + "\n".join(verdicts(rows)))
    print(
        "\n" + "\n".join(f"{key}: {value}" for key, value in {"command": command, **about}.items())
    )
    if args.json:
        Path(args.json).write_text(json.dumps(harness.as_json(rows, about, command), indent=1))
    return 0


def load_all() -> None:
    """Has torch load what it loads with the first backward pass and the first step, and numba its kernels."""
    from isoform.pointcloud.ops.largest import largest_of_linear

    layer = nn.Linear(2, 2)
    layer(torch.ones(1, 2)).sum().backward()
    torch.optim.AdamW(layer.parameters(), fused=True).step()
    a, b = clouds(1, 300)[0].requires_grad_(), clouds(1, 300, seed=2)[0]
    between("isoform", a, b)
    largest_of_linear(a[None], torch.ones(2, 3), torch.zeros(2)).sum().backward()


if __name__ == "__main__":
    # Everything is imported before a peak's first reading, so that no import counts as the model's memory.
    import isoform.pointcloud.losses
    import isoform.pointcloud.pointmae.layout  # noqa: F401

    load_all()
    sys.exit(main())
