"""The optimiser: which parameters decay, how the learning rate moves, and the average of the weights."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from isoform.core.config.schema import TrainConfig

_POSITION_OR_TOKEN = {"token", "tokens", "pos", "position", "positions"}


def decays(name: str, parameter: Tensor) -> bool:
    """False for vectors (biases, norms, scales), learned tokens and positions."""
    return parameter.ndim > 1 and not _POSITION_OR_TOKEN & set(re.split(r"[._]", name))


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


def build_optimizer(
    model: nn.Module, config: TrainConfig, depths: Mapping[str, int] | None = None
) -> torch.optim.Optimizer:
    """AdamW, Adam or SGD over the parameters that want gradients.

    AdamW shrinks weights apart from the gradient's step (Loshchilov & Hutter 2019); Adam and SGD add the decay to the
    gradient. One group for each depth and kind (decaying or not); `group["scale"]` is its factor on the learning rate,
    layer_decay ** (deepest - depth) (Clark et al. 2020; Bao et al. 2022); depths by the parameters' names if None.
    """
    depths = depth_from_names(model) if depths is None else depths
    top = max(depths.values(), default=0)
    groups: dict[tuple[int, bool], list[Tensor]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            depth = depths[name] if config.layer_decay < 1 else top
            decaying = config.decay_all or decays(name, parameter)
            groups.setdefault((depth, decaying), []).append(parameter)
    described = []
    for depth, decaying in sorted(groups):
        described.append(
            {
                "params": groups[depth, decaying],
                "weight_decay": config.weight_decay if decaying else 0.0,
                "scale": config.layer_decay ** (top - depth),
            }
        )
    if not described:
        raise ValueError("there is no parameter to train")
    if config.optimizer == "sgd":
        return torch.optim.SGD(described, lr=config.lr, momentum=config.beta1, fused=True)
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return kind(described, lr=config.lr, betas=(config.beta1, config.beta2), fused=True)


def learning_rate(config: TrainConfig, epochs: int, time: float) -> float:
    """The learning rate `time` epochs into a run of `epochs` (a fraction: it moves at every optimiser step).

    Linear from warmup_lr to lr over the warm-up, then constant, or linear or half a cosine (Loshchilov & Hutter 2017)
    down to min_lr, or halved after every whole epoch but the first, without regard to min_lr (the "type1" of Zhou et
    al. 2021, Informer's code and its descendants').
    """
    if time < config.warmup:
        rise = config.lr - config.warmup_lr
        return config.warmup_lr + rise * time / config.warmup
    if config.schedule == "constant" or epochs <= config.warmup:
        return config.lr
    if config.schedule == "halving":
        whole_epochs = math.floor(time - config.warmup)
        return config.lr * 0.5 ** max(whole_epochs - 1, 0)
    done = min((time - config.warmup) / (epochs - config.warmup), 1.0)
    left = 1 - done
    if config.schedule == "cosine":
        left = 0.5 * (1 + math.cos(math.pi * done))
    return config.min_lr + (config.lr - config.min_lr) * left


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Gives every group its share of `lr`."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["scale"]


class Ema:
    """The exponential moving average of a model's weights and floating-point buffers, float32, as a model of its own.

    The decay after t updates is min(decay, (1 + t) / (10 + t)), so that a short run forgets its random start.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.model = copy.deepcopy(model).requires_grad_(False).eval()
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
    def update(self, updates: int) -> None:
        """Moves towards the live weights; `updates` counts the calls before this one."""
        decay = min(self.decay, (1 + updates) / (10 + updates))
        torch._foreach_lerp_(self._averaged, self._live, 1 - decay)
        for mine, theirs in self._copied:
            mine.copy_(theirs)


def _tensors(model: nn.Module) -> list[Tensor]:
    return [*(p.data for p in model.parameters()), *model.buffers()]


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
        optimizer.state[parameter][kind] = value.to(on)
