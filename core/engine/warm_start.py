"""Starting from other weights: a run of the same domain, a trunk of another one, or a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from isoform.core.domain import InitialWeights, Task
from isoform.core.errors import UserError, join_names
from isoform.core.runs.exported import as_run, is_exported
from isoform.core.runs.folder import RunFolder
from isoform.core.runs.zoo import located, sha256_of


def initial_weights(task: Task, source: str) -> InitialWeights:
    """What `train.init` names: a run folder, a file in isoform's names, or a foreign checkpoint that `task` reads.

    Raises UserError for anything else.
    """
    path = located(source)
    if (path / "config.toml").is_file() or (path / "checkpoints").is_dir():
        return read_run_weights(path)
    if is_exported(path):  # what it was trained on comes along
        with as_run(path) as folder:
            return replace(read_run_weights(folder), source=name_of(source))
    if path.suffix == ".safetensors" and path.is_file():
        initial = read_safetensors(path)
        if any(name.startswith("backbone.") for name in initial.weights):
            return initial
    foreign = task.initial_weights(source)
    if foreign is None:
        raise UserError(
            f"train.init = {source!r} is neither a run folder nor a .safetensors file in isoform's names"
        )
    return foreign


def name_of(source: str) -> str:
    """How a line calls weights: by zoo/NAME, or a file by its name alone, since a run travels."""
    return source if source.startswith("zoo/") else Path(source).name


def refuse_other_file(source: str, known: str | None) -> None:
    """Raises UserError where the file that `source` names isn't the one of the digest `known` (train.init_sha256)."""
    path = located(source)
    if known is not None and (not path.is_file() or sha256_of(path) != known):
        raise UserError(
            f"{source}: is not the file that train.init_sha256 names; leave that out to start from these weights"
        )


def read_run_weights(path: Path) -> InitialWeights:
    """The best weights of a run. One that itself started from other weights hands their licence on."""
    run = RunFolder(path)
    state = run.read_json("task.json") if (path / "task.json").exists() else {}
    results = run.results()
    return InitialWeights(
        run.load_weights("best"),
        f"{results.get('domain', '')}/{results.get('app', path.name)}",
        str(results.get("domain", "")),
        str(state.get("licence") or state.get("initial") or "that of its training data"),
        run.seen(),
    )


def read_safetensors(path: Path) -> InitialWeights:
    """The weights of a .safetensors file. Raises UserError where it can't be read."""
    try:
        return InitialWeights(load_file(path), path.name)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: not a readable .safetensors file ({error})") from error


def load_into(task: Task, model: nn.Module, initial: InitialWeights) -> list[str]:
    """Copies initial weights into `model`; returns lines for a person: what was taken and what starts fresh.

    The trunk is strict: its blocks must be the same in number and shape, and what both have must have one shape.
    Weights of another domain fill the backbone only. Heads of another size stay fresh. Raises UserError where the trunk
    differs.
    """
    foreign = initial.domain not in ("", task.config.domain)
    trunk = ("backbone.",) if foreign else task.trunk
    have = dict(task.adapt_weights(initial.weights, model))
    want: dict[str, Tensor] = dict(model.state_dict())
    if foreign:
        have = {name: value for name, value in have.items() if name.startswith(trunk)}
    _check_trunk(have, want, trunk, initial.source)
    fits = {
        name: value
        for name, value in have.items()
        if name in want and value.shape == want[name].shape
    }
    model.load_state_dict(fits, strict=False)
    fresh = [name for name in want if name not in fits]
    unused = [name for name in have if name not in fits and name not in want]
    lines = [f"initial weights: {len(fits)} of {len(want)} tensors from {initial.source}"]
    if fresh:
        lines.append(f"fresh, since {initial.source} has none of that size: {join_names(fresh)}")
    if unused:
        lines.append(f"not used: {join_names(unused)}")
    return lines


def _check_trunk(
    have: Mapping[str, Tensor], want: Mapping[str, Tensor], trunk: tuple[str, ...], source: str
) -> None:
    theirs = {name for name in have if name.startswith(trunk)}
    ours = {name for name in want if name.startswith(trunk)}
    if not theirs & ours:
        raise UserError(
            f"{source} holds no weights of this model's trunk, but {join_names(sorted(have))}"
        )
    unequal = sorted(name for name in theirs ^ ours if ".blocks." in name)
    if unequal:
        raise UserError(
            f"the trunk of {source} is another one: only one of the two models has {join_names(unequal)}"
        )
    for name in sorted(theirs & ours):
        if have[name].shape != want[name].shape:
            raise UserError(
                f"the trunk of {source} has another shape: {name} is {list(have[name].shape)} there "
                f"and {list(want[name].shape)} here"
            )
