"""iTransformer beside one in plain PyTorch and neuralforecast's: training step, inference, and whole training.

The first two take one batch that is there already; "whole training" reads a csv of the shape's size and trains on its
windows by isoform's engine, so that what the loaders cost counts. neuralforecast's model has no time marks, so it has
fewer tokens: isoform without marks is a row of its own, of equal work. Seconds a step are those of many steps less
those of few, so that starting counts for nobody.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent))
import harness
from harness import Case, Contestant
from plain_itransformer import PlainITransformer, from_official

from isoform.core.inference.optimise import Converted, optimise

PACKAGES = ("torch", "neuralforecast", "isoform")
CONTEXT = HORIZON = 96
HEADS, MARKS, DROPOUT = 8, 4, 0.1
FEW, MANY = 10, 60  # steps of a whole training

Built = tuple[harness.Run, Callable[[], dict[str, Tensor]]]


@dataclass(frozen=True)
class Shape:
    """The official size for a data set; `rows` is what its csv has in "whole training"."""

    name: str
    variates: int
    dim: int
    depth: int
    batch: int
    rows: int = 3000


SHAPES = (Shape("Exchange", 8, 128, 2, 32), Shape("ETTh1", 7, 256, 2, 32), Shape("Weather", 21, 512, 3, 32),
          Shape("ECL", 321, 512, 3, 16, 1500))  # fmt: skip


def settings(shape: Shape) -> dict[str, object]:
    """isoform's keys of that size."""
    return {
        "model.context": CONTEXT, "model.horizon": HORIZON, "backbone.dim": shape.dim, "backbone.mlp_dim": shape.dim,
        "backbone.depth": shape.depth, "backbone.heads": HEADS, "train.batch": shape.batch,
    }  # fmt: skip


def app(shape: Shape, **changes: object):
    """The settings of ETTh1's official app at that size."""
    from isoform.core.config import resolve_layers
    from isoform.timeseries import DOMAIN

    asked = {**settings(shape), **changes}
    return resolve_layers("itransformer-etth1-96", domain=DOMAIN, settings=asked).config


def ours(shape: Shape, recompute: str = "none") -> nn.Module:
    """isoform's model, from one seed."""
    from isoform.timeseries.models import build_model
    from isoform.timeseries.sizes import Sizes

    torch.manual_seed(0)
    return build_model(
        app(shape, **{"backbone.recompute": recompute}), Sizes(shape.variates, calendar=MARKS)
    )


def theirs(shape: Shape) -> PlainITransformer:
    """The plain model with the weights of isoform's."""
    from isoform.timeseries.pretrained import export_official

    model = PlainITransformer(
        CONTEXT,
        HORIZON,
        dim=shape.dim,
        depth=shape.depth,
        heads=HEADS,
        hidden=shape.dim,
        dropout=DROPOUT,
    )
    model.load_state_dict(from_official(export_official(app(shape), ours(shape).state_dict())))
    return model


def batch_of(shape: Shape) -> tuple[Tensor, Tensor, Tensor]:
    """Look-backs, marks and targets of every contestant."""
    g = torch.Generator().manual_seed(1)
    x, y = (torch.randn(shape.batch, n, shape.variates, generator=g) for n in (CONTEXT, HORIZON))
    return x, torch.rand(shape.batch, CONTEXT, MARKS, generator=g) - 0.5, y


def answer(model: nn.Module, x: Tensor, marks: Tensor) -> Tensor:
    """[B, H, V] of either model."""
    if isinstance(model, PlainITransformer):
        return model(
            x,
            marks,
        )
    if isinstance(model, Converted):
        return model(x, None, None, marks)[..., 0]
    return model(x, calendar=marks)[..., 0]


def inference(shape: Shape) -> Case:
    """One batch, float32."""

    def build(make: Callable[[], nn.Module]) -> Built:
        model = make().eval()
        x, marks, _ = batch_of(shape)

        def run() -> Tensor:
            with torch.inference_mode():
                return answer(
                    model,
                    x,
                    marks,
                )

        return run, lambda: {"forecast": run()}

    return Case(f"{shape.name} inference, batch {shape.batch}", [
        Contestant("plain torch", "fp32", "eager", partial(build, partial(theirs, shape))),
        Contestant("isoform", "fp32", "eager", partial(build, partial(ours, shape)), peer=0),
        Contestant("isoform", "fp32", "optimise", partial(build, lambda: optimise(ours(shape))), peer=0),
    ])  # fmt: skip


