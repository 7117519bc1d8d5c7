"""A run folder: its layout, its lock, and writing that never leaves half a file.

config.toml  metrics.jsonl  results.json  task.json  calibration.npz  seen.npz  split.json  figures.json  checkpoints/
baselines/  report.html  card.md  predictions.*  suspected_labels.csv  trackers/
"""

from __future__ import annotations

import fcntl
import io
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pydantic import ValidationError
from torch import Tensor

from isoform.core.config import members_of
from isoform.core.config.state import RunState
from isoform.core.data.writers import plain_json, utf8
from isoform.core.domain.kept_split import KeptSplit
from isoform.core.errors import UserError
from isoform.core.pretrained.checkpoint_file import read_checkpoint
from isoform.core.runs import checkpoint as checkpoints

StateT = TypeVar("StateT", bound=RunState)
BASELINES = "baselines"  # the folder of those that a run stores
SUSPECTS = "suspected_labels.csv"
TRACKERS = "trackers"  # the folder of what `--log` keeps
_LOCK = ".lock"
_PAUSES = (
    0.01,
    0.03,
    0.1,
)  # seconds, for whoever only looks whether a run is training (`is_training`)
_CONTENT = ("config.toml", "metrics.jsonl", "results.json", "checkpoints")
_locks: set[int] = set()


def _close_inherited_locks() -> None:
    # A flock lives as long as any copy of its descriptor: a worker that outlives its killed parent would keep it.
    for descriptor in _locks:
        with suppress(OSError):
            os.close(descriptor)
    _locks.clear()


os.register_at_fork(after_in_child=_close_inherited_locks)


def runs_in(folder: str | Path) -> list[Path]:
    """The run itself, or the runs of a group that `--seeds` or `--folds` made, by seed or fold."""
    folder = Path(folder)
    runs = members_of(folder)
    group = runs and not (folder / "config.toml").exists()
    return runs if group else [folder]


