"""Ray's workers as the processes of a run. Without Ray a sentence says so."""

import importlib.util
import os
import subprocess
import sys

import pytest
import toy

import on_ray
from isoform.core.engine.ray_train import train_on_ray
from isoform.core.engine.train import train
from isoform.core.errors import UserError
from isoform.core.runs.folder import RunFolder

THERE = importlib.util.find_spec("ray") is not None
LIMIT = 400.0  # seconds; it takes 60 beside another test, mostly imports in Ray's processes


def test_without_ray_a_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install 'isoform\[ray\]'"):
        train_on_ray(lambda: None, 2)


@pytest.mark.skipif(not THERE, reason="Ray isn't installed: pip install 'isoform[ray]'")
def test_two_workers_end_with_the_metrics_of_one_process(tmp_path):
    """In a process of its own: Ray's threads stay in one that called it, and this one goes on to fork."""
    train(toy.SteadyTask(toy.app(epochs=2)), RunFolder(tmp_path / "alone"), progress=False)
    script = [sys.executable, on_ray.__file__, str(tmp_path / "run")]
    threads_untold = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    with open(tmp_path / "said", "w") as out:  # no pipe: Ray's processes hold it open when killed
        try:
            code = subprocess.run(
                script, stdout=out, stderr=out, env=threads_untold, timeout=LIMIT
            ).returncode
        except subprocess.TimeoutExpired:
            code = None
    said = (tmp_path / "said").read_text()
    if code == on_ray.UNABLE or (code is None and on_ray.READY not in said):
        pytest.skip(f"Ray's node doesn't start on this machine: {said[-300:]}")
    assert code == 0, said
    ours, theirs = (RunFolder(tmp_path / name).results()["metrics"] for name in ("run", "alone"))
    for split, metrics in theirs.items():
        assert ours[split] == pytest.approx(metrics, rel=1e-4)