def steps(shape: Shape) -> Case:
    """Forward, squared error, backward, Adam, with dropout; compared without it: the forecast and two gradients."""

    def build(make: Callable[[], nn.Module], first: str, last: str) -> Built:
        model = make()
        x, marks, y = batch_of(shape)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-6, fused=True)

        def gradients() -> Tensor:
            forecast = answer(
                model,
                x,
                marks,
            )
            F.mse_loss(forecast, y).backward()
            return forecast

        def run() -> None:
            model.train()
            gradients()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

        def results() -> dict[str, Tensor]:
            model.eval()
            forecast = gradients().detach()
            grads = {name: p.grad.clone() for name, p in model.named_parameters()}
            optimizer.zero_grad(set_to_none=True)
            return {"forecast": forecast, "first": grads[first], "last": grads[last]}

        return run, results

    own = ("tokeniser.value.weight", "head.point.weight")
    return Case(f"{shape.name} training step, batch {shape.batch}", [
        Contestant("plain torch", "fp32", "plain", partial(build, partial(theirs, shape), "embed.weight",
                                                           "project.weight"), tolerance=1e-3),
        Contestant("isoform", "fp32", "plain", partial(build, partial(ours, shape), *own), peer=0, tolerance=1e-3),
        Contestant("isoform", "fp32", "recompute=light", partial(build, partial(ours, shape, "light"), *own), peer=0,
                   tolerance=1e-3),
    ])  # fmt: skip


# Whole training -------------------------------------------------------------------------------------------------------


def frame(shape: Shape):
    """The series of every contestant, hourly sums of waves and noise."""
    import pandas as pd

    rng = np.random.default_rng(0)
    t = np.arange(shape.rows)[:, None]
    waves = np.sin(2 * np.pi * (t / 24 + rng.random(shape.variates)))
    names = [f"v{i}" for i in range(shape.variates - 1)] + ["OT"]
    made = pd.DataFrame(waves + 0.3 * rng.standard_normal(waves.shape), columns=names)
    made.insert(0, "date", pd.date_range("2024-01-01", periods=shape.rows, freq="h"))
    return made


def whole_isoform(shape: Shape, folder: Path, **changes: object) -> Callable[[int], None]:
    """isoform's data and the engine's work of so many steps; `changes` are settings."""
    from isoform.core.engine import loader, signals
    from isoform.core.engine.determinism import reproducible
    from isoform.core.engine.distributed import this_process
    from isoform.core.engine.progress import Display
    from isoform.core.engine.trackers import Trackers
    from isoform.core.engine.train import Loop
    from isoform.core.runs.folder import RunFolder
    from isoform.timeseries import DOMAIN

    path = folder / f"{shape.name}.csv"
    frame(shape).to_csv(path, index=False)

    def run(count: int) -> None:
        settings = app(shape, **{"data.source": "custom", "data.path": str(path), **changes})
        task = DOMAIN.task(DOMAIN.prepare(settings))
        with reproducible():
            place = RunFolder(folder / "run")
            quiet = Display(enabled=False)
            watch = Trackers(place, (), quiet.say)
            loop = Loop(task, place, quiet, signals.StopSignal(), watch, this_process())
            loop.model.train()
            keys = [key for epoch in range(9) for key in loader.epoch_batches(task, 0, epoch)][
                :count
            ]
            batches = loader.read_batches(task, "train", keys, seed=0)
            for key in keys:
                loop._step(
                    [key],
                    batches,
                    lr=1e-4,
                )

    return run


def whole_plain(shape: Shape, folder: Path) -> Callable[[int], None]:
    """The same with a Dataset of windows and torch's DataLoader, as the official code has it."""
    from torch.utils.data import DataLoader, Dataset

    table = frame(shape)
    stamps = table.date.dt
    marks = np.stack(
        [
            stamps.hour / 23,
            stamps.day_of_week / 6,
            (stamps.day - 1) / 30,
            (stamps.day_of_year - 1) / 365,
        ],
        1,
    )
    values = table.drop(columns="date").to_numpy()[: int(0.7 * shape.rows)]
    values = ((values - values.mean(0)) / values.std(0)).astype(np.float32)
    marks = marks.astype(np.float32) - 0.5

    class Windows(Dataset):
        def __len__(self) -> int:
            return len(values) - CONTEXT - HORIZON + 1

        def __getitem__(self, i: int):
            return (
                values[i : i + CONTEXT],
                marks[i : i + CONTEXT],
                values[i + CONTEXT : i + CONTEXT + HORIZON],
            )

    def run(count: int) -> None:
        model = theirs(shape).train()
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
        done = 0
        while True:
            for x, mark, y in DataLoader(Windows(), shape.batch, shuffle=True, drop_last=True):
                F.mse_loss(model(x, mark), y).backward()
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                done += 1
                if done == count:
                    return

    return run


