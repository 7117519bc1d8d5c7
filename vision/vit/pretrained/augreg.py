"""Google's .npz files ("How to train your ViT?" and the first ViT): Flax names, kernels as [in, out], heads apart."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from isoform.core.config.schema import BackboneConfig
from isoform.core.errors import UserError
from isoform.core.pretrained import Layout, Op, Rule, join, permute, rename, reshape, transpose
from isoform.vision.vit.pretrained.files import grid_of
from isoform.vision.vit.pretrained.foreign_model import INCEPTION, Fields, ForeignModel

ENCODER = "Transformer/encoderblock_{i}"
ATTENTION = f"{ENCODER}/MultiHeadDotProductAttention_1"
OURS = "backbone.blocks.{i}"
LAYER_NORM = (("scale", "weight"), ("bias", "bias"))


def layout(backbone: BackboneConfig) -> Layout:
    """The rules of a trunk of that size."""
    dim, heads = backbone.dim, backbone.heads
    size = dim // heads
    kernel = (reshape((dim, heads, size), (dim, dim)), transpose)
    out_kernel = (reshape((heads, size, dim), (dim, dim)), transpose)
    bias = (reshape((heads, size), (dim,)),)

    def norm(theirs: str, ours: str) -> list[Rule]:
        return [rename(f"{theirs}/{a}", f"{ours}.{b}") for a, b in LAYER_NORM]

    def linear(theirs: str, ours: str) -> list[Rule]:
        return [
            rename(f"{theirs}/kernel", f"{ours}.weight", transpose),
            rename(f"{theirs}/bias", f"{ours}.bias"),
        ]

    def heads_joined(leaf: str, ours: str, ops: tuple[Op, ...]) -> Rule:
        parts = [f"{ATTENTION}/{n}/{leaf}" for n in ("query", "key", "value")]
        return join(parts, f"{OURS}.mixer.inner.qkv.{ours}", *ops)

    rules = (
        rename("embedding/kernel", "tokeniser.patch.weight", permute(3, 2, 0, 1)),
        rename("embedding/bias", "tokeniser.patch.bias"),
        rename("cls", "tokeniser.class_token"),
        rename("Transformer/posembed_input/pos_embedding", "tokeniser.position"),
        heads_joined("kernel", "weight", kernel),
        heads_joined("bias", "bias", bias),
        rename(f"{ATTENTION}/out/kernel", f"{OURS}.mixer.inner.proj.weight", *out_kernel),
        rename(f"{ATTENTION}/out/bias", f"{OURS}.mixer.inner.proj.bias"),
        *norm(f"{ENCODER}/LayerNorm_0", f"{OURS}.mixer.norm"),
        *norm(f"{ENCODER}/LayerNorm_2", f"{OURS}.channel.norm"),
        *linear(f"{ENCODER}/MlpBlock_3/Dense_0", f"{OURS}.channel.inner.fc1"),
        *linear(f"{ENCODER}/MlpBlock_3/Dense_1", f"{OURS}.channel.inner.fc2"),
        *norm("Transformer/encoder_norm", "backbone.norm"),
        *linear("head", "head.linear"),
    )
    return Layout("augreg", rules)


def from_npz(state: Mapping[str, Tensor], grid: tuple[int, int] | None) -> ForeignModel:
    """A ViT from the arrays of an .npz file. Raises UserError for a file of another kind of model."""
    query = "Transformer/encoderblock_0/MultiHeadDotProductAttention_1/query/kernel"
    if query not in state:
        raise UserError(
            "this .npz file is not a ViT in Google's names: it may be a hybrid or of big_vision"
        )
    state, notes = (
        dict(state),
        ["GELU is exact, as timm runs these weights; they were trained with the tanh form"],
    )
    if "pre_logits/kernel" in state:
        gone = [name for name in state if name.startswith(("pre_logits/", "head/"))]
        state = {name: tensor for name, tensor in state.items() if name not in gone}
        notes.append(
            "left out: the representation layer of pretraining, and the head that reads from it"
        )
    height, width, channels, dim = state["embedding/kernel"].shape
    has_class = "cls" in state
    depth = 1 + max(
        int(n.split("/")[1].split("_")[1])
        for n in state
        if n.startswith("Transformer/encoderblock_")
    )
    rows = state["Transformer/posembed_input/pos_embedding"].shape[1]
    patches, with_prefix = grid_of(rows, int(has_class), grid)
    size = (patches[0] * height, patches[1] * width)
    tokeniser: Fields = {
        "patch": height if height == width else (height, width),
        "channels": channels,
        "class_token": has_class,
        "image": size[0] if size[0] == size[1] else size,
        "position_prefix": with_prefix,
        "position_resize": "augreg",
    }
    backbone: Fields = {
        "dim": dim,
        "depth": depth,
        "heads": state[query].shape[1],
        "mlp_dim": state["Transformer/encoderblock_0/MlpBlock_3/Dense_0/kernel"].shape[1],
    }
    head: Fields = {
        "outputs": state["head/bias"].shape[0] if "head/bias" in state else 0,
        "pool": "class" if has_class else "mean",
    }
    return ForeignModel(
        layout="augreg",
        rules=layout,
        state=state,
        known={"tokeniser": tokeniser, "backbone": backbone, "head": head},
        assumed={"backbone": {"eps": 1e-6, "channel": "gelu"}},
        preprocessing=dict(INCEPTION),
        licence="Apache-2.0",
        notes=tuple(notes),
    )
