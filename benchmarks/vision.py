"""ViT beside timm: speed of inference and of a training step, and a step's peak memory."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent))
import harness
from harness import Case, Contestant

NAMES = {"ViT-S/16": "vit_small_patch16_224", "ViT-Ti/16": "vit_tiny_patch16_224"}
SHAPES = (("ViT-S/16", 8), ("ViT-Ti/16", 8), ("ViT-Ti/16", 1))
PACKAGES = ("torch", "timm", "openvino", "isoform")

Built = tuple[harness.Run, Callable[[], dict[str, Tensor]]]


def images(batch: int) -> tuple[Tensor, Tensor]:
    """The inputs and labels of every contestant."""
    g = torch.Generator().manual_seed(1)
    return torch.randn(batch, 3, 224, 224, generator=g), torch.randint(1000, (batch,), generator=g)


def theirs(size: str) -> nn.Module:
    """timm's model, with weights drawn from one seed and biases that are not zero."""
    import timm

    torch.manual_seed(0)
    model = timm.create_model(NAMES[size])
    g = torch.Generator().manual_seed(2)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter, 0.0, 0.1, generator=g)
    return model


def ours(
    size: str, recompute: str = "none"
) -> tuple[nn.Module, Callable[[dict[str, Tensor]], dict[str, Tensor]]]:
    """isoform's model with the weights of timm's (the same tensors), and what renames its tensors to timm's names."""
    from isoform.vision.vit.model import build_vit
    from isoform.vision.vit.pretrained.timm_tables import read_tables

    source = theirs(size)
    found = read_tables(source)
    backbone = found.backbone.model_copy(update={"recompute": recompute})
    with torch.device("meta"):
        model = build_vit(found.tokeniser, backbone, found.head)
    layout = found.names.layout(backbone)
    model.load_state_dict(layout.read(source.state_dict(), model.state_dict()).weights, assign=True)
    return model, lambda tensors: layout.write(tensors)


# Inference ------------------------------------------------------------------------------------------------------------


def answering(make: Callable[[Tensor], Callable[[Tensor], Tensor]], batch: int) -> Built:
    """The logits of one batch; `make` turns an example into what answers."""
    x, _ = images(batch)
    answer = make(x)

    def run() -> Tensor:
        with torch.inference_mode():
            return answer(x)

    return run, lambda: {"logits": run()}


def eager(model: nn.Module, dtype: torch.dtype, x: Tensor) -> Callable[[Tensor], Tensor]:
    """The model as it is, in `dtype`; the input is converted beforehand."""
    model, x = model.eval().to(dtype), x.to(dtype)
    return lambda _: model(x)


def inference(size: str, batch: int) -> Case:
    """Equal precision first; then what changes it, and engines."""
    from isoform.core.inference.optimise import openvino, optimise

    def entry(
        name: str, precision: str, mode: str, make: Callable[[Tensor], Callable], **rest: object
    ) -> Contestant:
        tolerance = 5e-2 if precision == "bf16" else 1e-4
        return Contestant(
            name, precision, mode, partial(answering, make, batch), tolerance=tolerance, **rest
        )

    own = partial(ours, size)
    return Case(
        f"{size} inference, batch {batch}",
        [
            entry("timm", "fp32", "eager", lambda x: eager(theirs(size), torch.float32, x)),
            entry("isoform", "fp32", "eager", lambda x: eager(own()[0], torch.float32, x), peer=0),
            entry("isoform", "fp32", "optimise", lambda x: optimise(own()[0]), peer=0),
            entry("timm", "bf16", "bf16 weights", lambda x: eager(theirs(size), torch.bfloat16, x)),
            entry("isoform", "bf16", "optimise", lambda x: optimise(own()[0], "bf16"), peer=3),
            entry("timm", "fp32", "OpenVINO", lambda x: openvino(theirs(size), x)),
            entry("isoform", "fp32", "OpenVINO", lambda x: openvino(own()[0], x), peer=5),
            entry("timm", "bf16", "OpenVINO", lambda x: openvino(theirs(size), x, "bf16")),
            entry("isoform", "bf16", "OpenVINO", lambda x: openvino(own()[0], x, "bf16"), peer=7),
        ],
    )  # fmt: skip


# Training -------------------------------------------------------------------------------------------------------------


