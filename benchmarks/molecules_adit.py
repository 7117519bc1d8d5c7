"""ADiT beside plain torch that pads: the time of one evaluation of the network, and of one training step.

Sizes of structures are drawn from QM9's (18 atoms on average), or lie evenly between 2 and 200 in a joint batch. The
denoiser is the official S, the autoencoder the official one; both contestants have the same weights and batch. A
sampling of S steps with guidance is 2 S evaluations: what prints as molecules a second is the batch over their time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))
import harness
import plain_adit as plain
from harness import Case, Contestant, Row

PACKAGES = ("torch", "isoform")
BATCH = 256
STEPS, GUIDED = 100, 2  # of a sampling: times, and evaluations at each
# How many of QM9's 130,831 molecules have how many atoms.
QM9 = {3: 2, 4: 4, 5: 5, 6: 12, 7: 20, 8: 65, 9: 172, 10: 483, 11: 1053, 12: 2189, 13: 4027, 14: 6758, 15: 10216,
       16: 13824, 17: 16969, 18: 17442, 19: 18146, 20: 12403, 21: 13166, 22: 4428, 23: 6362, 24: 712, 25: 1923, 26: 59,
       27: 356, 29: 35}  # fmt: skip
KINDS = ("QM9", "joint")
# What is aimed at: (least times faster than the peer, largest peak of memory over the peer's).
AIMS = {"QM9": (1.3, 0.75), "joint": (2.0, 0.75)}

Built = tuple[harness.Run, Callable[[], dict[str, Tensor]]]


def sizes(kind: str, batch: int) -> np.ndarray:
    """[B] atoms of each structure of a random batch."""
    random = np.random.default_rng(0)
    if kind == "joint":
        return random.permutation(np.linspace(2, 200, batch).round().astype(int))
    atoms = np.array(list(QM9))
    share = np.array(list(QM9.values()), float)
    return random.choice(atoms, batch, p=share / share.sum())


def structures(kind: str, batch: int) -> dict[str, Tensor]:
    """Random atoms as a batch of isoform's has them (molecules/adit/tokeniser.py)."""
    g = torch.Generator().manual_seed(1)
    offsets = torch.tensor([0, *np.cumsum(sizes(kind, batch))])
    atoms = int(offsets[-1])
    periodic = torch.arange(batch) % 2 == 0 if kind == "joint" else torch.zeros(batch, dtype=bool)
    return {
        "offsets": offsets,
        "numbers": torch.randint(1, 90, (atoms,), generator=g),
        "positions": 3 * torch.randn(atoms, 3, generator=g),
        "fractional": torch.rand(atoms, 3, generator=g),
        "lengths": 5 + torch.rand(batch, 3, generator=g),
        "angles": torch.full((batch, 3), 90.0),
        "periodic": periodic,
    }


def network(size: str) -> torch.nn.Module:
    """isoform's model, from a fixed seed, its zeros filled so that every block does something."""
    from isoform.molecules.adit.config import app_of_size
    from isoform.molecules.adit.model import build_model

    torch.manual_seed(0)
    model = build_model(app_of_size("official" if size == "S" else size, size))
    g = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, weight in model.denoiser.named_parameters():
            if "modulation" in name or "head" in name:
                weight.copy_(0.02 * torch.randn(weight.shape, generator=g))
    return model.train()


def inputs(kind: str, batch: int, model: torch.nn.Module) -> dict[str, Tensor]:
    """Noise, an earlier prediction, times and labels."""
    g = torch.Generator().manual_seed(3)
    atoms = int(sizes(kind, batch).sum())
    latent = model.autoencoder.expand.in_features
    return {
        "noise": torch.randn(atoms, latent, generator=g),
        "previous": torch.randn(atoms, latent, generator=g),
        "t": 0.05 + 0.8 * torch.rand(batch, generator=g),
    }


