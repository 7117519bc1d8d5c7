"""Rows and features as files: .csv, .jsonl, .npz, .parquet, written whole or not at all.

Text goes through `printable`: a name that isn't UTF-8 must not cost the rows.
"""

from __future__ import annotations

import csv
import errno
import io
import itertools
import json
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isoform.core.data.notation import take_apart
from isoform.core.errors import UserError, printable

if TYPE_CHECKING:
    import numpy as np


class Unwritable(UserError):
    """A file that can't be written where it should be, as one sentence."""


Rows = Sequence[Mapping[str, Any]]
Columns = Mapping[str, Any]  # name -> list, numpy array or, for parquet, whatever pyarrow takes

_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a cell begins with that a spreadsheet computes
ROWS = (".csv", ".jsonl", ".parquet")
ARRAYS = (".npz", ".parquet")


def format_of(path: str | Path, known: Sequence[str]) -> str:
    """The file's ending. Raises UserError where it is none of `known`, or needs a library that isn't there."""
    suffix = Path(path).suffix.lower()
    if suffix not in known:
        raise UserError(f"{path}: --out should end in {', '.join(known)}")
    if suffix == ".parquet":
        try:
            import pyarrow  # noqa: F401
        except ImportError:
            raise UserError(
                f"{path}: parquet needs pyarrow; `pip install pyarrow`, or choose {known[0]}"
            ) from None
    return suffix


def columns_of(rows: Rows) -> dict[str, list[Any]]:
    """One row an input as columns: `error` last, the others as they first appear, None where missing.

    The first is `input`, but for columns of the input's own file, which the first row has in front of it.
    """
    given = itertools.takewhile(lambda name: name != "input", rows[0] if rows else ())
    names = dict.fromkeys([*given, "input", *(name for row in rows for name in row)])
    names.pop("error", None)
    return {name: [_json(row.get(name)) for row in rows] for name in (*names, "error")}


def csv_text(columns: Columns) -> str:
    """Columns as csv; a list becomes JSON in its cell, None an empty cell.

    A text that a spreadsheet would take for a formula gets an apostrophe in front: one that begins with = + - @, a tab
    or a return and is neither a number nor a sign alone. Numbers stay as they are.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(_cell, columns))
    writer.writerows(zip(*(map(_cell, _json(column)) for column in columns.values()), strict=True))
    return text.getvalue()


def write_rows(rows: Rows, path: str | Path) -> None:
    """Writes one row an input (see `columns_of`) in the format that the file's ending names."""
    write_columns(columns_of(rows), path)


def write_columns(columns: Columns, path: str | Path) -> None:
    """Writes columns of one length in the format that the file's ending names."""
    suffix = format_of(
        path,
        ROWS,
    )
    if suffix == ".csv":
        write_atomically(path, csv_text(columns))
    elif suffix == ".jsonl":
        rows = zip(*map(_json, columns.values()), strict=True)
        lines = (_line(dict(zip(columns, row, strict=True))) for row in rows)
        write_atomically(path, "".join(f"{line}\n" for line in lines))
    else:
        write_atomically(path, parquet_bytes(columns))


