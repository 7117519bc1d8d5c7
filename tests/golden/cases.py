"""Stored parity cases: NAME.json (kind, config, tolerances) and NAME.safetensors (weights, input, output, grad)."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

PENDING = {
    line.strip()
    for line in (Path(__file__).parent / "pending.txt").read_text().splitlines()
    if line.strip() and not line.startswith("#")
}

# What a field of `Case` holds, where the file calls it otherwise.
GROUPS = {"inference": "output_inference"}
FIELDS = {there: ours for ours, there in GROUPS.items()}


@dataclass
class Case:
    """One case, read."""

    path: Path
    kind: str
    config: dict[str, Any]
    json: dict[str, Any]
    data: Path  # folder of real data files
    weights: dict[str, Tensor] = field(default_factory=dict)
    input: dict[str, Tensor] = field(default_factory=dict)
    output: dict[str, Tensor] = field(default_factory=dict)
    inference: dict[str, Tensor] = field(default_factory=dict)  # output_inference/
    grad: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path, data: Path) -> Case:
        """The case whose json lies at `path`."""
        text = json.loads(path.read_text())
        case = cls(path, text["kind"], text.get("config", {}), text, data)
        tensors = path.with_suffix(".safetensors")
        for name, tensor in (load_file(tensors) if tensors.exists() else {}).items():
            group, _, rest = name.partition("/")
            if group in ("weights", "input", "output", "output_inference", "grad"):
                getattr(case, FIELDS.get(group, group))[rest] = tensor
        return case

    def atol(self, name: str) -> float:
        """recommended_atol of a tensor such as "output/logits"; keys may hold `*`; 0 (exact) where none covers it."""
        table: Mapping[str, float] = self.json["recommended_atol"]
        if name in table:
            return table[name]
        return next((value for key, value in table.items() if fnmatch.fnmatch(name, key)), 0.0)

    def compare(self, **groups: Mapping[str, Tensor]) -> None:
        """Every stored tensor of a group (output, inference, grad) is met by one of its name, within its tolerance.

        Raises AssertionError listing all that are missing or differ.
        """
        problems = []
        for group, got in groups.items():
            for name, want in getattr(self, group).items():
                label = f"{GROUPS.get(group, group)}/{name}"
                if name not in got:
                    problems.append(f"{label}: missing")
                    continue
                problems += difference(
                    label, got[name].detach(), want, self.atol(label), self.json["recommended_rtol"]
                )
        assert not problems, "\n  ".join([str(self.path), *problems])


def difference(label: str, got: Tensor, want: Tensor, atol: float, rtol: float) -> list[str]:
    """What is wrong with `got`, as a list of no or one sentence. Integers and infinities agree exactly."""
    if want.dim() and got.shape != want.shape and got.numel() == want.numel() == 1:
        got = got.reshape(want.shape)
    if got.shape != want.shape:
        return [f"{label}: shape {tuple(got.shape)}, wanted {tuple(want.shape)}"]
    if not want.is_floating_point():
        wrong = int((got.to(torch.int64) != want.to(torch.int64)).sum())
        return [f"{label}: {wrong} of {want.numel()} integers differ"] if wrong else []
    a, b = got.double(), want.double()
    finite = b.isfinite()
    if not torch.equal(a[~finite], b[~finite]):
        return [f"{label}: infinite entries differ"]
    error = (a[finite] - b[finite]).abs()
    bad = ~(error <= atol + rtol * b[finite].abs())
    return (
        [
            f"{label}: {int(bad.sum())} of {want.numel()} differ, at most {error.max():.3g} (atol {atol:.3g})"
        ]
        if bad.any()
        else []
    )


def find(folder: Path) -> Iterator[tuple[Path, str]]:
    """(json path, kind) of every case below a folder, sorted."""
    for path in sorted(folder.rglob("*.json")):
        text = json.loads(path.read_text())
        if isinstance(text, dict) and isinstance(text.get("kind"), str):
            yield path, text["kind"]
