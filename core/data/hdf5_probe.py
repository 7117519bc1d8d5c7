"""Run as a script, `python -P hdf5_probe.py FILE SECONDS`: opens a file of HDF5 and reads what describes its numbers.

A damaged one can keep HDF5's C code busy for ever, where no signal of Python's arrives; so this is a process that the
system ends after so many seconds of the processor.
"""

import sys

try:
    import resource
except ImportError:  # not on this system
    resource = None  # type: ignore[assignment]


def main(path: str, seconds: int) -> None:
    """Visits every group and data set. Raises what h5py does."""
    import h5py

    if resource is not None:
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    def look(_: str, item: h5py.HLObject) -> None:
        for name in item.attrs:
            item.attrs.get(name)
        for axis in getattr(item, "dims", ()):
            len(axis)

    with h5py.File(path, "r") as file:
        look("/", file)
        file.visititems(look)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