def evaluation(who: str, kind: str, batch: int, size: str) -> Built:
    """One call of the denoiser, with an earlier prediction. Compared: the latents, packed."""
    from isoform.core.tokens import Tokens
    from isoform.molecules.adit.model import labels_of

    model = network(size).eval()
    given, made = structures(kind, batch), inputs(kind, batch, model)
    offsets, labels = given["offsets"], labels_of(given)
    if who == "isoform":
        tokens = Tokens(made["noise"], offsets=offsets)

        def run() -> Tensor:
            with torch.inference_mode():
                return model(tokens, made["t"], labels, made["previous"])

        return run, lambda: {"latents": run().clone()}
    peer = plain.Plain(model).eval().denoiser
    x, real = plain.pad(made["noise"], offsets)
    previous, _ = plain.pad(made["previous"], offsets)

    def run_padded() -> Tensor:
        with torch.inference_mode():
            return peer(x, real, made["t"], labels, previous)

    return run_padded, lambda: {"latents": run_padded()[real].clone()}


def step(who: str, kind: str, batch: int, size: str) -> Built:
    """A training step of the second stage: latents by the fixed encoder, loss, gradients, AdamW; no self-conditioning.

    Compared: the loss and the gradients of a modulation, of a middle MLP and of the first layer.
    """
    model = network(size)
    given, made = structures(kind, batch), inputs(kind, batch, model)
    loss, compared = (ours if who == "isoform" else theirs)(model, given, made)
    trained = [weight for weight in compared["model"].parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-6, weight_decay=0.0, fused=True)

    def run() -> None:
        loss().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def answers() -> dict[str, Tensor]:
        value = loss()
        value.backward()
        found = {"loss": value.detach().reshape(1)}
        for name, weights in compared["gradients"].items():
            found[name] = torch.cat([weight.grad for weight in weights])
        optimizer.zero_grad(set_to_none=True)
        return found

    return run, answers


Compared = dict[str, torch.nn.Module | dict[str, list[Tensor]]]


def ours(
    model: torch.nn.Module, given: dict[str, Tensor], made: dict[str, Tensor]
) -> tuple[Callable[[], Tensor], Compared]:
    """isoform's loss; the noise and times are given, so that both contestants see the same."""
    from isoform.core.objectives.flow import interpolate, time_weights
    from isoform.molecules.adit.losses import denoising_losses
    from isoform.molecules.adit.model import labels_of

    labels, middle = labels_of(given), len(model.denoiser.backbone.blocks) // 2

    def loss() -> Tensor:
        clean = model.latents(given)
        t_B = made["t"]
        x = interpolate(made["noise"], clean.x, clean.per_token(t_B[:, None]))
        prediction = model(clean.with_x(x), t_B, labels, made["previous"])
        return denoising_losses(prediction, clean, time_weights(t_B)).mean()

    block = model.denoiser.backbone.blocks[middle]
    gradients = {
        "modulation": [block.mixer.modulation.weight, block.channel.modulation.weight],
        "mlp": [block.channel.inner.fc1.weight],
        "first": [model.denoiser.tokeniser.linear.weight],
    }
    return loss, {"model": model, "gradients": gradients}


