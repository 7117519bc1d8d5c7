"""Graphormer's official hyper-parameters, by their names in transformers' config.json and in microsoft/Graphormer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from isoform.core.config.schema import BackboneConfig
from isoform.core.errors import UserError
from isoform.core.pretrained.settings import switch, table
from isoform.molecules.config import HeadConfig, MoleculesApp, ScoreConfig, TokeniserConfig
from isoform.molecules.graphormer.collator_ids import KEY as HF_COMPAT
from isoform.molecules.graphormer.model import SCORE, TRUNK

# What fairseq's command line and the first versions of the transformers class call the same.
ALIASES = {
    "encoder_layers": "num_hidden_layers", "encoder_embed_dim": "embedding_dim",
    "encoder_ffn_embed_dim": "ffn_embedding_dim", "encoder_attention_heads": "num_attention_heads",
    "act_dropout": "activation_dropout", "share_encoder_input_output_embed": "share_input_output_embed",
    "hidden_size": "embedding_dim", "num_layers": "num_hidden_layers",
    "n_trans_layers_to_freeze": "num_trans_layers_to_freeze",
}  # fmt: skip
# name -> table and key of ours
SAME = {
    "num_hidden_layers": ("backbone", "depth"), "embedding_dim": ("backbone", "dim"),
    "ffn_embedding_dim": ("backbone", "mlp_dim"), "num_attention_heads": ("backbone", "heads"),
    "num_spatial": ("score", "distance_ids"), "num_edge_dis": ("score", "hop_matrices"),
    "multi_hop_max_dist": ("score", "hops"), "attention_dropout": ("backbone", "attention_dropout"),
    "activation_dropout": ("backbone", "mlp_dropout"), "dropout": ("backbone", "dropout"),
    "num_in_degree": ("tokeniser", "degree_ids"), "num_out_degree": ("tokeniser", "out_degree_ids"),
    "num_classes": ("head", "outputs"),
}  # fmt: skip
# One more row than the number says: padding's.
PADDED = {"num_atoms": ("tokeniser", "atom_ids"), "num_edges": ("score", "bond_ids")}
ACTIVATIONS = {
    "gelu": "gelu",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_accurate": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
}
# What isoform's model does not do, and the values that ask for nothing of it.
ONLY: dict[str, tuple[Any, ...]] = {
    "edge_type": ("multi_hop",), "layerdrop": (0,), "embed_scale": (None, 1), "freeze_embeddings": (False,),
    "num_trans_layers_to_freeze": (0,), "q_noise": (0,), "self_attention": (True,), "pad_token_id": (0,),
    "share_input_output_embed": (False,), "no_token_positional_embeddings": (True, False),
}  # fmt: skip
# How a fresh model starts, how data are prepared, how results are handed out: no matter of the function.
SILENT = {"apply_graphormer_init", "init_fn", "max_nodes", "traceable", "export", "remove_head", "qn_block_size",
          "bos_token_id", "eos_token_id"}  # fmt: skip
# What transformers writes into every model's config.json.
BOOKKEEPING = {
    "_name_or_path", "add_cross_attention", "architectures", "bad_words_ids", "begin_suppress_tokens",
    "chunk_size_feed_forward", "cross_attention_hidden_size", "decoder_start_token_id", "diversity_penalty",
    "do_sample", "dtype", "early_stopping", "encoder_no_repeat_ngram_size", "exponential_decay_length_penalty",
    "finetuning_task", "forced_bos_token_id", "forced_eos_token_id", "id2label", "is_decoder", "is_encoder_decoder",
    "label2id", "length_penalty", "max_length", "min_length", "model_type", "no_repeat_ngram_size", "num_beam_groups",
    "num_beams", "num_return_sequences", "output_attentions", "output_hidden_states", "output_scores", "prefix",
    "problem_type", "pruned_heads", "remove_invalid_values", "repetition_penalty", "return_dict",
    "return_dict_in_generate", "sep_token_id", "suppress_tokens", "task_specific_params", "temperature",
    "tf_legacy_loss", "tie_encoder_decoder", "tie_word_embeddings", "tokenizer_class", "top_k", "top_p", "torch_dtype",
    "torchscript", "transformers_version", "typical_p", "use_bfloat16",
}  # fmt: skip
NEVER = 510  # bonds that the official code says of unreachable atoms: no pair is farther apart


def graphormer_settings(official: Mapping[str, Any]) -> MoleculesApp:
    """The hyper-parameters of Graphormer, under their own names, as an app to import with or to train.

    Raises UserError for a name or a value that can't be honoured.
    """
    where = "Graphormer's hyper-parameters"
    rest: dict[str, Any] = {}
    said: dict[str, str] = {}
    for name, value in official.items():
        known = ALIASES.get(name, name)
        if rest.get(known, value) != value:
            raise UserError(
                f"{where}: {name} = {value!r} contradicts {said[known]} = {rest[known]!r}"
            )
        rest[known], said[known] = value, name
    tables: dict[str, dict[str, Any]] = {
        "backbone": dict(TRUNK),
        "tokeniser": {},
        "head": {},
        "score": dict(SCORE),
    }
    for name in [n for n in rest if n in SAME]:
        place, key = SAME[name]
        tables[place][key] = rest.pop(name)
    for name in [n for n in rest if n in PADDED]:
        place, key = PADDED[name]
        value = rest.pop(name)
        tables[place][key] = value + 1 if isinstance(value, int) else value
    b, t = tables["backbone"], tables["tokeniser"]
    for name, allowed in ONLY.items():
        if (value := rest.pop(name, allowed[0])) not in allowed:
            raise UserError(
                f"{name} = {value!r} can't be honoured: isoform's Graphormer knows {_either(allowed)}"
            )
    for name in ("kdim", "vdim"):
        if (value := rest.pop(name, None)) not in (None, b.get("dim")):
            raise UserError(
                f"{name} = {value!r} can't be honoured: keys and values are as wide as the stream"
            )
    if "dropout" in b:
        t["dropout"] = b["dropout"]
    if "pre_layernorm" in rest:
        b["order"] = "pre" if switch(rest.pop("pre_layernorm"), "pre_layernorm") else "post"
    if "encoder_normalize_before" in rest:
        t["norm"] = switch(rest.pop("encoder_normalize_before"), "encoder_normalize_before")
    if HF_COMPAT in rest:
        t["hf_compat"] = switch(rest.pop(HF_COMPAT), HF_COMPAT)
    if "bias" in rest:
        b["qkv_bias"] = b["proj_bias"] = switch(rest.pop("bias"), "bias")
    if "activation_fn" in rest:
        name = rest.pop("activation_fn")
        if name not in ACTIVATIONS:
            raise UserError(
                f"activation_fn = {name!r} can't be honoured; there are {', '.join(ACTIVATIONS)}"
            )
        b["channel"] = ACTIVATIONS[name]
    if "spatial_pos_max" in rest:
        reach = rest.pop("spatial_pos_max")
        tables["score"]["reach"] = None if isinstance(reach, int) and reach > NEVER else reach
    unknown = [name for name in rest if name not in SILENT | BOOKKEEPING]
    if unknown:
        raise UserError(f"Graphormer's {', '.join(unknown)}: not known to this import")
    return MoleculesApp(
        domain="molecules",
        app="imported",
        backbone=table(BackboneConfig, b, where),
        tokeniser=table(TokeniserConfig, t, where),
        head=table(HeadConfig, tables["head"], where),
        score=table(ScoreConfig, tables["score"], where),
    )


def _either(values: tuple[Any, ...]) -> str:
    return " or ".join(map(repr, values))


def official_config(
    config: MoleculesApp, original: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """config.json of the model for transformers: the `original` one where it says the same, corrected where it doesn't.

    Only for models whose trunk is an official one.
    """
    b, t, score = config.backbone, config.tokeniser, config.score
    activation = next(name for name, own in ACTIVATIONS.items() if own == b.channel)
    found: dict[str, Any] = {
        "num_hidden_layers": b.depth,
        "embedding_dim": b.dim,
        "hidden_size": b.dim,
        "ffn_embedding_dim": b.mlp_dim or 4 * b.dim,
        "num_attention_heads": b.heads,
        "num_spatial": score.distance_ids,
        "num_edge_dis": score.hop_matrices or score.hops,
        "multi_hop_max_dist": score.hops,
        "attention_dropout": b.attention_dropout,
        "dropout": b.dropout,
        "activation_dropout": b.dropout if b.mlp_dropout is None else b.mlp_dropout,
        "num_in_degree": t.degree_ids,
        "num_out_degree": t.out_degree_ids or t.degree_ids,
        "num_classes": config.head.outputs,
        "num_atoms": t.atom_ids - 1,
        "num_edges": score.bond_ids - 1,
        "pre_layernorm": b.order == "pre",
        "encoder_normalize_before": t.norm,
        "bias": b.qkv_bias,
        "activation_fn": activation,
        "spatial_pos_max": score.reach or 1024,
        "edge_type": "multi_hop",
        "model_type": "graphormer",
        "architectures": ["GraphormerForGraphClassification"],
    }
    given = dict(original or {})
    if (
        given.get("activation_fn") in ACTIVATIONS
        and ACTIVATIONS[given["activation_fn"]] == b.channel
    ):
        found["activation_fn"] = given["activation_fn"]
    if score.reach is None and given.get("spatial_pos_max", 0) > NEVER:
        found["spatial_pos_max"] = given["spatial_pos_max"]
    return {**given, **{key: value for key, value in found.items() if given.get(key) != value}}