def training(model: nn.Module, rename: Callable, batch: int, precision: str) -> Built:
    """One step: forward, cross-entropy, backward, AdamW. Compared: the logits, and three gradients across the depth."""
    x, y = images(batch)
    model.train()
    if precision == "bf16":
        model, x = model.bfloat16(), x.bfloat16()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)

    def gradients() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "autocast bf16"):
            logits = model(x)
            loss = F.cross_entropy(logits.float(), y)
        loss.backward()
        return logits

    def run() -> None:
        gradients()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def results() -> dict[str, Tensor]:
        logits = gradients().detach()
        named = rename({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
        chosen = ("patch_embed.proj.weight", "blocks.5.mlp.fc1.weight", "blocks.11.attn.qkv.weight")
        found = {name: named[name].clone() for name in chosen}
        optimizer.zero_grad(set_to_none=True)
        return {"logits": logits, **found}

    return run, results


def steps(size: str, batch: int) -> Case:
    """fp32, autocast (bf16 products, fp32 weights) and bf16 weights, each beside timm's own."""

    def timm_model(precision: str, checkpointing: bool = False) -> Built:
        model = theirs(size)
        if checkpointing:
            model.set_grad_checkpointing(True)
        return training(model, dict, batch, precision)

    def own_model(precision: str, recompute: str) -> Built:
        model, rename = ours(size, recompute)
        return training(model, rename, batch, precision)

    contestants = []
    for precision, tolerance in (("fp32", 1e-3), ("autocast bf16", 0.3), ("bf16", 0.3)):
        peer = len(contestants)

        def entry(name: str, mode: str, build: Callable[[], Built], peer: int | None, precision=precision,
                  tolerance=tolerance) -> Contestant:  # fmt: skip
            return Contestant(name, precision, mode, build, peer, tolerance)

        contestants += [
            entry("timm", "plain", partial(timm_model, precision), None),
            entry("timm", "checkpointing", partial(timm_model, precision, True), peer),
            entry("isoform", "plain", partial(own_model, precision, "none"), peer),
            entry("isoform", "recompute=light", partial(own_model, precision, "light"), peer),
            entry("isoform", "recompute=block", partial(own_model, precision, "block"), peer),
        ]
    return Case(f"{size} training step, batch {batch}", contestants)


# Accuracy -------------------------------------------------------------------------------------------------------------


class Engine(nn.Module):
    """A model answering through OpenVINO, which compiles it once for every shape of batch."""

    def __init__(self, model: nn.Module, precision: str) -> None:
        super().__init__()
        self.model, self.precision, self.engines = model, precision, {}

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, K]."""
        from isoform.core.inference.optimise import openvino

        if x.shape not in self.engines:
            self.engines[x.shape] = openvino(self.model, x, self.precision)
        return self.engines[x.shape](x)


def top1(run: str, data: str | None) -> int:
    """Prints a trained run's top-1 on its test images, or on those at `data`, in every precision and engine."""
    from isoform.core.engine.evaluate import evaluate
    from isoform.core.inference.optimise import optimise
    from isoform.core.inference.run_model import load_trained
    from isoform.registry import domain

    vision = domain("vision")
    trained = load_trained(vision, run)
    task = vision.task_from_run(trained.config, trained.state, None if data is None else Path(data))
    model = trained.model
    first = None
    for name, copy in (
        ("fp32, eager", model), ("fp32, optimise", optimise(model)), ("bf16, optimise", optimise(model, "bf16")),
        ("fp32, OpenVINO", Engine(model, "fp32")), ("bf16, OpenVINO", Engine(model, "bf16")),
    ):  # fmt: skip
        metrics, _ = evaluate(task, copy, "test", device=torch.device("cpu"), workers=0)
        first = metrics["top1"] if first is None else first
        change = 100 * (metrics["top1"] - first)
        print(
            f"{name:15} top-1 {100 * metrics['top1']:.2f} % of {task.sizes()['test']} images, {change:+.2f} points"
        )
    return 0


# The command ----------------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the cases and prints one table; see benchmarks/README.md."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    parser = argparse.ArgumentParser(prog="isoform bench vision", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="few rounds of the small model at batch 1"
    )
    parser.add_argument(
        "--rounds", type=int, help="turns of every contestant (default 15, quick 3)"
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="cases with this in their name")
    parser.add_argument("--no-memory", action="store_true", help="leave out the peaks of memory")
    parser.add_argument("--no-speed", action="store_true", help="leave out the times")
    parser.add_argument("--json", metavar="FILE", help="also write everything measured there")
    parser.add_argument(
        "--top1",
        metavar="RUN",
        help="instead: top-1 of a trained run in every precision and engine",
    )
    parser.add_argument(
        "--data", metavar="PATH", help="with --top1: other test images than the run's own"
    )
    parser.add_argument(
        "--peak", nargs=2, metavar=("CASE", "INDEX"), help="print one contestant's peak, in bytes"
    )
    args = parser.parse_args(given)
    if args.top1:
        return top1(args.top1, args.data)
    shapes = SHAPES[-1:] if args.quick else SHAPES
    if args.peak:
        case = next(c for c in cases(SHAPES) if c.name == args.peak[0])
        print(harness.own_peak(case.contestants[int(args.peak[1])]))
        return 0
    chosen = [case for case in cases(shapes) if args.only in case.name]
    if not chosen:
        print(
            f"no case's name contains {args.only!r}; there are: {', '.join(c.name for c in cases(shapes))}"
        )
        return 2
    rounds = args.rounds or (3 if args.quick else 15)
    rows = []
    for case in chosen:
        rows += harness.race(case, 0 if args.no_speed else rounds)
    timed = [
        row for case in chosen if "training" in case.name for row in rows if row.case == case.name
    ]
    if not args.no_memory:
        trained = [case for case in chosen if "training" in case.name]
        harness.measure_peaks(__file__, trained, timed, repeats=1 if args.quick else 3)
    command = " ".join(["isoform bench vision", *given])
    about = harness.environment(PACKAGES)
    print(harness.table(rows))
    print(
        "\n" + "\n".join(f"{key}: {value}" for key, value in {"command": command, **about}.items())
    )
    if args.json:
        Path(args.json).write_text(json.dumps(harness.as_json(rows, about, command), indent=1))
    return 0


def cases(shapes: Sequence[tuple[str, int]]) -> list[Case]:
    """All cases: inference, then training, of every shape."""
    return [make(*shape) for make in (inference, steps) for shape in shapes]


if __name__ == "__main__":
    # Everything is imported before a peak's first reading, so that no import counts as the model's memory.
    import timm  # noqa: F401

    import isoform.core.inference.optimise
    import isoform.vision.vit.model
    import isoform.vision.vit.pretrained.timm_tables  # noqa: F401

    sys.exit(main())
