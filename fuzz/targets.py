"""Every reader that a user's file meets, with the valid files that it is fuzzed from."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuzz import seeds


@dataclass(frozen=True)
class Target:
    """One reader on one kind of file.

    name     also the file's ending: what stands behind the last "-" of it
    seeds    (a folder for scratch files) -> valid files
    read     what a user's file goes through
    form     how it is mutated, see mutate.py
    header   bytes in front of what the file is about
    """

    name: str
    seeds: Callable[[Path], Iterator[bytes]]
    read: Callable[[Path], Any]
    form: str = "binary"
    header: int = 32

    @property
    def suffix(self) -> str:
        """The ending of its files."""
        return "." + self.name.split("-")[-1]


def _image(path: Path) -> None:
    from isoform.core.errors import UserError
    from isoform.vision.data.images import look, read_image

    with suppress(UserError):
        look(path)
    read_image(path, None)


def _cloud(path: Path) -> None:
    from isoform.pointcloud.files.read import read_cloud

    read_cloud(path, ("x", "y", "z") if path.suffix == ".bin" else ())


def _table(path: Path) -> None:
    from isoform.core.data.read import read_table

    table = read_table(path)
    for name in table.names[:50]:
        table.cells(name)
        table.numbers(name)


def _series(path: Path) -> None:
    from isoform.timeseries.config import DataConfig
    from isoform.timeseries.data.read import read_file

    read_file(path, DataConfig(source="file", path=str(path)))


def _molecules(path: Path) -> None:
    from isoform.molecules.config import DataConfig
    from isoform.molecules.data.file import read_file

    found = read_file(path, DataConfig(path=str(path), targets=()))
    if found.smiles:
        for _ in _featuriser(os.getpid()).map([found.smiles]):
            pass


@functools.cache
def _featuriser(_: int) -> Any:
    """One process for all files of this one, which survives what RDKit crashes or hangs on, as in training."""
    from isoform.molecules.data.featurise import Options, processes_for

    return contextlib.ExitStack().enter_context(processes_for(1, Options(canonical=True)))


def _systems(path: Path) -> None:
    from isoform.molecules.systems.read import read_systems

    read_systems(path)


def _checkpoint(path: Path) -> None:
    from isoform.core.pretrained.checkpoint_file import read_checkpoint

    read_checkpoint(path)


def _pickle(path: Path) -> None:
    from isoform.core.pretrained.checkpoint_file import read_plain_pickle

    read_plain_pickle(path)


def _toml(path: Path) -> None:
    from isoform.core.config import resolve_app
    from isoform.vision import DOMAIN

    resolve_app("mine", domain=DOMAIN, apps_file=path)


def _json(path: Path) -> None:
    from isoform.core.config.state import RunState
    from isoform.core.errors import UserError
    from isoform.core.pretrained.hub import read_json
    from isoform.core.runs.folder import RunFolder

    with suppress(UserError):
        read_json(path, "fuzzed")
    run = RunFolder(path.parent)
    shutil.copyfile(path, path.parent / "task.json")
    shutil.copyfile(path, path.parent / "split.json")
    with suppress(UserError):
        run.split()
    run.state(RunState)


def _run_files(folder: Path) -> Iterator[tuple[str, bytes]]:
    """The files of a bundle, of a model that is small and true."""
    import torch

    from isoform.core.runs import checkpoint
    from isoform.core.runs.checkpoint import Checkpoint

    weights = {"head.weight": torch.arange(15.0).reshape(3, 5)}
    place = {"place": {"step": 7, "best_step": 7}}
    checkpoint.write(folder / "checkpoints", 7, Checkpoint(weights, None, {}, place))
    yield "config.toml", b'domain = "vision"\napp = "vit-mnist"\n'
    yield "task.json", seeds.JSON.encode()
    yield (
        "results.json",
        b'{"app": "vit-mnist", "domain": "vision", "metrics": {}, "baselines": {}}',
    )
    for file in sorted((folder / "checkpoints" / "step-0000007").iterdir()):
        yield f"checkpoints/step-0000007/{file.name}", file.read_bytes()


def _bundles(folder: Path) -> Iterator[bytes]:
    import io
    import zipfile

    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in _run_files(folder):
            archive.writestr(name, content)
    yield written.getvalue()


def _bundle(path: Path) -> None:
    from isoform.core.runs.exported import as_run
    from isoform.core.runs.folder import RunFolder

    beside = {file.name for file in path.parent.iterdir()}
    above = {file.name for file in path.parent.parent.iterdir()}
    try:
        with as_run(path) as folder:
            RunFolder(folder).load_weights("best")
    finally:
        escaped = {file.name for file in path.parent.iterdir()} - beside
        escaped |= {file.name for file in path.parent.parent.iterdir()} - above
        assert not escaped, f"written outside: {escaped}"


def _state_jsons(folder: Path) -> Iterator[bytes]:
    files = dict(_run_files(folder))
    inner = {name: content.decode("latin1") for name, content in files.items() if "step-" in name}
    yield json.dumps(inner).encode()


def _run_checkpoint(path: Path) -> None:
    """The files of a checkpoint as one JSON, so that manifest and tensors change together."""
    from isoform.core.errors import UserError
    from isoform.core.runs import checkpoint

    try:
        files = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return
    with tempfile.TemporaryDirectory(dir=path.parent) as made:
        place = Path(made) / "checkpoints" / "step-0000007"
        place.mkdir(parents=True)
        for name in ("manifest.json", "model.safetensors", "state.json", "state.safetensors"):
            content = (
                files.get(f"checkpoints/step-0000007/{name}") if isinstance(files, dict) else None
            )
            if isinstance(content, str):
                (place / name).write_bytes(content.encode("latin1", "replace"))
        try:
            checkpoint.read(place)
        except checkpoint.Damaged as error:
            raise UserError(str(error)) from error


def _all() -> Iterator[Target]:
    yield Target("png", lambda _: seeds.images("png"), _image, "png", 33)
    headers = {
        "jpeg": 160,
        "tiff": 64,
        "gif": 13,
        "bmp": 54,
        "webp": 30,
        "ppm": 12,
        "ico": 22,
        "npy": 128,
    }
    for kind, header in headers.items():
        yield Target(kind, lambda _, kind=kind: seeds.images(kind), _image, "binary", header)
    yield Target("dcm", lambda _: seeds.dicom(), _image, "binary", 132)
    forms = {
        "las": ("binary", 375), "laz": ("binary", 375), "ply": ("binary", 180), "pcd": ("binary", 150),
        "obj": ("text", 40), "off": ("text", 12), "stl": ("binary", 84), "xyz": ("text", 10), "npz": ("zip", 64),
        "h5": ("binary", 96), "bin": ("binary", 0),
    }  # fmt: skip
    for kind, (form, header) in forms.items():
        yield Target(
            f"cloud-{kind}", lambda f, kind=kind: seeds.clouds(kind, f), _cloud, form, header
        )
    yield Target("ply-text", lambda f: iter([next(seeds.clouds("ply", f))]), _ply_text, "text", 180)
    for kind, form, header in (
        ("csv", "text", 20),
        ("csv.gz", "gzip", 20),
        ("xlsx", "zip", 100),
        ("parquet", "binary", 4),
    ):
        yield Target(f"table-{kind}", lambda _, kind=kind: seeds.tables(kind), _table, form, header)
    yield Target("series-csv", lambda f: seeds.series("csv", f), _series, "text", 22)
    yield Target("series-nc", lambda f: seeds.series("nc", f), _series, "binary", 96)
    for kind, header in (("smi", 3), ("sdf", 80)):
        yield Target(
            f"molecules-{kind}",
            lambda _, kind=kind: seeds.molecules(kind),
            _molecules,
            "text",
            header,
        )
    for kind, header in (("cif", 9), ("xyz", 2), ("poscar", 5), ("sdf", 80)):
        yield Target(
            f"systems-{kind}", lambda _, kind=kind: seeds.molecules(kind), _systems, "text", header
        )
    for kind, form, header in (
        ("safetensors", "safetensors", 8),
        ("pt", "stored", 64),
        ("ckpt", "binary", 30),
        ("npz", "zip", 64),
    ):
        yield Target(
            f"weights-{kind}", lambda _, kind=kind: seeds.weights(kind), _checkpoint, form, header
        )
    yield Target("weights-pickle", lambda _: seeds.weights("pickle"), _pickle, "binary", 4)
    yield Target("config-toml", lambda _: iter([seeds.CONFIG.encode()]), _toml, "text", 15)
    yield Target("state-json", lambda _: iter([seeds.JSON.encode()]), _json, "text", 2)
    yield Target("run-json", _state_jsons, _run_checkpoint, "text", 2)
    yield Target("bundle-zip", _bundles, _bundle, "zip", 40)


def _ply_text(path: Path) -> None:
    _cloud(path.rename(path.with_suffix(".ply")))


TARGETS = {target.name: target for target in _all()}
