"""Files that grow together and survive being killed: what is asked for again goes on where it stopped.

While they grow they are called NAME.part, and a journal says what was asked for and how much of each is whole. What a
killed process wrote behind that is cut off. The journal stays: it tells how the files were made.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

from isoform.core.data.writers import utf8
from isoform.core.errors import UserError


class Journal:
    """Records of one sampling in several files. `done` of `count` records are whole.

    asked   what the records depend on, flat, as JSON has it
    told    what is worth knowing beside it; `told_before`: the same of the process that began
    """

    def __init__(
        self,
        place: Path,
        files: Sequence[Path],
        count: int,
        asked: Mapping[str, Any],
        told: Mapping[str, Any],
    ) -> None:
        self.place, self.files, self.count = place, list(files), count
        self.asked = json.loads(json.dumps(asked))
        self.told = self.told_before = json.loads(json.dumps(told))
        self.done, self.sizes = 0, [0] * len(files)
        self._streams: list[IO[bytes]] = []

    @contextmanager
    def open(self, *, overwrite: bool = False) -> Iterator[Journal]:
        """Takes up what is there, or begins, and keeps other processes out.

        overwrite   what is there of other arguments, or of unknown ones, is replaced

        Raises UserError where that isn't allowed, where another process is at it, or where nothing can be written.
        """
        try:
            self.place.parent.mkdir(parents=True, exist_ok=True)
            with ExitStack() as stack:
                self._lock(stack)
                self._take_up(overwrite)
                if not self.is_finished():
                    self._streams = [
                        stack.enter_context(part_of(file).open("ab")) for file in self.files
                    ]
                    for stream, size in zip(self._streams, self.sizes, strict=True):
                        stream.truncate(size)
                yield self
        except OSError as error:
            raise UserError(
                f"{self.files[0]}: can't be written ({error.strerror or error}); the same command goes on from "
                f"{self.done:,} records once it can"
            ) from error

    def append(self, texts: Sequence[str], records: int) -> None:
        """So many records more, a text a file."""
        for place, (stream, text) in enumerate(zip(self._streams, texts, strict=True)):
            stream.write(utf8(text))
            stream.flush()
            os.fsync(stream.fileno())
            self.sizes[place] += len(utf8(text))
        self.done += records
        self._write()
        if self.done == self.count:
            self._put_in_place()

    def is_finished(self) -> bool:
        """True where all records are in the files."""
        return self.done == self.count and all(map(Path.exists, self.files))

    def _lock(self, stack: ExitStack) -> None:
        place = self.place.with_name(f".{self.place.name}.lock")
        descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        stack.callback(os.close, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(
                f"{self.files[0]}: another process is sampling into it; wait, or name another --out"
            ) from None
        stack.callback(place.unlink, missing_ok=True)

    def _take_up(self, overwrite: bool) -> None:
        found = self._read()
        asked = None if found is None else found.get("asked")
        if found is None or asked != self.asked:
            if not overwrite:
                self._refuse(found)
            self._begin()
            return
        self.done, self.sizes = int(found["done"]), list(map(int, found["bytes"]))
        self.told_before = found["told"]
        if self.done == self.count:
            self._put_in_place()
        whole = self.files if self.done == self.count else map(part_of, self.files)
        present = [file.stat().st_size if file.exists() else 0 for file in whole]
        if self.done == self.count:
            if not any(present):  # taken away: made again
                self._begin()
            elif present != self.sizes and not overwrite:
                raise UserError(
                    f"{self.files[0]}: was changed since it was written; name another --out, or add --overwrite"
                )
            elif present != self.sizes:
                self._begin()
        elif any(a < b for a, b in zip(present, self.sizes, strict=True)):
            if not overwrite:
                raise UserError(
                    f"{part_of(self.files[0])}: shorter than {self.place.name} says; add --overwrite to begin anew"
                )
            self._begin()

    def _refuse(self, found: Mapping[str, Any] | None) -> None:
        """Raises UserError where something is in the way."""
        present = [file for file in self.files if file.exists()]
        if found is None:
            if present:
                raise UserError(
                    f"{present[0]}: exists already; name another --out, or add --overwrite"
                )
            return
        asked = found.get("asked", {})
        other = [
            f"{name} {asked.get(name)}, now {value}"
            for name, value in self.asked.items()
            if asked.get(name) != value
        ]
        raise UserError(
            f"{self.place}: tells of {found.get('done', 0):,} records of another sampling ({'; '.join(other)}); name "
            "another --out, or add --overwrite"
        )

    def _begin(self) -> None:
        self.done, self.sizes, self.told_before = 0, [0] * len(self.files), self.told
        for file in self.files:
            part_of(file).unlink(missing_ok=True)
        self._write()

    def _put_in_place(self) -> None:
        for file in self.files:
            if part_of(file).exists():
                part_of(file).replace(file)

    def _read(self) -> dict[str, Any] | None:
        try:
            return dict(json.loads(self.place.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError):
            raise UserError(
                f"{self.place}: is no journal of a sampling; remove it, or name another --out"
            ) from None

    def _write(self) -> None:
        content = {
            "asked": self.asked,
            "told": self.told_before,
            "done": self.done,
            "bytes": self.sizes,
        }
        new = self.place.with_name(f".{self.place.name}.new")
        new.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        new.replace(self.place)


def part_of(file: Path) -> Path:
    """What a file is called while it grows."""
    return file.with_name(f"{file.name}.part")
