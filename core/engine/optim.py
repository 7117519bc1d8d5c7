"""The optimiser: which parameters decay, how the learning rate moves, and the average of the weights."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from isoform.core.config.schema import TrainConfig
from isoform.core.engine.muon import Muon
from isoform.core.engine.sharded import is_divided, like, part_of
from isoform.core.ops.decay import decays

_BLOCK = re.compile(r"(?:^|\.)blocks\.(\d+)\.")
_INPUT = re.compile(
    r"(?:^|\.)tokeniser\.|(?:^|[._])(?:token|tokens|pos|position|positions|embed)(?:[._]|$)"
)


def depth_from_names(model: nn.Module) -> dict[str, int]:
    """Depth of every parameter: 0 the tokeniser, tokens and positions, N + 1 `blocks.N`, one more for what follows."""
    names = [name for name, _ in model.named_parameters()]
    blocks = {name: int(match[1]) + 1 for name in names if (match := _BLOCK.search(name))}
    last = max(blocks.values(), default=0) + 1
    return {name: blocks.get(name, 0 if _INPUT.search(name) else last) for name in names}


@dataclass
class Group:
    """The parameters of one depth that decay, or don't; `scale` is their factor on the learning rate.

    orthogonal   the matrices that Muon moves, where it is the optimiser
    """

    weight_decay: float
    scale: float
    orthogonal: bool = False
    names: list[str] = field(default_factory=list)
    parameters: list[Tensor] = field(default_factory=list)


def parameter_groups(
    model: nn.Module, config: TrainConfig, depths: Mapping[str, int] | None = None
) -> list[Group]:
    """The parameters that want gradients, one group for each depth and kind, input first.

    A kind decays or doesn't, is Muon's or isn't, and is divided among processes or isn't (sharded.py). A factor is
    layer_decay ** (deepest - depth) (Clark et al. 2020; Bao et al. 2022); depths by the parameters' names if None.
    """
    depths = depth_from_names(model) if depths is None else depths
    top = max(depths.values(), default=0)
    groups: dict[tuple[int, bool, bool, bool], Group] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            depth = depths[name] if config.layer_decay < 1 else top
            decaying = config.decay_all or decays(name, parameter)
            decay = config.weight_decay if decaying else 0.0
            orthogonal = config.optimizer == "muon" and _is_mixing(name, parameter)
            kind = (depth, decaying, orthogonal, is_divided(parameter))
            scale = config.layer_decay ** (top - depth)
            group = groups.setdefault(kind, Group(decay, scale, orthogonal))
            group.names.append(name)
            group.parameters.append(parameter)
    return [groups[key] for key in sorted(groups)]


def _is_mixing(name: str, parameter: Tensor) -> bool:
    """Whether it is a matrix between the features of a block, not one that reads a condition."""
    return parameter.ndim == 2 and bool(_BLOCK.search(name)) and ".modulation." not in name


def describe_groups(model: nn.Module, config: TrainConfig, frozen: Sequence[str] = ()) -> str:
    """A line on what the optimiser does with which parameters; those whose names begin with `frozen` are held."""
    named = dict(model.named_parameters())
    held = [p for name, p in named.items() if frozen and name.startswith(tuple(frozen))]
    for parameter in held:
        parameter.requires_grad_(False)
    groups = parameter_groups(model, config)
    parts = [_describe_optimizer(groups, config), *_describe_decay(groups, config.weight_decay)]
    if held:
        parts.append(f"held: {_count(held)}")
    if config.layer_decay < 1:
        factors = dict.fromkeys(f"{group.scale:.3g}" for group in groups)
        parts.append(f"learning rate from input to head times {', '.join(factors)}")
    return "; ".join(parts)


def _describe_optimizer(groups: Sequence[Group], config: TrainConfig) -> str:
    if config.optimizer != "muon":
        return config.optimizer
    matrices = [p for group in groups if group.orthogonal for p in group.parameters]
    return f"muon on {_count(matrices)} in blocks, adamw on the others"


def _describe_decay(groups: Sequence[Group], decay: float) -> list[str]:
    decaying = [p for group in groups if group.weight_decay for p in group.parameters]
    if not decaying:
        return ["no weight decay"]
    lines = [f"weight decay {decay:g} on {_count(decaying)}"]
    still = [
        (name, p)
        for group in groups
        if not group.weight_decay
        for name, p in zip(group.names, group.parameters, strict=True)
    ]
    if still:
        vectors = sum(p.ndim < 2 for _, p in still)
        which = [f"{vectors} vectors", *(name for name, p in still if p.ndim > 1)]
        lines.append(f"none on {_count([p for _, p in still])} ({', '.join(which)})")
    return lines


def _count(parameters: Sequence[Tensor]) -> str:
    return f"{len(parameters)} tensors of {sum(p.numel() for p in parameters):,} parameters"


def build_optimizer(
    model: nn.Module, config: TrainConfig, depths: Mapping[str, int] | None = None
) -> torch.optim.Optimizer:
    """AdamW, Adam, SGD or Muon over the parameters that want gradients.

    AdamW shrinks weights apart from the gradient's step (Loshchilov & Hutter 2019); Adam and SGD add the decay to the
    gradient. Groups as `parameter_groups` makes them; `group["scale"]` is its factor on the learning rate.
    """
    described = [
        {
            "params": group.parameters,
            "weight_decay": group.weight_decay,
            "scale": group.scale,
            "orthogonal": group.orthogonal,
        }
        for group in parameter_groups(model, config, depths)
    ]
    if not described:
        raise ValueError("there is no parameter to train")
    if config.optimizer == "muon":
        return Muon(described, lr=config.lr, betas=(config.beta1, config.beta2))
    if config.optimizer == "sgd":
        return torch.optim.SGD(described, lr=config.lr, momentum=config.beta1, fused=True)
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return kind(described, lr=config.lr, betas=(config.beta1, config.beta2), fused=True)


def learning_rate(config: TrainConfig, epochs: int, time: float) -> float:
    """The learning rate `time` epochs into a run of `epochs` (a fraction: it moves at every optimiser step).

    Linear from warmup_lr to lr over the warm-up, then constant, or linear or half a cosine (Loshchilov & Hutter 2017)
    down to min_lr, or halved after every whole epoch but the first, without regard to min_lr (the "type1" of Zhou et
    al. 2021, Informer's code and its descendants').

    "cosine_late" is timm's cosine as loops have it that call `step(epoch)` behind an epoch: the first two epochs have
    the rate of the start, each later one that of its predecessor's number, and the cosine begins where the run does.
    """
    late = config.schedule == "cosine_late"
    if late:
        time = max(math.floor(time) - 1, 0)
    if time < config.warmup:
        rise = config.lr - config.warmup_lr
        return config.warmup_lr + rise * time / config.warmup
    begin = 0.0 if late else config.warmup
    end = epochs if config.schedule_epochs is None else config.schedule_epochs
    if config.schedule == "constant" or end <= begin:
        return config.lr
    if config.schedule == "halving":
        whole_epochs = math.floor(time - config.warmup)
        return config.lr * 0.5 ** max(whole_epochs - 1, 0)
    done = min((time - begin) / (end - begin), 1.0)
    left = 1 - done
    if config.schedule.startswith("cosine"):
        left = 0.5 * (1 + math.cos(math.pi * done))
    return config.min_lr + (config.lr - config.min_lr) * left


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Gives every group its share of `lr`."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["scale"]


def move(
    optimizer: torch.optim.Optimizer,
    parameters: Sequence[Tensor],
    norm: Tensor,
    config: TrainConfig,
) -> None:
    """One step along the gradients, whose norm is `norm`, clipped to train.clip; and clears them.

    Of train.updates steps all but the last follow the gradients as they are.
    """
    for _ in range(config.updates - 1):
        optimizer.step()
    if config.clip is not None:
        parts = [part_of(parameter) for parameter in parameters]
        torch.nn.utils.clip_grads_with_norm_(parts, config.clip, norm)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


class Ema:
    """The exponential moving average of a model's weights and floating-point buffers, float32, as a model of its own.

    The decay after t updates is min(decay, (1 + t) / (10 + t)), so that a short run forgets its random start.
    """

    def __init__(self, model: nn.Module, decay: float, averaged: nn.Module | None = None) -> None:
        """`averaged`: a copy of the model to use, where it can't be copied because it is divided among processes."""
        self.decay = decay
        copied = copy.deepcopy(model) if averaged is None else averaged
        self.model = copied.requires_grad_(False).eval()
        self._averaged: list[Tensor] = []
        self._live: list[Tensor] = []
        self._copied: list[tuple[Tensor, Tensor]] = []
        for mine, theirs in zip(_tensors(self.model), _tensors(model), strict=True):
            if mine.is_floating_point():
                self._averaged.append(mine)
                self._live.append(theirs)
            else:
                self._copied.append((mine, theirs))

    @torch.no_grad()
    def restart(self) -> None:
        """Takes the live weights as they are."""
        torch._foreach_copy_(self._averaged, self._live)
        for mine, theirs in self._copied:
            mine.copy_(theirs)

    @torch.no_grad()
    def update(self, updates: int) -> None:
        """Moves towards the live weights; `updates` counts the calls before this one."""
        decay = min(self.decay, (1 + updates) / (10 + updates))
        torch._foreach_lerp_(self._averaged, self._live, 1 - decay)
        for mine, theirs in self._copied:
            mine.copy_(theirs)


def _tensors(model: nn.Module) -> list[Tensor]:
    return [*(part_of(p.data) for p in model.parameters()), *model.buffers()]


def optimizer_tensors(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """The optimiser's state as {"exp_avg/NAME": tensor}, named after the parameters."""
    names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    tensors: dict[str, Tensor] = {}
    for parameter, state in optimizer.state.items():
        for kind, value in state.items():
            if isinstance(value, Tensor):
                tensors[f"{kind}/{names[parameter]}"] = value
    return tensors


def load_optimizer_tensors(
    optimizer: torch.optim.Optimizer, model: nn.Module, tensors: Mapping[str, Tensor]
) -> None:
    """The inverse of `optimizer_tensors`. Raises ValueError for a name or a shape that isn't the model's."""
    parameters = dict(model.named_parameters())
    for key, value in tensors.items():
        kind, _, name = key.partition("/")
        parameter = parameters.get(name)
        if parameter is None or (value.ndim and value.shape != parameter.shape):
            raise ValueError(f"the optimiser state {key} doesn't belong to this model")
        on = parameter.device if value.ndim or parameter.device.type == "cuda" else value.device
        optimizer.state[parameter][kind] = like(value, parameter).to(on)
