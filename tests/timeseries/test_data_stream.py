"""Windows read from a store, block by block: the same bits as from memory, few reads, and bounded memory."""

from collections import Counter
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
import zarr
from torch.utils.data import DataLoader

from checks import assert_same_bits
from isoform.core.errors import UserError
from isoform.timeseries.data import rows
from isoform.timeseries.data.read import read_panel
from isoform.timeseries.data.rows import DiskRows
from isoform.timeseries.data.windows import WindowData

from .panels import app, panel, series, walk, with_gaps

L, H, V = 11, 5, 7
CHUNK = 13


class Counting(zarr.storage.WrapperStore):
    """A store that remembers how often each chunk of the targets was read, and fails when told to."""

    reads: ClassVar[Counter] = Counter()  # of the class: zarr opens copies of a store
    broken = False

    async def get(self, key, *args, **keywords):
        if key.startswith("target/c/"):
            if self.broken:
                raise OSError("gone")
            self.reads[int(key.split("/")[2])] += 1
        return await super().get(key, *args, **keywords)


def stored(made, tmp_path, chunk=CHUNK, name="store"):
    """The Dataset written in chunks of some rows and opened lazily."""
    names = ("variate", "past", "known", "static")
    for kind in (kind for kind in names if kind in made.coords):
        made = made.assign_coords(
            {kind: np.arange(made.sizes[kind])}
        )  # numbers: text has no fixed form in Zarr yet
    made.to_zarr(
        tmp_path / name,
        encoding={"target": {"chunks": (chunk, made.sizes["variate"])}},
        consolidated=False,
    )
    Counting.reads.clear()
    lazy = xr.open_zarr(
        Counting(zarr.storage.LocalStore(tmp_path / name)), chunks=None, consolidated=False
    )
    letters = {"variate": "v", "past": "p", "known": "k", "static": "s"}
    return lazy.assign_coords({
        kind: [f"{letters[kind]}{i}" for i in range(lazy.sizes[kind])] for kind in names if kind in lazy.coords
    })  # fmt: skip


def small(monkeypatch, block, held):
    """Blocks and memory in bytes."""
    monkeypatch.setattr(rows, "BLOCK_BYTES", block)
    monkeypatch.setattr(rows, "HELD_BYTES", held)


ROW = 4 * (V + 4)  # bytes of a row: 7 variates and 4 marks


@pytest.fixture
def both(tmp_path, monkeypatch):
    """The same gappy series of 1009 rows in memory and on a disk, with blocks of one chunk and room for 16 of them."""
    small(monkeypatch, CHUNK * ROW, 16 * CHUNK * ROW)
    values = with_gaps(walk(1009, V), 0.05).astype(np.float32)
    lazy = stored(series(values), tmp_path)
    memory = WindowData(app(L, H), panel(series(values)))
    disk = WindowData(app(L, H, stream="disk"), panel(lazy))
    return memory, disk


def test_memory_and_disk_agree_bit_for_bit(both):
    memory, disk = both
    assert disk.scaling == memory.scaling and disk.sizes() == memory.sizes() and disk.has_missing
    rng = np.random.default_rng(0)
    for split, count in memory.sizes().items():
        for size in (1, 17, min(count, 150)):  # the last needs more than fits at a time
            chosen = rng.permutation(count)[:size]
            assert_same_bits(disk.batch(split, chosen), memory.batch(split, chosen))
    pairs = [(0, 1009), (0, L), (0, 1007)]
    assert_same_bits(disk.at(pairs), memory.at(pairs))


def test_a_batch_depends_on_its_numbers_alone(both):
    _, disk = both
    fresh = disk.batch("train", [5, 400, 6])
    for other in disk.batches("train", 31, np.random.default_rng(1)):
        disk.batch("train", other)
    assert_same_bits(disk.batch("train", [5, 400, 6]), fresh)


