"""Every source of a ViT, against timm where timm reads the same file, and the way back to each of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

pytest.importorskip("timm")
import timm
from timm.models.vision_transformer import checkpoint_filter_fn

from isoform.core.config import bare
from isoform.core.domain import ImportedModel
from isoform.core.errors import UserError
from isoform.vision import DOMAIN
from isoform.vision.models import build_model
from isoform.vision.vit.pretrained import export_official, hub, import_checkpoint
from isoform.vision.vit.pretrained.export_official import timm_model
from isoform.vision.vit.pretrained.timm_source import from_timm
from isoform.vision.vit.resize import resize_patch_kernel, resize_position_table

SMALL = {"depth": 2, "img_size": 48, "num_classes": 7}


def theirs(name: str = "vit_tiny_patch16_224", **kwargs: Any) -> Any:
    """A timm model with random norms, biases and tokens."""
    model = timm.create_model(name, **{**SMALL, **kwargs}).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def settings(*sets: str) -> Any:
    return bare(domain=DOMAIN, sets=list(sets))


def ours(imported: ImportedModel) -> nn.Module:
    model = DOMAIN.build_from_run(imported.config, imported.state)
    model.load_state_dict(dict(imported.weights))
    return model.eval()


def images(side: int = 48, channels: int = 3) -> Tensor:
    return torch.randn(2, channels, side, side, generator=torch.Generator().manual_seed(5))


def assert_same(a: Any, b: Any, x: Tensor) -> None:
    with torch.no_grad():
        want, got = a(x), b(x)
    assert want.std() > 0.05
    torch.testing.assert_close(got, want, atol=2e-5, rtol=1e-5)


def saved(path: Path, value: Any) -> Path:
    torch.save(value, path)
    return path


def back(imported: ImportedModel) -> dict[str, Tensor]:
    return export_official(imported.config, imported.weights, imported.state)


def assert_equal(got: dict[str, Tensor], want: dict[str, Tensor]) -> None:
    assert got.keys() == want.keys()
    assert all(torch.equal(got[name], want[name]) for name in want)


def test_deit_distilled(tmp_path: Path) -> None:
    model = theirs("deit_tiny_distilled_patch16_224")
    imported = import_checkpoint(
        saved(tmp_path / "a.pth", {"model": model.state_dict(), "epoch": 3})
    )
    assert imported.layout == "deit" and imported.licence == "Apache-2.0"
    assert (
        imported.config.tokeniser.position_resize == "mae" and imported.config.backbone.heads == 3
    )
    assert_same(model, ours(imported), images())
    assert_equal(back(imported), model.state_dict())


def test_deit3(tmp_path: Path) -> None:
    model = theirs("deit3_small_patch16_224")
    state = {
        n.replace("ls1.gamma", "gamma_1").replace("ls2.gamma", "gamma_2"): t
        for n, t in model.state_dict().items()
    }
    imported = import_checkpoint(saved(tmp_path / "a.pth", {"model": state}))
    assert imported.layout == "deit3" and not imported.config.tokeniser.position_prefix
    assert_same(model, ours(imported), images())
    assert_equal(back(imported), state)


def test_mae_encoder_and_decoder(golden_dir: Path) -> None:
    heads = settings("backbone.heads=3", "head.outputs=5")
    encoder = import_checkpoint(golden_dir / "mae" / "pretrain_encoder_official.pth", None, heads)
    full = import_checkpoint(golden_dir / "mae" / "pretrain_full_official.pth", None, heads)
    assert encoder.layout == full.layout == "mae" and "NonCommercial" in full.licence
    assert any("MAE's decoder" in note for note in full.notes)
    assert any("fresh" in note and "head.linear.weight" in note for note in full.notes)
    assert full.weights["backbone.norm.weight"].shape == (full.config.backbone.dim,)


def test_mae_finetuned(golden_dir: Path, tmp_path: Path) -> None:
    stored = load_file(golden_dir / "mae" / "finetune_globalpool.safetensors")
    weights = {n.removeprefix("weights/"): t for n, t in stored.items() if n.startswith("weights/")}
    imported = import_checkpoint(
        saved(tmp_path / "a.pth", {"model": weights}), None, settings("backbone.heads=3")
    )
    assert imported.layout == "mae" and imported.config.head.pool == "mean"
    model: Any = ours(imported)
    with torch.no_grad():
        torch.testing.assert_close(
            model(stored["input/image"]), stored["output/logits"], atol=1.7e-5, rtol=1e-5
        )
        torch.testing.assert_close(
            model.features(stored["input/image"]), stored["output/feature"], atol=1.5e-5, rtol=1e-5
        )
    assert_equal(back(imported), weights)


@pytest.mark.parametrize("name", ["vit_small_patch14_dinov2", "vit_small_patch14_reg4_dinov2"])
def test_dinov2(tmp_path: Path, name: str) -> None:
    """The official names, read by timm's own converter and by ours."""
    registers = "reg4" in name
    state = {
        n: t
        for n, t in theirs(name, img_size=70, num_classes=0).state_dict().items()
        if n != "reg_token"
    }
    state["mask_token"] = torch.randn(1, 384)
    if registers:
        state["register_tokens"] = torch.randn(1, 4, 384)
        state["pos_embed"] = torch.randn(1, 26, 384)
    model = timm.create_model(name, depth=2, img_size=70, num_classes=0).eval()
    model.load_state_dict(checkpoint_filter_fn(dict(state), model))
    imported = import_checkpoint(saved(tmp_path / "a.pth", state))
    assert imported.layout == "dinov2"
    assert imported.config.tokeniser.position_resize == (
        "dinov2_registers" if registers else "dinov2"
    )
    assert_same(model, ours(imported), images(70))
    again = import_checkpoint(saved(tmp_path / "b.pth", back(imported)))
    assert_equal(dict(again.weights), dict(imported.weights))


