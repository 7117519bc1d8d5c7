"""sdist -> wheel -> an environment of its own: what a user who never saw this folder gets."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ["core", "vision", "pointcloud", "timeseries", "molecules"]


def run(*command: str | Path, cwd: Path) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sdist")
    run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", out, cwd=ROOT)
    return next(out.glob("*.tar.gz"))


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the sdist alone, with the build backend that is already here, so that no network is needed."""
    out = tmp_path_factory.mktemp("wheel")
    offline = ["--no-deps", "--no-index", "--no-build-isolation"]
    run(sys.executable, "-m", "pip", "wheel", *offline, "-w", out, sdist, cwd=out)
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the commands of a new environment: the wheel is its own, every dependency the running one's."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    run(
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "--no-deps",
        "--no-index",
        wheel,
        cwd=folder,
    )
    # Behind the environment's own packages, and without acting on the .pth file of an editable install there.
    site = Path(
        run(
            python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder
        ).strip()
    )
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return folder / "bin"


def shipped() -> set[str]:
    """Every file of the package as the wheel should hold it, read from the real folders."""
    files = {f"isoform/{p.name}": p for p in (ROOT / "src" / "isoform").iterdir() if p.is_file()}
    for folder in [*FOLDERS, "zoo"]:
        files |= {
            f"isoform/{p.relative_to(ROOT).as_posix()}": p
            for p in (ROOT / folder).rglob("*")
            if p.is_file()
        }
    return {name for name in files if "__pycache__" not in name and "_cache/" not in name}


def test_sdist_holds_each_file_once_under_src(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = [name.split("/", 1)[1] for name in archive.getnames()]
        links = {
            member.name.split("/", 1)[1]: member.linkname for member in archive if member.issym()
        }
    assert len(names) == len(set(names))
    assert {f"src/{name}" for name in shipped()} <= set(names)
    assert not [n for n in names if n.split("/")[0] in (*FOLDERS, "tests", "docs", "runs")]
    assert {"LICENSE", "README.md", "pyproject.toml", "apps.toml"} <= set(names)
    assert links == {"src/isoform/apps.toml": "../../apps.toml"}, (
        "a linked folder instead of its files"
    )


def test_wheel_is_complete_and_takes_no_generic_name(wheel: Path) -> None:
    names = {n for n in zipfile.ZipFile(wheel).namelist() if not n.endswith("/")}
    assert {n for n in names if n.startswith("isoform/")} == shipped()
    assert {"isoform/apps.toml", "isoform/py.typed", "isoform/__main__.py"} <= names
    assert {n.split("/")[0] for n in names} == {
        "isoform",
        wheel.name.split("-py3")[0] + ".dist-info",
    }
    assert re.fullmatch(r"isoform-[\d.]+-py3-none-any\.whl", wheel.name)
    assert any(n.endswith(".dist-info/licenses/LICENSE") for n in names)


def test_installed_command_works_from_another_folder(installed: Path, tmp_path: Path) -> None:
    code = "import importlib.metadata as m, isoform; print(isoform.__file__, isoform.__version__, m.version('isoform'))"
    where, version, distribution = run(installed / "python", "-c", code, cwd=tmp_path).split()
    assert Path(where).is_relative_to(installed.parent)
    assert version == distribution
    assert "vision" in run(installed / "isoform", "--help", cwd=tmp_path)
    assert "vit-mnist" in run(installed / "isoform", "apps", cwd=tmp_path)
    apps = run(installed / "isoform", "apps", "--json", cwd=tmp_path)
    assert "vit-mnist-demo" in json.dumps(json.loads(apps.splitlines()[-1]))
    assert not list(tmp_path.iterdir()), "listing apps leaves nothing behind"


def test_installed_package_leaves_generic_names_alone(installed: Path, tmp_path: Path) -> None:
    code = "import importlib.util as u; print([n for n in %r if u.find_spec(n)])" % [
        *FOLDERS,
        "tests",
    ]
    assert run(installed / "python", "-I", "-c", code, cwd=tmp_path).strip() == "[]"
