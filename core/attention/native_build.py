"""The compiled attention of `native.c`: built once by the machine's own C compiler, kept in the user's cache, loaded.

Nothing needs it. Where there is no compiler, or building fails, one reason is remembered and other implementations
serve. ISOFORM_NATIVE=0 turns it off; CC names a compiler of one's own.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).with_name("native.c")
# gnu11, since C11 alone would round between a product and its sum, at a third of the speed.
FLAGS = ("-O3", "-march=native", "-std=gnu11", "-fPIC", "-shared")
COMPILERS = ("cc", "gcc", "clang")
SECONDS = 120  # that a compiler may take


class Native(NamedTuple):
    """The library, or why there is none, as the end of a sentence."""

    library: ctypes.CDLL | None
    why_not: str = ""


@cache
def native() -> Native:
    """The library, built if it isn't there yet. What comes out is remembered for the process."""
    if os.environ.get("ISOFORM_NATIVE") == "0":
        return Native(None, "ISOFORM_NATIVE=0 turns the compiled attention off")
    if (compiler := find_compiler()) is None:
        return Native(None, f"there is no C compiler ($CC, {', '.join(COMPILERS)})")
    try:
        return Native(_load(compiler))
    except (OSError, subprocess.SubprocessError, UnicodeError) as error:
        return Native(None, f"its C source can't be compiled here ({_told(error)})")


def find_compiler() -> list[str] | None:
    """The C compiler's command: $CC if that is set and there, else the first of `COMPILERS`; None without any."""
    for command in (os.environ.get("CC", ""), *COMPILERS):
        words = shlex.split(command)
        if words and shutil.which(words[0]):
            return words
    return None


def cache_folder() -> Path:
    """The user's folder for compiled code, made if need be. Raises OSError where it is somebody else's."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "isoform"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    # What lies there is loaded as code: nobody else may have written it.
    if not folder.is_dir() or folder.is_symlink() or found.st_uid != os.getuid():
        raise PermissionError(f"{folder} isn't a folder of this user's own")
    if found.st_mode & 0o077:
        folder.chmod(0o700)
    return folder


def library_path(compiler: list[str]) -> Path:
    """Where the library is kept: another source, compiler, set of flags or processor is another file."""
    version = _run([*compiler, "--version"])
    facts = (SOURCE.read_text(encoding="utf-8"), version, *compiler, *FLAGS, _processor())
    name = hashlib.sha256("\0".join(facts).encode()).hexdigest()
    return cache_folder() / f"attention-{name}.so"


def _load(compiler: list[str]) -> ctypes.CDLL:
    path = library_path(compiler)
    if path.exists():
        try:
            return _opened(path)
        except (OSError, AttributeError):
            pass  # cut off or no library at all: it is built again
    _build(compiler, path)
    try:
        return _opened(path)
    except AttributeError as error:
        raise OSError(str(error)) from error


def _opened(path: Path) -> ctypes.CDLL:
    if path.stat().st_uid != os.getuid():
        raise PermissionError(f"{path} isn't this user's own")
    library = ctypes.CDLL(str(path))
    number = ctypes.c_int64
    library.isoform_attention.argtypes = [ctypes.c_void_p, number, number, number]
    library.isoform_attention.restype = ctypes.c_int
    library.isoform_large_pages.argtypes = [ctypes.c_void_p, number]
    library.isoform_large_pages.restype = None
    return library


def _build(compiler: list[str], path: Path) -> None:
    """Under a name of its own first, so that no process meets half a file."""
    handle, temporary = tempfile.mkstemp(suffix=".so", dir=path.parent)
    os.close(handle)
    try:
        _run([*compiler, *FLAGS, "-o", temporary, str(SOURCE), "-lm"])
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _run(command: list[str]) -> str:
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=True,
        stdin=subprocess.DEVNULL,
    )
    return done.stdout


def _processor() -> str:
    """What -march=native looks at: a cache folder may be shared by unlike machines."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text(encoding="utf-8").splitlines() if told.exists() else []
    kinds = ("model name", "flags", "Features", "CPU part")
    found = sorted({line for line in lines if line.startswith(kinds)})
    return "\n".join([platform.machine(), platform.processor(), *found])


def _told(error: Exception) -> str:
    """The first line that says something."""
    said = getattr(error, "stderr", None) or str(error)
    return next((line.strip() for line in said.splitlines() if line.strip()), type(error).__name__)