def theirs(
    model: torch.nn.Module, given: dict[str, Tensor], made: dict[str, Tensor]
) -> tuple[Callable[[], Tensor], Compared]:
    """The same of padded tensors, the mean over each structure's atoms."""
    from isoform.molecules.adit.model import labels_of

    peer, labels = plain.Plain(model).train(), labels_of(given)
    numbers, real = plain.pad(given["numbers"], given["offsets"])
    positions, fractional, noise, previous = (
        plain.pad(part, given["offsets"])[0]
        for part in (given["positions"], given["fractional"], made["noise"], made["previous"])
    )
    t_B = made["t"]

    def loss() -> Tensor:
        with torch.no_grad():
            clean = peer.encoder(numbers, positions, fractional, real)
        t = t_B[:, None, None]
        x = (1 - t) * noise + t * clean
        prediction = peer.denoiser(x, real, t_B, labels, previous)
        error = (prediction - clean).square().mean(-1) * real
        return (error.sum(1) / real.sum(1) / (1 - t_B.clamp(max=0.9)) ** 2).mean()

    block = peer.denoiser.trunk.blocks[len(peer.denoiser.trunk.blocks) // 2]
    gradients = {
        "modulation": [block.modulation.weight],
        "mlp": [block.fc1.weight],
        "first": [peer.denoiser.linear.weight],
    }
    return loss, {"model": peer, "gradients": gradients}


def cases(batch: int, size: str) -> list[Case]:
    """Both kinds of batches, evaluated and trained on."""
    return [
        Case(
            f"{kind} {what}, batch {batch}, {size}",
            [
                Contestant(who, "fp32", mode, partial(build, who, kind, batch, size), peer, 2e-3)
                for who, mode, peer in (("plain torch", "padded", None), ("isoform", "packed", 0))
            ],
        )
        for kind in KINDS
        for what, build in (("evaluation", evaluation), ("training step", step))
    ]


def speeds(rows: Sequence[Row], batch: int) -> list[str]:
    """Molecules a second of one core: sampled (at 100 steps with guidance), or trained on."""
    said = []
    for row in rows:
        evaluations = STEPS * GUIDED if "evaluation" in row.case else 1
        rates = [1e3 * batch / (ms * evaluations) for ms in row.milliseconds]
        what = f"sampled ({evaluations} evaluations each)" if evaluations > 1 else "trained on"
        said.append(f"{row.case}: {row.name} {harness.spread(rates, 3)} structures a second {what}")
    return said


def verdicts(rows: Sequence[Row]) -> list[str]:
    """A sentence for every case: what was reached beside what was aimed at."""
    said = []
    for row in rows:
        if row.ratios:
            least, most = AIMS[row.case.split()[0]]
            text = f"{row.case}: {statistics.median(row.ratios):.2f} times as fast, aim at least {least:g}"
            if row.peak_ratio is not None:
                text += f"; {row.peak_ratio:.2f} of the peak of memory, aim at most {most:g}"
            said.append(text)
    return said


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the cases and prints one table; see benchmarks/README.md."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    parser = argparse.ArgumentParser(
        prog="isoform bench molecules --name adit", description=__doc__
    )
    parser.add_argument("--quick", action="store_true", help="few rounds, one process a peak")
    parser.add_argument("--rounds", type=int, help="turns of each side (default 10, quick 3)")
    parser.add_argument("--batch", type=int, default=BATCH, help="structures (default 256)")
    parser.add_argument("--size", default="S", help="of the denoiser: S, demo or tiny")
    parser.add_argument("--only", default="", metavar="TEXT", help="cases with this in their name")
    parser.add_argument("--no-memory", action="store_true", help="leave out the peaks of memory")
    parser.add_argument("--json", metavar="FILE", help="also write everything measured there")
    parser.add_argument(
        "--peak", nargs=2, metavar=("CASE", "INDEX"), help="print one contestant's peak, in bytes"
    )
    args = parser.parse_args(given)
    if args.peak:
        *_, batch, size = args.peak[0].replace(",", "").split()
        case = next(c for c in cases(int(batch), size) if c.name == args.peak[0])
        print(harness.own_peak(case.contestants[int(args.peak[1])]))
        return 0
    chosen = [case for case in cases(args.batch, args.size) if args.only in case.name]
    rounds = args.rounds or (3 if args.quick else 10)
    rows = [row for case in chosen for row in harness.race(case, rounds)]
    if not args.no_memory:
        harness.measure_peaks(__file__, chosen, rows, repeats=1 if args.quick else 3)
    command = " ".join(["isoform bench molecules --name adit", *given])
    about = harness.environment(PACKAGES)
    print(harness.table(rows))
    print("\n" + "\n".join([*verdicts(rows), *speeds(rows, args.batch)]))
    print(
        "\n" + "\n".join(f"{key}: {value}" for key, value in {"command": command, **about}.items())
    )
    if args.json:
        Path(args.json).write_text(json.dumps(harness.as_json(rows, about, command), indent=1))
    return 0


if __name__ == "__main__":
    # Everything is imported before a peak's first reading, so that no import counts as the model's memory.
    import isoform.molecules.adit.losses  # noqa: F401

    layer = torch.nn.Linear(2, 2)
    layer(torch.ones(1, 2)).sum().backward()
    torch.optim.AdamW(layer.parameters(), fused=True).step()
    sys.exit(main())