def test_covariates_holidays_and_several_series_agree_too(tmp_path, monkeypatch):
    small(monkeypatch, 900, 9000)
    members = [
        series(
            walk(rows_, V, i),
            past=walk(rows_, 2, 9),
            known=walk(rows_ + 3, 3, 8),
            static=[i],
            start="2024-12-01",
        )
        for i, rows_ in enumerate((101, 29, 211))
    ]
    on_disk = [stored(member, tmp_path, name=f"store{i}") for i, member in enumerate(members)]
    settings = {"calendar": "future", "holidays": "NZ", "max_missing": 0.3}
    memory = WindowData(app(L, H, **settings), panel(*members, tz="Pacific/Auckland"))
    disk = WindowData(app(L, H, stream="disk", **settings), panel(*on_disk, tz="Pacific/Auckland"))
    assert disk.scaling == memory.scaling and isinstance(disk.rows, DiskRows)
    for split, count in memory.sizes().items():
        assert_same_bits(disk.batch(split, np.arange(count)), memory.batch(split, np.arange(count)))
    pairs = [(0, 101), (1, 29), (2, 209)]
    assert_same_bits(disk.at(pairs), memory.at(pairs))
    assert disk.missing_future(0, 101) == memory.missing_future(0, 101) == ["k0", "k1", "k2"]


