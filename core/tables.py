"""Rows and features as files: .csv, .jsonl, .npz, .parquet, written whole or not at all."""

from __future__ import annotations

import csv
import io
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isoform.core.domain import UserError

if TYPE_CHECKING:
    import numpy as np

Rows = Sequence[Mapping[str, Any]]

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
            raise UserError(f"{path}: parquet needs pyarrow; `pip install pyarrow`, or choose {known[0]}") from None
    return suffix


def columns_of(rows: Rows) -> list[str]:
    """Every column of any row: `input` first, `error` last, the others as they first appear."""
    found = dict.fromkeys(name for row in rows for name in row)
    middle = [name for name in found if name not in ("input", "error")]
    return ["input", *middle, "error"]


def csv_text(rows: Rows) -> str:
    """The rows as csv; a list becomes JSON in its cell, a missing value an empty cell."""
    columns = columns_of(rows)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(row.get(name)) for name in columns] for row in rows)
    return text.getvalue()


def write_rows(rows: Rows, path: str | Path) -> None:
    """Writes rows in the format that the file's ending names."""
    suffix = format_of(path, ROWS)
    columns = columns_of(rows)
    if suffix == ".csv":
        write_atomically(path, csv_text(rows).encode())
    elif suffix == ".jsonl":
        lines = (json.dumps({name: _json(row.get(name)) for name in columns}, ensure_ascii=False) for row in rows)
        write_atomically(path, "".join(f"{line}\n" for line in lines).encode())
    else:
        write_atomically(path, _parquet({name: [_json(row.get(name)) for row in rows] for name in columns}))


def write_features(inputs: Sequence[str], features: np.ndarray, path: str | Path) -> None:
    """Writes features [inputs, F] and the names of their inputs in the format that the file's ending names."""
    import numpy as np

    if format_of(path, ARRAYS) == ".npz":
        buffer = io.BytesIO()
        np.savez(buffer, inputs=np.array(inputs, dtype=np.str_), features=features)
        write_atomically(path, buffer.getvalue())
    else:
        write_atomically(path, _parquet({"input": list(inputs), "features": features.tolist()}))


def write_atomically(path: str | Path, content: bytes) -> None:
    """Replaces a file in one step. Raises UserError where it can't be written."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, new = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
            Path(new).chmod(0o666 & ~_umask())
            Path(new).replace(path)
        except OSError:
            Path(new).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UserError(f"{path}: can't be written ({error.strerror}); choose another --out") from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _parquet(columns: Mapping[str, Sequence[Any]]) -> bytes:
    import pyarrow
    import pyarrow.parquet

    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(dict(columns)), buffer)
    return buffer.getvalue()


def _json(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else value


def _cell(value: Any) -> Any:
    value = _json(value)
    if value is None:
        return ""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | tuple | dict) else value