def test_dinov2_giant_names(tmp_path: Path) -> None:
    model = theirs(
        "vit_giant_patch14_dinov2", img_size=42, num_classes=0, embed_dim=48, num_heads=2
    )
    state = model.state_dict()
    for old, new in ((".mlp.fc1.", ".mlp.w12."), (".mlp.fc2.", ".mlp.w3.")):
        state = {n.replace(old, new): t for n, t in state.items()}
    state["mask_token"] = torch.zeros(1, 48)
    imported = import_checkpoint(
        saved(tmp_path / "a.pth", state), None, settings("backbone.heads=2")
    )
    assert imported.config.backbone.channel == "swiglu"
    assert_same(model, ours(imported), images(42))
    assert_equal(back(imported), {n: t for n, t in state.items() if n != "mask_token"})


def google(model: Any) -> dict[str, np.ndarray]:
    """timm's weights under Google's names."""
    state, heads = model.state_dict(), 3
    dim = state["cls_token"].shape[-1]
    out: dict[str, Tensor] = {
        "cls": state["cls_token"], "Transformer/posembed_input/pos_embedding": state["pos_embed"],
        "embedding/kernel": state["patch_embed.proj.weight"].permute(2, 3, 1, 0),
        "embedding/bias": state["patch_embed.proj.bias"],
        "Transformer/encoder_norm/scale": state["norm.weight"], "Transformer/encoder_norm/bias": state["norm.bias"],
        "head/kernel": state["head.weight"].T, "head/bias": state["head.bias"],
    }  # fmt: skip
    for i in range(2):
        a, b = f"Transformer/encoderblock_{i}", f"blocks.{i}"
        for j, norm in ((0, "norm1"), (2, "norm2")):
            out[f"{a}/LayerNorm_{j}/scale"] = state[f"{b}.{norm}.weight"]
            out[f"{a}/LayerNorm_{j}/bias"] = state[f"{b}.{norm}.bias"]
        weights, biases = (state[f"{b}.attn.qkv.{leaf}"].chunk(3) for leaf in ("weight", "bias"))
        attention = f"{a}/MultiHeadDotProductAttention_1"
        for part, weight, bias in zip(("query", "key", "value"), weights, biases, strict=True):
            out[f"{attention}/{part}/kernel"] = weight.T.reshape(dim, heads, -1)
            out[f"{attention}/{part}/bias"] = bias.reshape(heads, -1)
        out[f"{attention}/out/kernel"] = state[f"{b}.attn.proj.weight"].T.reshape(heads, -1, dim)
        out[f"{attention}/out/bias"] = state[f"{b}.attn.proj.bias"]
        for j in range(2):
            out[f"{a}/MlpBlock_3/Dense_{j}/kernel"] = state[f"{b}.mlp.fc{j + 1}.weight"].T
            out[f"{a}/MlpBlock_3/Dense_{j}/bias"] = state[f"{b}.mlp.fc{j + 1}.bias"]
    return {name: tensor.numpy() for name, tensor in out.items()}