class RunFolder:
    """The folder of one run; nothing is created before something is written."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.checkpoints = self.path / "checkpoints"
        self.log = self.path / "metrics.jsonl"

    def exists(self) -> bool:
        """True where the folder holds a run, finished or not."""
        return any((self.path / name).exists() for name in _CONTENT)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keeps a second run out; a dead process holds nothing. Raises UserError where a living one trains here.

        Folders that were made for the lock and got nothing else in them are removed again.
        """
        made = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        while (descriptor := self._take_lock()) is None:
            pass
        _locks.add(descriptor)
        try:
            yield
        finally:
            if not self.exists():
                (self.path / _LOCK).unlink(missing_ok=True)
                with suppress(OSError):
                    for folder in made:
                        folder.rmdir()
            _locks.discard(descriptor)
            os.close(descriptor)

    def _take_lock(self) -> int | None:
        """The descriptor of the lock; None where whoever held it took the file away before it was free."""
        place = self.path / _LOCK
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise UserError(
                f"{self.path}: can't write there ({error.strerror}); choose another --run-dir"
            ) from error
        for pause in (*_PAUSES, None):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if pause is None:
                    os.close(descriptor)
                    raise UserError(
                        f"{self.path}: another process is training here; wait or use another --run-dir"
                    ) from error
                time.sleep(pause)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), place.stat()):
                return descriptor
        os.close(descriptor)
        return None

    def is_training(self) -> bool:
        """True while a living process holds the lock."""
        try:
            descriptor = os.open(self.path / _LOCK, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(descriptor)
        return False

    def discard(self) -> None:
        """Removes what a run writes before its first checkpoint."""
        written = ("config.toml", "task.json", "seen.npz", "split.json", "metrics.jsonl")
        for name in (*written, "results.json"):
            (self.path / name).unlink(missing_ok=True)
        shutil.rmtree(self.path / TRACKERS, ignore_errors=True)
        with suppress(OSError):
            self.checkpoints.rmdir()

    def write_text(self, name: str, text: str) -> Path:
        """Replaces a file of the run in one step."""
        return self._write(name, utf8(text))

    def _write(self, name: str, content: bytes) -> Path:
        final = self.path / name
        new = final.with_name(f".{name}.new")
        try:
            with new.open("wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            new.replace(final)
        except OSError:
            new.unlink(missing_ok=True)
            raise
        return final

    def write_json(self, name: str, value: Any) -> Path:
        """Replaces a JSON file of the run in one step; NaN and infinity become null, which JSON can say."""
        return self.write_text(
            name, json.dumps(plain_json(value), indent=1, ensure_ascii=False) + "\n"
        )

    def write_arrays(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Replaces an .npz file of the run in one step, or removes it where there are no arrays."""
        if not arrays:
            (self.path / name).unlink(missing_ok=True)
            return
        content = io.BytesIO()
        np.savez(content, allow_pickle=False, **arrays)
        self._write(name, content.getvalue())

    def read_json(self, name: str) -> Any:
        """A JSON file of the run. Raises UserError where it is missing or unreadable."""
        try:
            return json.loads((self.path / name).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise UserError(f"{self.path} has no {name}: is it the folder of a run?") from error
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(f"{self.path / name}: can't be read ({error})") from error

    def results(self) -> dict[str, Any]:
        """results.json; empty where the run hasn't written it."""
        return self.read_json("results.json") if (self.path / "results.json").exists() else {}

    def state(self, schema: type[StateT]) -> StateT:
        """task.json as the domain's table, with the arrays of calibration.npz where there are any.

        Raises UserError where a file is damaged or holds a row that the table doesn't know.
        """
        path = self.path / "task.json"
        try:
            state = schema.model_validate_json(json.dumps(self.read_json("task.json")))
        except ValidationError as error:
            first = error.errors()[0]
            row = ".".join(map(str, first["loc"]))
            raise UserError(
                f"{path}: {row}: {first['msg']}; it was written by another version, or changed"
            ) from None
        beside = {"calibration": self.calibration(), "seen": self.seen()}
        return state.model_copy(
            update={name: value for name, value in beside.items() if value is not None}
        )

    def calibration(self) -> dict[str, np.ndarray] | None:
        """The arrays of calibration.npz; None without one. Raises UserError where it is damaged."""
        return self._arrays("calibration.npz") or None

    def stored_baselines(self) -> list[str]:
        """Names of the fitted baselines that the run can predict with."""
        return sorted(file.stem for file in (self.path / BASELINES).glob("*.json"))

    def seen(self) -> np.ndarray | None:
        """uint64, ascending: digests of what the run was trained on (seen.npz); None where it keeps none."""
        digests = self._arrays("seen.npz").get("digests")
        return None if digests is None else digests.astype(np.int64).view(np.uint64)

    def write_seen(self, digests: np.ndarray | None) -> None:
        """Writes seen.npz, or removes it where nothing is known."""
        self.write_arrays(
            "seen.npz", {} if digests is None else {"digests": digests.view(np.int64)}
        )

    def split(self) -> KeptSplit | None:
        """The samples that the run keeps as its own (split.json); None where it keeps none. Raises UserError."""
        if not (self.path / "split.json").exists():
            return None
        try:
            return KeptSplit.from_json(self.read_json("split.json"))
        except (TypeError, KeyError, AttributeError) as error:
            raise UserError(
                f"{self.path / 'split.json'}: can't be read ({error}); it was changed, or written by another version"
            ) from error

    def write_split(self, kept: KeptSplit | None) -> None:
        """Writes split.json, or removes it where a task has nothing to keep. Surrogates of odd names are escaped."""
        if kept is None:
            (self.path / "split.json").unlink(missing_ok=True)
            return
        self.write_text("split.json", json.dumps(kept.to_json(), separators=(",", ":")) + "\n")

    def _arrays(self, name: str) -> dict[str, np.ndarray]:
        """Those of an .npz file of the run; none where there is no such file. Raises UserError where it is damaged."""
        if not (self.path / name).exists():
            return {}
        return {key: array.numpy() for key, array in read_checkpoint(self.path / name).items()}

    def precision(self) -> str:
        """The precision that the stored metrics were measured in."""
        return str(self.results().get("precision", "fp32"))

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl; a line that a crash cut short is left out."""
        lines = []
        if self.log.exists():
            for text in self.log.read_text(encoding="utf-8").splitlines():
                with suppress(ValueError, RecursionError):
                    lines.append(json.loads(text))
        return lines

    def append_metrics(self, line: Mapping[str, Any]) -> None:
        """Adds one line to metrics.jsonl."""
        with self.log.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(plain_json(line)) + "\n")

    def cut_metrics(self, size: int) -> None:
        """Drops what was logged after the checkpoint that the run goes on from."""
        self.log.touch()
        if self.log.stat().st_size > size:
            with self.log.open("r+b") as stream:
                stream.truncate(size)

    def step_of(self, which: str | int) -> int:
        """The step of "best", "last", or of a number. Raises UserError for one that isn't there."""
        present = checkpoints.steps(self.checkpoints)
        if not present:
            raise UserError(f"{self.path} has no checkpoint yet; train it first")
        if which == "last":
            return present[-1]
        if which == "best":
            last = checkpoints.place(self.checkpoints, present[-1])
            try:
                best = checkpoints.read_place(last).get("best_step")
            except checkpoints.Damaged as error:
                raise UserError(
                    f"{last} is damaged: {error}; choose a step with --checkpoint"
                ) from error
            if not isinstance(best, int | None):
                raise UserError(
                    f"{self.path}: its best step is {str(best)[:40]}, no number of steps; choose one with --checkpoint"
                )
            return present[-1] if best is None else best
        if not str(which).isdecimal() or int(which) not in present:
            raise UserError(
                f"{self.path} has no checkpoint {which}; it has best, last, {', '.join(map(str, present))}"
            )
        return int(which)

    def load_weights(self, which: str | int = "best", *, ema: bool = True) -> dict[str, Tensor]:
        """Verified weights of a checkpoint on the CPU: the averaged ones where there are any, unless `ema` is false."""
        path = checkpoints.place(self.checkpoints, self.step_of(which))
        try:
            return checkpoints.read_weights(path, ema=ema)
        except checkpoints.Damaged as error:
            raise UserError(
                f"{path} is damaged: {error}; choose another with --checkpoint"
            ) from error