def whole_neuralforecast(shape: Shape, folder: Path) -> Callable[[int], None]:
    """neuralforecast's iTransformer of the same sizes by its own `fit`."""
    from neuralforecast import NeuralForecast
    from neuralforecast.losses.pytorch import MSE
    from neuralforecast.models import iTransformer

    long = (
        frame(shape)
        .melt("date", var_name="unique_id", value_name="y")
        .rename(columns={"date": "ds"})
    )

    def run(count: int) -> None:
        model = iTransformer(
            h=HORIZON, input_size=CONTEXT, n_series=shape.variates, hidden_size=shape.dim, n_heads=HEADS,
            e_layers=shape.depth, d_ff=shape.dim, dropout=DROPOUT, loss=MSE(), max_steps=count, learning_rate=1e-4,
            windows_batch_size=shape.batch, batch_size=shape.variates, scaler_type="identity", accelerator="cpu",
            devices=1, logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        NeuralForecast([model], freq="h").fit(long)

    return run


WHOLE = {
    "plain torch": whole_plain, "neuralforecast": whole_neuralforecast, "isoform": whole_isoform,
    "isoform, no marks": partial(whole_isoform, **{"data.calendar": "none", "tokeniser.calendar": "none"}),
}  # fmt: skip


def whole(shape: Shape, rounds: int) -> list[str]:
    """A line a contestant: CPU milliseconds a step in turns, windows a second of one core, ratios of the same round."""
    torch.set_num_threads(1)
    taken: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        runs = {}
        for name, make in WHOLE.items():
            try:
                runs[name] = make(shape, Path(folder))
            except ImportError as error:
                print(f"{name} is left out: {error}")
        for number in range(rounds + 1):
            for name, run in runs.items():
                spent = []
                for count in (FEW, MANY):
                    start = time.process_time()
                    run(count)
                    spent.append(time.process_time() - start)
                if number:  # the first round warms up
                    taken.setdefault(name, []).append((spent[1] - spent[0]) / (MANY - FEW))
    lines = []
    for name, seconds in taken.items():
        own = "isoform, no marks" if name == "neuralforecast" else "isoform"
        speed = [shape.batch / s for s in seconds]
        ratio = [
            [a / b for a, b in zip(seconds, taken[o], strict=True)]
            for o in dict.fromkeys((own, "isoform"))
        ]
        said = " (equal tokens) and ".join(harness.spread(r) for r in ratio)
        lines.append(f"{shape.name} whole training, batch {shape.batch}: {name:17} {harness.spread(speed, 0)} windows "
                     f"a second; isoform is {said} times faster")  # fmt: skip
    return lines


def load_all() -> None:
    """Has torch load what it loads with the first backward pass and the first step of Adam: 160 MiB of its modules."""
    layer = nn.Linear(2, 2)
    layer(torch.ones(1, 2)).sum().backward()
    torch.optim.Adam(layer.parameters(), fused=True).step()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the cases and prints them; see benchmarks/README.md."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    parser = argparse.ArgumentParser(prog="isoform bench timeseries", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few rounds of ETTh1's size")
    parser.add_argument(
        "--rounds", type=int, help="turns of every contestant (default 15, quick 3)"
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="cases with this in their name")
    parser.add_argument("--no-memory", action="store_true", help="leave out the peaks of memory")
    parser.add_argument("--no-whole", action="store_true", help="leave out whole training")
    parser.add_argument("--json", metavar="FILE", help="also write everything measured there")
    parser.add_argument(
        "--peak", nargs=2, metavar=("CASE", "INDEX"), help="print one contestant's peak, in bytes"
    )
    args = parser.parse_args(given)
    warnings.simplefilter("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    logging.getLogger("lightning").setLevel(logging.ERROR)
    every = [make(shape) for make in (inference, steps) for shape in SHAPES]
    if args.peak:
        case = next(case for case in every if case.name == args.peak[0])
        load_all()
        print(harness.own_peak(case.contestants[int(args.peak[1])]))
        return 0
    shapes = [shape for shape in SHAPES if shape.name == "ETTh1" or not args.quick]
    chosen = [make(s) for make in (inference, steps) for s in shapes if args.only in make(s).name]
    rounds = args.rounds or (3 if args.quick else 15)
    rows = [row for case in chosen for row in harness.race(case, rounds)]
    trained = [case for case in chosen if "training" in case.name]
    if not args.no_memory:
        timed = [row for case in trained for row in rows if row.case == case.name]
        harness.measure_peaks(__file__, trained, timed, repeats=1 if args.quick else 3)
    about = harness.environment(PACKAGES)
    command = " ".join(["isoform bench timeseries", *given])
    if rows:
        print(harness.table(rows))
    lines = []
    if not args.no_whole:
        for shape in shapes:
            if args.only in f"{shape.name} whole training":
                lines += whole(shape, max(2, rounds // 5))
    print("\n".join(lines))
    print(
        "\n" + "\n".join(f"{key}: {value}" for key, value in {"command": command, **about}.items())
    )
    if args.json:
        Path(args.json).write_text(
            json.dumps({**harness.as_json(rows, about, command), "whole": lines}, indent=1)
        )
    return 0


if __name__ == "__main__":
    # Everything is imported before a peak's first reading, so that no import counts as the model's memory.
    import isoform.timeseries.models
    import isoform.timeseries.pretrained  # noqa: F401

    sys.exit(main())