def write_features(
    inputs: Sequence[str],
    features: np.ndarray,
    path: str | Path,
    given: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Writes features [inputs, F] and the names of their inputs in the format that the file's ending names.

    given   columns of the inputs' own file: in front, of an .npz as the array "column NAME"
    """
    import numpy as np

    given = given or {}
    if format_of(path, ARRAYS) == ".npz":
        buffer = io.BytesIO()
        texts = {"inputs": inputs, **{f"column {name}": cells for name, cells in given.items()}}
        arrays: dict[str, Any] = {
            printable(name): np.array(list(map(printable, cells)), np.str_)
            for name, cells in texts.items()
        }
        np.savez(buffer, features=features, **arrays)
        write_atomically(path, buffer.getvalue())
    else:
        columns = {**given, "input": list(inputs), "features": features.tolist()}
        write_atomically(path, parquet_bytes(columns))


def write_atomically(path: str | Path, content: bytes | str) -> None:
    """Replaces a file in one step. Raises UserError where it can't be written."""
    write_together({path: content})


def write_together(contents: Mapping[str | Path, bytes | str]) -> None:
    """Replaces several files, each in one step, once all of them are on the disk.

    Raises Unwritable, and leaves all as it was, where one can't be written.
    """
    new: dict[Path, Path] = {}
    path = Path()
    try:
        for path, content in ((Path(name), content) for name, content in contents.items()):
            path.parent.mkdir(
                parents=True,
                exist_ok=True,
            )
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            handle, made = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
            new[path] = Path(made)
            with os.fdopen(handle, "wb") as stream:
                stream.write(utf8(content) if isinstance(content, str) else content)
            usual_mode(new[path])
        for path, whole in new.items():
            whole.replace(path)
    except OSError as error:
        raise Unwritable(
            f"{path}: can't be written ({error.strerror}); choose another place"
        ) from error
    finally:
        for part in new.values():
            part.unlink(missing_ok=True)


@contextmanager
def staged(out: str | Path) -> Iterator[Path]:
    """A path to write at; what is written there, and beside it, takes its place at the end if all went well.

    Raises UserError where something is in that place already, or nothing can be written.
    """
    final = Path(out)
    if final.exists() and (not final.is_dir() or any(final.iterdir())):
        raise UserError(f"{final}: exists already; name another --out")
    anchor = next(folder for folder in final.absolute().parents if folder.exists())
    try:
        with tempfile.TemporaryDirectory(dir=anchor, prefix=f".{final.name}.") as made:
            yield Path(made) / final.name
            final.parent.mkdir(parents=True, exist_ok=True)
            for written in Path(made).rglob("*"):
                usual_mode(written)  # safetensors' can't be read by others
            for written in Path(made).iterdir():
                written.replace(final.parent / written.name)
    except OSError as error:
        raise UserError(
            f"{final}: can't be written ({error.strerror}); name another --out"
        ) from error


def usual_mode(path: Path) -> None:
    """Gives a file or folder the mode that the umask gives new ones; temporary ones can't be read by others."""
    mask = os.umask(0)
    os.umask(mask)
    path.chmod((0o777 if path.is_dir() else 0o666) & ~mask)


def parquet_bytes(columns: Columns) -> bytes:
    """Columns as the content of a parquet file."""
    import pyarrow
    import pyarrow.parquet

    buffer = io.BytesIO()
    plain = {printable(name): _printed(column) for name, column in columns.items()}
    pyarrow.parquet.write_table(pyarrow.table(plain), buffer)
    return buffer.getvalue()


def plain_json(value: Any, of_path: Callable[[Path], str] = lambda path: path.name) -> Any:
    """JSON's own types: numbers of numpy become Python's, NaN and infinity None, paths their last part, text printable.

    of_path   what a path becomes instead
    """
    if isinstance(value, Mapping):
        return {printable(str(key)): plain_json(item, of_path) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(item, of_path) for item in value]
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, Path):
        return printable(of_path(value))
    if hasattr(value, "tolist"):
        return plain_json(value.tolist(), of_path)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def utf8(text: str) -> bytes:
    """Text as a file holds it; see `printable`."""
    return printable(text).encode()


def _printed(column: Any) -> Any:
    if not isinstance(column, list):
        return column
    return [printable(cell) if isinstance(cell, str) else cell for cell in column]


def _line(value: Any) -> str:
    return json.dumps(plain_json(value), ensure_ascii=False)


def _json(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else value


def _cell(value: Any) -> Any:
    value = _json(value)
    if value is None:
        return ""
    if isinstance(value, str):
        value = printable(value)
        return f"'{value}" if value.startswith(_FORMULA) and not _is_plain(value) else value
    return _line(value) if isinstance(value, list | tuple | dict) else value


def _is_plain(text: str) -> bool:
    """True for a sign alone and for a number with a sign, of either decimal mark."""
    return text in ("=", "+", "-", "@") or (text[0] in "+-" and take_apart(text) is not None)
