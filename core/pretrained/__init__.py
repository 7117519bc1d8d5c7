"""Weights from elsewhere: name maps both ways, the one restricted reader, the hub's folders, foreign settings.

layout.py           two-way name maps, strict in both directions
checkpoint_file.py  the one reader of checkpoint files;  unpickler.py  what it lets a pickle build
hub.py              folders in the Hugging Face hub's layout
source.py           a file, folder or hub name as one `Source`, and which family reads it
settings.py         a foreign model's settings weighed against what somebody asked for

Every model family that others publish has a module `pretrained` with the same five functions, and the LAYOUTS that its
--layout takes:

    recognise(source)                                  the layout of a `Source`, None where it is of another family
    import_checkpoint(source, layout, config)          a foreign model, whole, in isoform's names
    layout_of(config, layout, state)                   the `Layout`: the names of both sides
    export_official(config, weights, state, layout)    the weights under the names of their code base; importing gives
                                                       them back bit for bit
    initial_weights(source, config)                    weights to start the app's training from

`source` is a path, hf:OWNER/NAME or a `Source` that was read already; `layout` is None where it is to be recognised;
`config` holds the settings that somebody asks for, and what it contradicts is refused; `state` is task.json of the run
that the weights belong to, which remembers what they were imported from.
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
