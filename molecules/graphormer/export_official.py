"""The way back: our weights as official checkpoints, those of microsoft/Graphormer (fairseq) and of transformers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from isoform.core.config.schema import BackboneConfig
from isoform.core.errors import UserError
from isoform.core.pretrained.settings import differences, refuse_unsupported, widths_of
from isoform.molecules.config import MoleculesApp
from isoform.molecules.graphormer.collator_ids import to_collator
from isoform.molecules.graphormer.layout import LAYOUTS, layout_of
from isoform.molecules.graphormer.model import TRUNK
from isoform.molecules.graphormer.official import ACTIVATIONS, official_config
from isoform.molecules.state import MoleculesState

# What an official trunk may have otherwise than another.
FREE = ("dim", "depth", "heads", "mlp_dim", "qkv_bias")


def unsupported_by_official(config: MoleculesApp) -> list[str]:
    """What the official code has no place for in this app, one phrase each."""
    if config.model.family != "graphormer":
        return [f"model.family is {config.model.family!r}"]
    b, t, h = config.backbone, config.tokeniser, config.head
    like = {key: value for key, value in widths_of(b).items() if key in FREE}
    like["order"] = b.order if b.order in ("pre", "post") else "post"
    like["channel"] = b.channel if b.channel in ACTIVATIONS.values() else "gelu"
    like["proj_bias"] = b.qkv_bias
    found = differences(b, BackboneConfig.model_validate({**TRUNK, **like}))
    rest = {
        "tokeniser.graph_token": (t.graph_token, True),
        "tokeniser.degree_ids > 0": (t.degree_ids > 0, True),
        "tokeniser.laplacian": (t.laplacian, 0),
        "head.pool": (h.pool, "graph"),
        "head.hidden": (h.hidden, True),
        "head.descriptors": (h.descriptors, False),
    }
    for key, (ours, theirs) in rest.items():
        if ours != theirs:
            found.append(f"{key} is {ours!r} here and {theirs!r} there")
    return found


def export_official(
    config: MoleculesApp,
    weights: Mapping[str, Tensor],
    state: MoleculesState | None = None,
    layout: str | None = None,
) -> dict[str, Tensor]:
    """The weights under official names: those of `layout`, else of the code base that they came from, else fairseq's.

    Importing gives the weights back bit for bit. What an official file holds and nothing reads is as it was imported;
    of another origin, a norm that does nothing and a pooler of zeros. Raises UserError, naming what differs, for a
    model that the official code can't build.
    """
    refuse_unsupported(unsupported_by_official(config))
    source = state.source if state is not None else None
    kind = layout or (source.layout if source else "fairseq")
    if kind not in LAYOUTS:
        raise UserError(
            f"there is no layout {kind!r} of Graphormer; there are {', '.join(LAYOUTS)}"
        )
    own, dim = dict(weights), config.backbone.dim
    like = own["head.bias"]
    spare = {
        "spare.final_norm.weight": like.new_ones(dim),
        "spare.final_norm.bias": like.new_zeros(dim),
    }
    if config.backbone.order == "pre":
        own = {**spare, **own}
    if kind == "transformers":
        own = {name: tensor for name, tensor in own.items() if not name.startswith("spare.pooler.")}
    elif source is None or source.layout == "transformers":  # a fairseq file has always had one
        own = {
            "spare.pooler.weight": like.new_zeros(dim, dim),
            "spare.pooler.bias": like.new_zeros(dim),
            **own,
        }
    return layout_of(config, kind).write(own)


def write_transformers(
    folder: str | Path,
    config: MoleculesApp,
    weights: Mapping[str, Tensor],
    state: MoleculesState | None = None,
) -> None:
    """config.json and model.safetensors, as GraphormerForGraphClassification.from_pretrained reads them.

    With the ids that transformers' own collator makes; see collator_ids.py. Raises UserError as `export_official`.
    """
    own = export_official(config, weights, state, "transformers")
    original = state.source.config if state is not None and state.source else None
    settings = official_config(config, original)
    official, settings = to_collator(own, settings, config.tokeniser.hf_compat)
    made = Path(folder)
    made.mkdir(parents=True, exist_ok=True)
    text = json.dumps(settings, indent=2, sort_keys=True) + "\n"
    (made / "config.json").write_text(text, encoding="utf-8")
    save_file(
        {n: t.contiguous() for n, t in official.items()},
        made / "model.safetensors",
        metadata={"format": "pt"},
    )


def write_fairseq(
    path: str | Path,
    config: MoleculesApp,
    weights: Mapping[str, Tensor],
    state: MoleculesState | None = None,
) -> None:
    """{"model": state dict}, as microsoft/Graphormer loads its pretrained models; raises as `export_official`."""
    kind = state.source.layout if state is not None and state.source else ""
    layout = kind if kind in ("fairseq", "fairseq-old") else "fairseq"
    torch.save({"model": export_official(config, weights, state, layout)}, path)