def test_augreg(tmp_path: Path) -> None:
    """timm reads the same .npz file."""
    arrays = google(theirs())
    np.savez(tmp_path / "a.npz", **arrays)
    model = timm.create_model("vit_tiny_patch16_224", **SMALL).eval()
    model.load_pretrained(str(tmp_path / "a.npz"))
    imported = import_checkpoint(tmp_path / "a.npz")
    assert imported.layout == "augreg" and imported.config.tokeniser.position_resize == "augreg"
    assert_same(model, ours(imported), images())
    written = back(imported)
    assert written.keys() == arrays.keys()
    assert all(np.array_equal(written[name].numpy(), arrays[name]) for name in arrays)
    larger = timm.create_model("vit_tiny_patch16_224", **{**SMALL, "img_size": 80}).eval()
    larger.load_pretrained(str(tmp_path / "a.npz"))
    resized = import_checkpoint(tmp_path / "a.npz", None, settings("tokeniser.image=80"))
    assert_same(larger, ours(resized), images(80))


def test_augreg_with_a_representation_layer(tmp_path: Path) -> None:
    arrays = google(theirs())
    np.savez(
        tmp_path / "a.npz",
        **arrays,
        **{"pre_logits/kernel": np.eye(192), "pre_logits/bias": np.zeros(192)},
    )
    imported = import_checkpoint(tmp_path / "a.npz")
    assert imported.config.head.outputs == 0 and any(
        "representation layer" in note for note in imported.notes
    )


def hub_folder(folder: Path, model: Any, **config: Any) -> Path:
    folder.mkdir(parents=True)
    save_file(model.state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "README.md").write_text("---\ntags:\n- x\nlicense: apache-2.0\n---\n# A model\n")
    return folder


REVISION = "a1" * 20
CLASSES = {"num_classes": 7}
SIGLIP = {"depth": 2, "img_size": 64}