def test_fitting_reads_every_chunk_once(both):
    _, disk = both
    assert disk.sizes()["train"] == 706 - L - H + 1 - disk.left_out
    assert Counting.reads == {chunk: 1 for chunk in range(-(-1009 // CHUNK))}


def test_evaluation_reads_every_chunk_once(both):
    _, disk = both
    Counting.reads.clear()
    for batch in disk.batches("test", 23, None):
        disk.batch("test", batch)
    first = (807 - L) // CHUNK
    assert Counting.reads == {chunk: 1 for chunk in range(first, -(-1009 // CHUNK))}


def test_an_epoch_reads_a_chunk_once_and_again_only_where_groups_meet(both):
    _, disk = both
    group, pool = disk.rows.group_rows()
    assert (group, pool) == (13 * CHUNK, 1)  # 16 blocks fit, 3 may be shared with the next group
    Counting.reads.clear()
    order = []
    for batch in disk.batches("train", 5, np.random.default_rng(3)):
        disk.batch("train", batch)
        order += list(batch)
    assert sorted(order) == list(range(disk.sizes()["train"])) and order != sorted(order)
    chunks = -(-706 // CHUNK)
    groups = -(-706 // group)
    assert set(Counting.reads) == set(range(chunks))
    assert sum(Counting.reads.values()) <= chunks + groups * disk.rows.tail + 6


def test_memory_is_set_aside_once_and_stays_so(both):
    _, disk = both
    for batch in disk.batches("train", 200, np.random.default_rng(0)):
        disk.batch("train", batch)
    held = sum(array.nbytes for array in disk.rows.arena.values())
    assert held == 16 * CHUNK * ROW and len(disk.rows.used) == 16


def test_several_places_are_drawn_at_a_time_where_memory_allows(tmp_path, monkeypatch):
    small(monkeypatch, CHUNK * ROW, 128 * CHUNK * ROW)
    lazy = stored(series(walk(2503, V)), tmp_path)
    disk = WindowData(app(L, H, stream="disk"), panel(lazy))
    assert disk.rows.group_rows() == (13 * CHUNK, rows.POOL)
    batch = disk.batches("train", 64, np.random.default_rng(0))[0]
    places = {row // (13 * CHUNK) for _, row in disk.where("train", batch).tolist()}
    assert len(places) == rows.POOL
    other = disk.batches("train", 64, np.random.default_rng(1))[0]
    assert sorted(batch) != sorted(other)
    Counting.reads.clear()
    for numbers in disk.batches("train", 64, np.random.default_rng(0)):
        disk.batch("train", numbers)
    assert sum(Counting.reads.values()) <= 1.35 * len(Counting.reads)


def test_block_follows_the_chunks_of_the_store(tmp_path, monkeypatch):
    small(monkeypatch, 40 * ROW, 1)
    lazy = stored(series(walk(211, V)), tmp_path)
    disk = WindowData(app(L, H, stream="disk"), panel(lazy))
    assert disk.rows.block == 3 * CHUNK  # 40 rows would be right
    assert disk.rows.slots == 2 * disk.rows.tail  # however little memory there is
    monkeypatch.setattr(rows, "CHUNK_BYTES", 12 * ROW)
    with pytest.raises(
        UserError, match=r"chunks of 13 rows take 0 MiB each.*at most 12 rows a chunk"
    ):
        WindowData(app(L, H, stream="disk"), panel(lazy))


def test_a_failed_read_leaves_nothing_behind(both, monkeypatch):
    memory, disk = both
    disk.batch("train", np.arange(200))  # all slots are taken

    monkeypatch.setattr(Counting, "broken", True)
    with pytest.raises(OSError, match="gone"):
        disk.batch("test", [50])
    monkeypatch.undo()
    for split in ("test", "train"):
        assert_same_bits(disk.batch(split, np.arange(150)), memory.batch(split, np.arange(150)))


def test_what_is_streamed(tmp_path, monkeypatch):
    made = series(walk(211, V))
    lazy = stored(made, tmp_path)
    assert not WindowData(app(L, H), panel(lazy)).on_disk
    assert WindowData(app(L, H, stream="disk"), panel(made)).on_disk
    monkeypatch.setattr(rows, "STREAM_BYTES", 211 * V * 8 - 1)
    assert WindowData(app(L, H), panel(lazy)).on_disk
    assert not WindowData(app(L, H, stream="memory"), panel(lazy)).on_disk
    assert not WindowData(app(L, H), panel(made)).on_disk
    with pytest.raises(ValueError, match="streamed from the disk"):
        WindowData(app(L, H), panel(lazy)).scaled(0)


def test_forecasting_behind_the_end_reads_no_more_than_it_needs(both):
    memory, disk = both
    again = WindowData(app(L, H, stream="disk"), disk.panel, memory.scaling)
    Counting.reads.clear()
    assert_same_bits(again.at([(0, 1009)]), memory.at([(0, 1009)]))
    assert set(Counting.reads) == {(1009 - L) // CHUNK, 1008 // CHUNK}


def test_a_store_on_the_disk_through_the_reader(tmp_path, monkeypatch):
    """With a hole in its time axis, and rows that come twice."""
    small(monkeypatch, CHUNK * ROW, 16 * CHUNK * ROW)
    kept = np.delete(np.arange(307), np.s_[100:117])
    kept = np.insert(kept, 40, kept[40])
    time = pd.date_range("2024-04-02", periods=307, freq="h")[kept]
    values = walk(307, V)[kept].astype(np.float32)
    xr.Dataset(
        {f"m{i}": ("time", column) for i, column in enumerate(values.T)}
        | {"wind": ("time", walk(307, 1, 3)[kept, 0])},
        {"time": time},
    ).to_zarr(
        tmp_path / "file.zarr",
        encoding={f"m{i}": {"chunks": (CHUNK,)} for i in range(V)},
        consolidated=False,
    )
    made = {}
    for stream in ("memory", "disk"):
        config = app(
            L,
            H,
            path=str(tmp_path / "file.zarr"),
            known_future=["wind"],
            stream=stream,
            tz="Europe/Berlin",
        )
        made[stream] = WindowData(config, read_panel(config.data))
    memory, disk = made["memory"], made["disk"]
    assert isinstance(disk.rows, DiskRows) and disk.rows.block == CHUNK and not memory.on_disk
    assert disk.scaling == memory.scaling and disk.variates == memory.variates
    assert int(disk.panel.first.attrs["rows"]) == 307 and disk.has_missing
    for split, count in memory.sizes().items():
        assert_same_bits(disk.batch(split, np.arange(count)), memory.batch(split, np.arange(count)))


class Read(torch.utils.data.Dataset):
    def __init__(self, data):
        self.data = data

    def __getitem__(self, indices):
        return self.data.batch("train", indices)


@pytest.mark.parametrize("workers", [1, 2])
def test_forked_loaders_read_the_same(both, workers):
    memory, disk = both
    disk.batch("train", [0])  # the store's own threads run by now
    batches = disk.batches("train", 100, np.random.default_rng(0))
    loader = DataLoader(
        Read(disk),
        batch_size=None,
        sampler=batches,
        num_workers=workers,
        multiprocessing_context="fork",
        timeout=60,
    )
    for numbers, found in zip(batches, loader, strict=True):
        assert_same_bits(found, memory.batch("train", numbers))
