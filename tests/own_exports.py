"""A run's own exports, read back by everything that reads a run: for the tests of every domain."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

import isoform
from commands import exit_code
from isoform.core import api
from isoform.core.config import load_run_config
from isoform.core.domain import AnyDomain
from isoform.core.engine.warm_start import initial_weights
from isoform.core.runs.folder import RunFolder


def assert_exports_come_back(
    domain: AnyDomain, run: Path, inputs: Sequence[Any], folder: Path
) -> None:
    """Bundle and .safetensors predict, embed and start a training like the run, imported too; others may read them."""
    want = isoform.load(run)
    rows, features = want.predict(inputs), want.embed(inputs)
    assert not any(row["error"] for row in rows)
    umask = os.umask(0o022)
    os.umask(umask)
    for kind, name in (("bundle", "run.zip"), ("safetensors", "run.safetensors")):
        out = folder / name
        api.export(domain, run, kind, out)
        assert stat.S_IMODE(out.stat().st_mode) == 0o666 & ~umask, kind
        start = initial_weights(cast(Any, None), str(out))  # what --init reads
        weights = RunFolder(run).load_weights()
        assert start.domain == domain.name and start.weights.keys() == weights.keys(), kind
        assert all(torch.equal(start.weights[name], weights[name]) for name in weights), kind
        imported = folder / f"imported-{kind}"
        words = [domain.name, "import", str(out), "--out", str(imported)]
        assert exit_code(*words) == 0
        for again in (out, imported):
            found = isoform.load(again)
            assert found.predict(inputs) == rows, (kind, again.name)
            np.testing.assert_array_equal(found.embed(inputs), features)
        seen = RunFolder(run).seen()  # what it was trained on goes along, and on
        np.testing.assert_array_equal(RunFolder(imported).seen(), seen)
        if seen is not None:
            task = domain.task(domain.prepare(load_run_config(run, domain)))
            start = initial_weights(task, str(out))
            assert start.source == name
            np.testing.assert_array_equal(start.seen, seen)
        words = [domain.name, "embed", str(out), *map(str, inputs), "--out", f"{out}.npz"]
        assert exit_code(*words) == 0
        arrays = np.load(f"{out}.npz", allow_pickle=False)
        (matrix,) = (arrays[key] for key in arrays.files if arrays[key].ndim == 2)
        np.testing.assert_array_equal(matrix, features)