def test_hub_by_timm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that shapes can't tell: tanh GELU, attention pooling."""
    import huggingface_hub.constants

    model = theirs("vit_base_patch32_siglip_256", img_size=64)
    cache = tmp_path / "hub" / "models--someone--siglip"
    hub_folder(
        cache / "snapshots" / REVISION, model, architecture="vit_base_patch32_siglip_256", num_classes=7,
        model_args=SIGLIP, label_names=list("abcdefg"),
        pretrained_cfg={"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.5, 0.5]},
    )  # fmt: skip
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(REVISION)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    for source in ("hf:someone/siglip", f"hf:someone/siglip@{REVISION}"):
        imported = import_checkpoint(source)
        assert imported.licence == "apache-2.0" and imported.state.classes == tuple("abcdefg")
        assert imported.config.data.mean == (0.1, 0.2, 0.3)
        assert_same(model, ours(imported), images(64))
    with pytest.raises(UserError, match="hf:someone/other: can't be fetched"):
        import_checkpoint("hf:someone/other")
    for name in ("hf:../x", "hf:a/..", "hf:a/b/c", "hf:a/b@../c"):
        with pytest.raises(UserError, match="write hf:OWNER/NAME"):
            import_checkpoint(name)


def test_hub_by_transformers(tmp_path: Path) -> None:
    model = theirs()
    state: dict[str, Tensor] = {}
    names = {
        "cls_token": "vit.embeddings.cls_token", "pos_embed": "vit.embeddings.position_embeddings",
        "patch_embed.proj": "vit.embeddings.patch_embeddings.projection", "norm": "vit.layernorm", "head": "classifier",
    }  # fmt: skip
    inside = {
        "norm1": "layernorm_before", "norm2": "layernorm_after", "attn.proj": "attention.output.dense",
        "mlp.fc1": "intermediate.dense", "mlp.fc2": "output.dense",
    }  # fmt: skip
    for name, tensor in model.state_dict().items():
        stem, _, leaf = name.rpartition(".")
        if name in names:
            state[names[name]] = tensor
        elif stem in names:
            state[f"{names[stem]}.{leaf}"] = tensor
        else:
            _, i, rest = stem.split(".", 2)
            layer = f"vit.encoder.layer.{i}"
            if rest == "attn.qkv":
                for part, piece in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                    state[f"{layer}.attention.attention.{part}.{leaf}"] = piece.clone()
            else:
                state[f"{layer}.{inside[rest]}.{leaf}"] = tensor
    folder = tmp_path / "vit"
    folder.mkdir()
    save_file(state, folder / "model.safetensors")
    config = {
        "model_type": "vit", "hidden_size": 192, "num_hidden_layers": 2, "num_attention_heads": 3,
        "intermediate_size": 768, "hidden_act": "gelu", "layer_norm_eps": 1e-6, "image_size": 48,
        "patch_size": 16, "num_channels": 3, "qkv_bias": True, "id2label": {str(i): f"class {i}" for i in range(7)},
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    imported = import_checkpoint(folder)
    assert imported.layout == "transformers" and imported.state.classes[6] == "class 6"
    assert_same(model, ours(imported), images())
    assert_equal(back(imported), state)
    for key, value, why in (
        ("hidden_act", "mish", "activation 'mish'"),
        ("model_type", "swin", "'swin' is not 'vit'"),
    ):
        (folder / "config.json").write_text(json.dumps({**config, key: value}))
        with pytest.raises(UserError, match=why):
            import_checkpoint(folder)


def test_a_bare_state_dict_and_one_with_its_name(tmp_path: Path) -> None:
    model = theirs("vit_base_patch32_clip_224", img_size=64)
    save_file(model.state_dict(), tmp_path / "a.safetensors")
    kwargs = {"depth": 2, "img_size": 64}
    named = import_checkpoint(
        tmp_path / "a.safetensors", "timm:vit_base_patch32_clip_224", kwargs=kwargs | CLASSES
    )
    assert_same(model, ours(named), images(64))
    guessed = import_checkpoint(tmp_path / "a.safetensors", None, settings("backbone.eps=1e-5"))
    assert guessed.layout == "timm" and any("told from shapes" in note for note in guessed.notes)
    assert guessed.config.backbone == named.config.backbone.model_copy(update={"channel": "gelu"})
    assert_same(model, ours(guessed), images(64))


def test_image_patch_channels_and_outputs_can_change() -> None:
    sets = ["tokeniser.image=40", "tokeniser.patch=8", "tokeniser.channels=1", "head.outputs=3"]
    model = theirs()
    kwargs = {"depth": 2, "img_size": 48, "num_classes": 7}
    path_state = model.state_dict()
    imported = import_from_state(path_state, kwargs, sets)
    w = imported.weights
    kernel = path_state["patch_embed.proj.weight"].sum(1, keepdim=True)
    torch.testing.assert_close(w["tokeniser.patch.weight"], resize_patch_kernel(kernel, (8, 8)))
    table = resize_position_table(path_state["pos_embed"], (3, 3), (5, 5), prefix=1, mode="timm")
    assert torch.equal(w["tokeniser.position"], table)
    assert w["head.linear.weight"].shape == (3, 192)
    assert imported.state.preprocessing.mean == (0.5,) and imported.state.preprocessing.size == (
        40,
        40,
    )
    text = " ".join(imported.notes)
    for part in (
        "3 input channels summed to 1",
        "16 x 16 resized to 8 x 8",
        "3 x 3 resized to 5 x 5",
        "head.linear",
    ):
        assert part in text
    with torch.no_grad():
        assert ours(imported)(images(40, 1)).shape == (2, 3)


def import_from_state(
    state: dict[str, Tensor], kwargs: dict[str, Any], sets: list[str]
) -> ImportedModel:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = saved(Path(folder) / "a.pth", state)
        return import_checkpoint(path, "timm:vit_tiny_patch16_224", settings(*sets), kwargs=kwargs)


@pytest.mark.parametrize(
    ("sets", "why"),
    [
        (["backbone.depth=3"], r"backbone.depth = 3 is set, but the checkpoint has 2"),
        (
            ["backbone.channel=relu"],
            "backbone.channel = 'relu' is set, but the checkpoint has 'gelu'",
        ),
        (["backbone.eps=1e-5"], "backbone.eps"),
        (["tokeniser.registers=4"], "tokeniser.registers"),
        (["tokeniser.image=50"], "not tiled by patches"),
    ],
)
def test_settings_that_cannot_be_honoured(sets: list[str], why: str) -> None:
    with pytest.raises(UserError, match=why):
        import_from_state(theirs().state_dict(), dict(SMALL), sets)


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    state = theirs().state_dict()
    with pytest.raises(
        UserError, match=r"blocks\.2\.norm1\.weight .* which this model doesn't have"
    ):
        import_from_state(state | {"blocks.2.norm1.weight": torch.ones(192)}, dict(SMALL), [])
    with pytest.raises(UserError, match=r"nothing sets our backbone\.norm\.weight \[192\]"):
        import_from_state({n: t for n, t in state.items() if n != "norm.weight"}, dict(SMALL), [])
    with pytest.raises(UserError, match="no layout of a ViT has names such as a"):
        import_checkpoint(saved(tmp_path / "a.pth", {"a": torch.ones(1)}))
    with pytest.raises(UserError, match="timm:NAME"):
        import_checkpoint(
            saved(tmp_path / "e.pth", theirs("eva02_tiny_patch14_224", img_size=42).state_dict())
        )
    with pytest.raises(UserError, match="did you mean vit_tiny_patch16_224"):
        import_checkpoint("timm:vit_tiny_patch16_242")
    with pytest.raises(UserError, match="differential attention"):
        import_checkpoint("timm:vit_dwee_patch16_reg1_gap_256")
    with pytest.raises(UserError, match="no such layout"):
        import_checkpoint("x.pth", "official")
    odd = theirs("vit_tiny_patch16_224", embed_dim=66, num_heads=6).state_dict()
    with pytest.raises(UserError, match="number of heads"):
        import_checkpoint(saved(tmp_path / "h.pth", odd))


@pytest.mark.parametrize(
    "name",
    [
        "vit_tiny_patch16_224",
        "vit_base_patch32_siglip_256",
        "eva02_tiny_patch14_224",
        "vit_small_patch16_rope_mixed_224",
    ],
)
def test_back_to_timm_by_its_own_name(name: str) -> None:
    side = 56 if "14" in name else 64
    imported = import_checkpoint(
        f"timm:{name}", kwargs={"depth": 2, "img_size": side, "num_classes": 7}
    )
    architecture, kwargs, state = timm_model(imported.config, imported.weights, imported.state)
    model = timm.create_model(architecture, **kwargs).eval()
    model.load_state_dict(state)
    assert architecture == name and kwargs["img_size"] == [side, side]
    with torch.no_grad():
        torch.testing.assert_close(
            ours(imported)(images(side)), model(images(side)), atol=1e-5, rtol=1e-5
        )


def test_a_model_born_here_goes_to_timm_or_is_refused() -> None:
    sets = ["backbone.dim=96", "backbone.depth=2", "backbone.heads=3", "backbone.mlp_dim=200", "tokeniser.image=28",
            "tokeniser.patch=4", "tokeniser.channels=1", "tokeniser.registers=3", "head.outputs=10", "head.pool=mean",
            "backbone.layer_scale=0.1"]  # fmt: skip
    config = settings(*sets)
    model = build_model(config).eval()
    architecture, kwargs, state = timm_model(config, model.state_dict())
    built = timm.create_model(architecture, **kwargs).eval()
    built.load_state_dict(state)
    with torch.no_grad():
        torch.testing.assert_close(built(images(28, 1)), model(images(28, 1)), atol=1e-6, rtol=1e-5)
    for extra, why in (("backbone.eps=1e-5", "backbone.eps"), ("backbone.order=post", "backbone.order"),
                       ("head.pool=class_max", "class_max"), ("backbone.norm=rms", "backbone.norm")):  # fmt: skip
        config = settings(*sets, extra)
        with pytest.raises(UserError, match=why):
            timm_model(config, build_model(config).state_dict())


def test_published_weights_have_class_names() -> None:
    from isoform.vision.vit.pretrained.timm_source import labels

    names = labels(1000)
    assert names[0].startswith("tench") and len(set(names)) == 1000  # two kinds of crane
    assert labels(7) == ()


@pytest.mark.parametrize(
    ("told", "want"),
    [
        ({}, {"resize": "squash"}),
        ({"size": 224}, {"resize": "squash"}),
        ({"size": {"height": 224, "width": 224}}, {"resize": "squash"}),
        (
            {"size": {"shortest_edge": 256}, "do_center_crop": True, "crop_size": {"height": 224}},
            {"resize": "crop", "crop_pct": 0.875},
        ),
        (
            {"size": 256, "do_center_crop": True, "crop_size": 224},
            {"resize": "squash", "crop_pct": 0.875},
        ),
        (
            {"size": {"shortest_edge": 256}, "do_center_crop": False, "crop_size": 224},
            {"resize": "crop"},
        ),
    ],
)
def test_transformers_says_how_images_are_resized(told, want):
    assert hub._geometry(told) == want


def test_timm_says_how_images_are_resized_and_what_isoform_has_not_is_said() -> None:
    cfg = {"crop_mode": "border", "crop_pct": 0.95, "interpolation": "lanczos"}
    found = from_timm("vit_tiny_patch16_224", state=theirs().state_dict(), kwargs=SMALL, cfg=cfg)
    assert found.preprocessing["resize"] == "border" and found.preprocessing["crop_pct"] == 0.95
    assert found.preprocessing["interpolation"] == "bicubic" and "by lanczos" in found.notes[0]
