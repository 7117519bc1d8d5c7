"""Weights from elsewhere: name maps both ways, the one restricted reader, the hub's folders, foreign settings.

layout.py           two-way name maps, strict in both directions
checkpoint_file.py  the one reader of checkpoint files;  unpickler.py  what it lets a pickle build
hub.py              folders in the Hugging Face hub's layout
settings.py         a foreign model's settings weighed against what somebody asked for
"""

from isoform.core.pretrained.checkpoint_file import read_checkpoint
from isoform.core.pretrained.layout import (
    ZERO,
    Layout,
    Loaded,
    Op,
    Rule,
    ignore,
    join,
    permute,
    regroup,
    rename,
    reshape,
    split,
    squeeze,
    state_dict_of,
    strip_prefix,
    transpose,
    unsqueeze,
)

__all__ = [
    "ZERO",
    "Layout",
    "Loaded",
    "Op",
    "Rule",
    "ignore",
    "join",
    "permute",
    "read_checkpoint",
    "regroup",
    "rename",
    "reshape",
    "split",
    "squeeze",
    "state_dict_of",
    "strip_prefix",
    "transpose",
    "unsqueeze",
]
