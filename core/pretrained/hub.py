"""Folders in the Hugging Face hub's layout: config.json, weights beside it, and perhaps a model card."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from torch import Tensor

from isoform.core.errors import UserError
from isoform.core.pretrained.checkpoint_file import read_checkpoint
from isoform.core.pretrained.layout import state_dict_of

NAME = re.compile(r"(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(@(?P<revision>[\w./-]+))?")
WEIGHTS = ("model.safetensors", "open_clip_model.safetensors", "pytorch_model.bin")
WANTED = (
    "config.json",
    "preprocessor_config.json",
    "README.md",
    "*.safetensors",
    "*.index.json",
    "pytorch_model.bin",
)
JSON_LIMIT = 16 << 20  # bytes


def fetch(name: str) -> Path:
    """The folder of OWNER/NAME or OWNER/NAME@REVISION, from the local cache or the hub.

    Raises UserError where it can't be had.
    """
    match = NAME.fullmatch(name)
    if match is None or ".." in name:
        raise UserError(f"hf:{name}: write hf:OWNER/NAME or hf:OWNER/NAME@REVISION")
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise UserError(
            "huggingface_hub is not installed: pip install 'isoform[pretrained]'"
        ) from error
    try:
        return Path(
            snapshot_download(
                match["repo"], revision=match["revision"], allow_patterns=list(WANTED)
            )
        )
    except Exception as error:  # the client raises of every kind, from offline mode to HTTP
        raise UserError(f"hf:{name}: can't be fetched ({str(error).splitlines()[0]})") from error


def read_json(path: Path, where: str) -> dict[str, Any]:
    """The object in a JSON file. Raises UserError for a missing, oversized or damaged one."""
    try:
        if path.stat().st_size > JSON_LIMIT:
            raise UserError(f"{where}: {path.name} is larger than {JSON_LIMIT >> 20} MiB")
        settings = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{where}: {path.name} can't be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: {path.name} is not valid JSON ({error})") from error
    if not isinstance(settings, dict):
        raise UserError(f"{where}: {path.name} does not hold an object")
    return settings


def read_weights(folder: Path, where: str) -> dict[str, Tensor]:
    """The state dict, from one file or from shards. Raises UserError where there is none."""
    for name in WEIGHTS:
        if (folder / name).is_file():
            return state_dict_of(
                read_checkpoint(folder / name), "state_dict", where=f"{where}: {name}"
            )
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        raise UserError(f"{where}: has none of {', '.join(WEIGHTS)}")
    shards = sorted(set(map(str, read_json(index, where).get("weight_map", {}).values())))
    if any(Path(shard).name != shard for shard in shards):
        raise UserError(f"{where}: {index.name} names files outside its folder")
    state: dict[str, Tensor] = {}
    for shard in shards:
        state |= state_dict_of(read_checkpoint(folder / shard))
    return state


def licence_of(folder: Path) -> str:
    """What the model card's header says; "unknown" otherwise."""
    card = folder / "README.md"
    if not card.is_file() or card.stat().st_size > JSON_LIMIT:
        return "unknown"
    match = re.search(
        r"\A---\n(?:.*\n)*?license:\s*(\S+)", card.read_text(encoding="utf-8", errors="replace")
    )
    return match[1] if match else "unknown"
