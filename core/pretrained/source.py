"""Where foreign weights come from, and which model family reads them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from isoform.core.domain import ImportedModel, InitialWeights
from isoform.core.errors import UserError, join_names
from isoform.core.pretrained import hub
from isoform.core.pretrained.checkpoint_file import read_checkpoint
from isoform.core.pretrained.layout import Layout, state_dict_of

# Where trainers put their state dict in a file, averaged weights first.
STATE_KEYS = (
    "model_ema", "state_dict_ema", "model", "state_dict", "model_state_dict", "base_model", "teacher",
)  # fmt: skip
NAMED = re.compile(r"[a-z]{2,}:.+")  # timm:NAME: a model that a library knows, and no file


@dataclass(frozen=True)
class Source:
    """A foreign model as it was found, before anybody knows whose it is.

    text     as it was asked for: a path, hf:OWNER/NAME, or another library's LIBRARY:NAME, which holds nothing itself
    state    its tensors by their names
    keys     what its file holds at the top, the state dict's key among it
    config   config.json of its folder
    folder   None for a file
    """

    text: str
    state: Mapping[str, Tensor] = field(default_factory=dict)
    keys: frozenset[str] = frozenset()
    config: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    licence: str = "unknown"

    @property
    def name(self) -> str:
        """To show: never a path of this machine."""
        return self.text if NAMED.fullmatch(self.text) else Path(self.text).name


def read_source(source: str | Path | Source) -> Source:
    """What a checkpoint file, a folder with config.json or hf:OWNER/NAME[@REVISION] holds. Raises UserError."""
    if isinstance(source, Source):
        return source
    text = str(source)
    if text.startswith("hf:"):
        return _read_folder(hub.fetch(text.removeprefix("hf:")), text)
    path = Path(text)
    if path.is_dir():
        return _read_folder(path, text)
    if NAMED.fullmatch(text) and not path.exists():
        return Source(text)
    checkpoint = read_checkpoint(path)
    return Source(
        text, state_dict_of(checkpoint, *STATE_KEYS, where=text), frozenset(map(str, checkpoint))
    )


def _read_folder(folder: Path, text: str) -> Source:
    config = hub.read_json(folder / "config.json", text)
    state = hub.read_weights(folder, text)
    return Source(text, state, config=config, folder=folder, licence=hub.licence_of(folder))


class Family(Protocol):
    """What the module `pretrained` of every model family offers; see isoform.core.pretrained."""

    @property
    def LAYOUTS(self) -> tuple[str, ...]:
        """The names that --layout takes for this family."""

    def recognise(self, source: Source) -> str | None:
        """The layout of a source, None where it is of another family."""

    def import_checkpoint(
        self, source: str | Path | Source, layout: str | None = None, config: Any = None
    ) -> ImportedModel:
        """A foreign model, whole, in isoform's names."""

    def layout_of(self, config: Any, layout: str, state: Any = None) -> Layout:
        """The names of a layout beside those of the app's model."""

    def export_official(
        self,
        config: Any,
        weights: Mapping[str, Tensor],
        state: Any = None,
        layout: str | None = None,
    ) -> dict[str, Tensor]:
        """The weights under the names of the code base that they came from."""

    def initial_weights(self, source: str | Path | Source, config: Any) -> InitialWeights:
        """Weights to start the app's training from."""


def layouts_of(families: Iterable[Family]) -> tuple[str, ...]:
    """What --layout takes in a domain of these families."""
    return tuple(name for family in families for name in family.LAYOUTS)


def choose_family(
    families: Iterable[Family], source: Source, layout: str | None, kind: str
) -> Family:
    """The family that reads a source: the one of `layout`, else the one that recognises it.

    `kind` is what the domain's models are ("a forecaster"). Raises UserError where there is none.
    """
    families = tuple(families)
    for family in families:
        if family.recognise(source) is not None if layout is None else layout in family.LAYOUTS:
            return family
    if layout is None:
        raise unrecognised(source, kind)
    raise unknown_layout(layout, layouts_of(families))


def choose_layout(
    source: Source,
    asked: str | None,
    layouts: tuple[str, ...],
    recognise: Callable[[Source], str | None],
    kind: str,
) -> str:
    """The layout that was asked for, else the recognised one, for one family's import_checkpoint.

    Raises UserError where there is none, or it is no layout of the family.
    """
    if asked is not None and asked not in layouts:
        raise unknown_layout(asked, layouts)
    name = asked or recognise(source)
    if name is None:
        raise unrecognised(source, kind)
    return name


def unrecognised(source: Source, kind: str) -> UserError:
    """The sentence for a source that no family knows."""
    return UserError(
        f"{source.name}: no layout of {kind} has names such as {join_names(list(source.state)[:4])}; name one with "
        "--layout"
    )


def unknown_layout(layout: str, layouts: Iterable[str]) -> UserError:
    """The sentence for a layout of nobody."""
    return UserError(f"--layout {layout}: there is no such layout; there are {', '.join(layouts)}")


__all__ = [
    "Family",
    "Source",
    "choose_family",
    "choose_layout",
    "layouts_of",
    "read_source",
    "unknown_layout",
    "unrecognised",
]
