"""predict == predictions.* == the exported file read back by itself: what the tests of every domain ask of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase

import isoform
from commands import exit_code
from isoform.core import api
from isoform.core.domain import AnyDomain
from isoform.core.errors import UserError
from isoform.core.inference.run_model import load_trained
from isoform.core.inference.verify import read_back

NAMES = {
    "bundle": "run.zip",
    "safetensors": "run.safetensors",
    "onnx": "run.onnx",
    "openvino": "run.xml",
}

Row = Mapping[str, Any]


def assert_exports_agree(
    domain: AnyDomain, run: Path, inputs: Sequence[str], folder: Path, kind: str
) -> None:
    """The exported file, read back by itself, has the run's rows: those of a bundle bit for bit."""
    rows = isoform.load(run).predict(domain.expand_inputs(inputs))
    assert rows and not any(row["error"] for row in rows)
    out = folder / NAMES[kind]
    agreement = api.export(domain, run, kind, out, verify=inputs)
    assert agreement is not None and agreement.largest_output > 0
    found = domain.predictor(read_back(domain, load_trained(domain, run), kind, out))
    again = found.predict(domain.expand_inputs(inputs))
    if kind == "bundle":
        assert again == rows and agreement.largest_difference == 0
    assert_rows_close(again, rows)


def assert_rows_close(found: Sequence[Row], rows: Sequence[Row], relative: float = 1e-5) -> None:
    """Numbers within a share of the largest of their column (a probability's is 1), everything else the same.

    A graph tells nothing of intervals and of nearest samples: columns that only `rows` have are let pass.
    """
    assert len(found) == len(rows)
    assert any(name.startswith(("prediction", "mean")) for name in found[0])
    for column in found[0]:
        ours, theirs = ([row[column] for row in table] for table in (rows, found))
        if not all(isinstance(value, float) for value in ours):
            assert theirs == ours, column
            continue
        scale = 1.0 if is_share(column) else max(map(abs, ours))
        np.testing.assert_allclose(theirs, ours, rtol=0, atol=relative * scale, err_msg=column)


def is_share(column: str) -> bool:
    """Whether a column's numbers are between 0 and 1."""
    return column.startswith(("p ", "probability"))


def assert_a_changed_weight_is_seen(
    domain: AnyDomain, run: Path, inputs: Sequence[str], folder: Path, kind: str, capsys: Any
) -> None:
    """`export --verify` writes a file and tells the difference; with one weight of it changed it exits with 2."""
    out = folder / NAMES[kind]
    words = [domain.name, "export", str(run), "--format", kind, "--out", str(out), "--verify"]
    words += inputs
    assert exit_code(*words) == 0
    assert "answers as the run does on" in capsys.readouterr().out
    before = out.stat().st_mtime_ns
    assert exit_code(*words) == 0  # verified as it is
    assert out.stat().st_mtime_ns == before
    CHANGES[kind](out)
    assert exit_code(*words) == 2
    said = capsys.readouterr().err
    assert out.name in said and "Traceback" not in said, said
    out.unlink()


def change_safetensors(path: Path) -> None:
    """One number of the head's weight."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(path, "pt") as file:
        metadata = file.metadata()
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    name = next(name for name in weights if name.startswith("head.") and name.endswith("weight"))
    weights[name].view(-1)[0] += 0.5
    save_file(weights, path, metadata)


def change_bundle(path: Path) -> None:
    """One byte of the weights, behind the manifest's back."""
    import shutil
    import zipfile

    old = path.with_suffix(".old")
    shutil.move(path, old)
    with zipfile.ZipFile(old) as given, zipfile.ZipFile(path, "w") as made:
        for one in given.namelist():
            content = bytearray(given.read(one))
            if one.endswith("model.safetensors"):
                content[-1] ^= 1
            made.writestr(one, bytes(content))


def change_onnx(path: Path) -> None:
    """One number of the last matrix."""
    import onnx
    from onnx import numpy_helper

    proto = onnx.load(path)
    matrices = [one for one in proto.graph.initializer if len(one.dims) == 2]
    last = next(one for one in reversed(matrices) if one.data_type == onnx.TensorProto.FLOAT)
    values = numpy_helper.to_array(last).copy()
    values.ravel()[0] += 2.0
    last.CopyFrom(numpy_helper.from_array(values, last.name))
    onnx.save(proto, path)


CHANGES = {"safetensors": change_safetensors, "bundle": change_bundle, "onnx": change_onnx}


ONCE = (Phase.explicit, Phase.generate)  # a failure isn't made smaller: each try trains


def assert_caught(check: Any) -> None:
    """A check of one answer fails, by its own words or in a sentence."""
    with pytest.raises((AssertionError, UserError)):
        check()
