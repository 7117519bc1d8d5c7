"""Valid small files of every kind, from which mutations start: written by the libraries that users write them with."""

from __future__ import annotations

import gzip
import io
import json
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

RNG = np.random.default_rng(7)
POINTS = RNG.normal(size=(37, 3)).astype(np.float32)


def _image(kind: str, mode: str = "RGB", **settings: Any) -> bytes:
    from PIL import Image

    shape = (11, 13) if mode in ("L", "I;16") else (11, 13, len(mode))
    dtype = np.uint16 if mode == "I;16" else np.uint8
    pixels = RNG.integers(0, 255, shape, dtype=np.uint8).astype(dtype)
    image = Image.fromarray(pixels)
    written = io.BytesIO()
    image.save(written, kind, **settings)
    return written.getvalue()


def images(kind: str) -> Iterator[bytes]:
    """As a camera, a scanner or a browser has them."""
    if kind == "png":
        yield _image("PNG")
        yield _image("PNG", "RGBA")
        yield _image("PNG", "I;16")
    elif kind == "jpeg":
        yield _image("JPEG", quality=80)
        yield _image("JPEG", "L", progressive=True)
    elif kind == "tiff":
        yield _image("TIFF")
        yield _image("TIFF", "L", compression="tiff_lzw")
        yield from _tifffile()
    elif kind == "npy":
        yield from _saved(np.save, POINTS, RNG.integers(0, 255, (11, 13, 3), dtype=np.uint8))
    else:
        modes = {
            "gif": ("L",),
            "bmp": ("RGB", "L"),
            "webp": ("RGB",),
            "ppm": ("RGB",),
            "ico": ("RGBA",),
        }
        for mode in modes[kind]:
            yield _image(kind.upper(), mode)


def _tifffile() -> Iterator[bytes]:
    import tifffile

    arrays = (
        RNG.random((11, 13, 5)).astype(np.float32),
        RNG.integers(0, 9, (11, 13), dtype=np.uint16),
    )
    for array, packing in zip(arrays, ("zlib", None), strict=True):
        written = io.BytesIO()
        planes = "contig" if array.ndim == 3 else None
        tifffile.imwrite(
            written, array, photometric="minisblack", planarconfig=planes, compression=packing
        )
        yield written.getvalue()


def dicom() -> Iterator[bytes]:
    """A small CT-like image."""
    import pydicom
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["isoform"])
    one = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    one.Rows, one.Columns, one.SamplesPerPixel, one.PhotometricInterpretation = (
        11,
        13,
        1,
        "MONOCHROME2",
    )
    one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 12, 11, 0
    one.RescaleSlope, one.RescaleIntercept = "2", "-1024"
    one.PixelData = RNG.integers(0, 4000, (11, 13), dtype=np.uint16).tobytes()
    written = io.BytesIO()
    one.save_as(written, enforce_file_format=True)
    yield written.getvalue()


def _saved(save: Callable[..., Any], *arrays: Any) -> Iterator[bytes]:
    for array in arrays:
        written = io.BytesIO()
        save(written, **array) if isinstance(array, dict) else save(written, array)
        yield written.getvalue()


def clouds(kind: str, folder: Path) -> Iterator[bytes]:
    """Points with a field or two, or a mesh."""
    if kind in ("las", "laz"):
        yield from _las(kind, folder)
    elif kind == "ply":
        yield from _ply(folder)
    elif kind == "pcd":
        yield from _pcd()
    elif kind in ("obj", "off", "stl"):
        import trimesh

        mesh = trimesh.creation.icosahedron()
        made = mesh.export(file_type=kind)
        yield made.encode() if isinstance(made, str) else made
        if kind == "stl":
            yield mesh.export(file_type="stl_ascii").encode()
    elif kind == "xyz":
        rows = "\n".join(" ".join(f"{x:.4f}" for x in row) for row in POINTS.tolist())
        yield rows.encode()
        yield f"x,y,z,label\n{rows.replace(' ', ',').replace(chr(10), ',1' + chr(10))},1\n".encode()
    elif kind == "npz":
        yield from _saved(np.savez, {"points": POINTS, "label": np.arange(37)})
        yield from _saved(np.savez_compressed, {"xyz": POINTS, "label": np.arange(37)})
    elif kind == "h5":
        yield from _h5(folder)
    else:
        yield POINTS.tobytes() + b"".join([POINTS.tobytes()[:48]])


def _las(kind: str, folder: Path) -> Iterator[bytes]:
    import laspy

    for version, form in (("1.2", 3), ("1.4", 7)):
        las = laspy.LasData(laspy.LasHeader(version=version, point_format=form))
        las.x, las.y, las.z = POINTS.T.astype(np.float64)
        las.add_extra_dim(laspy.ExtraBytesParams("height", "f4"))
        las["height"] = POINTS[:, 2]
        path = folder / f"one.{kind}"
        las.write(path)
        yield path.read_bytes()


def _ply(folder: Path) -> Iterator[bytes]:
    import plyfile

    rows = np.array([tuple(row) for row in POINTS], [("x", "f4"), ("y", "f4"), ("z", "f4")])
    face = np.array([([0, 1, 2],), ([2, 3, 4],)], [("vertex_indices", "i4", (3,))])
    parts = [plyfile.PlyElement.describe(rows, "vertex"), plyfile.PlyElement.describe(face, "face")]
    for as_text in (True, False):
        path = folder / "one.ply"
        plyfile.PlyData(parts, text=as_text).write(str(path))
        yield path.read_bytes()


def _pcd() -> Iterator[bytes]:
    import lzf

    head = (
        "# .PCD v0.7\nVERSION 0.7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\nWIDTH 37\nHEIGHT 1\n"
        "VIEWPOINT 0 0 0 1 0 0 0\nPOINTS 37\nDATA "
    )
    yield (
        head + "ascii\n" + "\n".join(" ".join(map(str, row)) for row in POINTS.tolist())
    ).encode()
    yield (head + "binary\n").encode() + POINTS.tobytes()
    flat = np.zeros((37, 3), np.float32).T.tobytes()
    small = lzf.compress(flat)
    sizes = np.array([len(small), len(flat)], "<u4").tobytes()
    yield (head + "binary_compressed\n").encode() + sizes + small


def _h5(folder: Path) -> Iterator[bytes]:
    import h5py

    for packing in (None, "gzip"):
        path = folder / "one.h5"
        with h5py.File(path, "w") as file:
            file.create_dataset("data", data=POINTS, compression=packing)
            file.create_dataset("label", data=np.arange(37))
        yield path.read_bytes()


CSV = (
    "id;date;size;weight;smiles\n"
    + "\n".join(f"a{k};2024-01-{k:02d};{k},5;{k * 1.5} kg;CCO" for k in range(1, 20))
).encode()
SERIES = ("time,load,temperature\n" + "\n".join(
    f"2024-01-{1 + k // 24:02d} {k % 24:02d}:00,{100 + k % 24}.5,{k % 7 - 3}" for k in range(120)
)).encode()  # fmt: skip


def tables(kind: str) -> Iterator[bytes]:
    """As people save them."""
    import pandas as pd

    frame = pd.DataFrame(
        {"id": [f"a{k}" for k in range(11)], "size": np.arange(11) * 0.5, "n": range(11)}
    )
    if kind == "csv":
        yield CSV
        yield SERIES
        yield b'a,b\n"x, ""y""",1\n"two\nlines",2\n'
    elif kind == "csv.gz":
        yield gzip.compress(CSV, mtime=0)
    else:
        written = io.BytesIO()
        (frame.to_excel if kind == "xlsx" else frame.to_parquet)(written, index=False)
        yield written.getvalue()


def series(kind: str, folder: Path) -> Iterator[bytes]:
    """Of hours."""
    if kind == "csv":
        yield SERIES
        return
    import pandas as pd
    import xarray

    hours = pd.date_range("2024-01-01", periods=60, freq="h")
    values = ("time", np.arange(60.0))
    path = folder / "one.nc"
    xarray.Dataset({"load": values, "wind": values}, {"time": hours}).to_netcdf(
        path, engine="h5netcdf"
    )
    yield path.read_bytes()


SMILES = (
    "CCO",
    "c1ccccc1C(=O)O",
    "C[C@H](N)C(=O)O",
    "[Na+].[Cl-]",
    "C1CC2CCC1CC2",
    "F/C=C/F",
    "[13CH4]",
    "N#Cc1ccncc1",
)
INCHI = (
    "InChI=1S/C3H7NO2/c1-2(4)3(5)6/h2H,4H2,1H3,(H,5,6)/t2-/m0/s1",
    "InChI=1S/2CH4.ClH.Na/h2*1H4;1H;/q;;;+1/p-1",
    "InChI=1S/C2H6O/c1-2-3/h3H,2H2,1H3/i1+1",
)
CIF = (
    "data_one\n_cell_length_a 4.1\n_cell_length_b 5.3\n_cell_length_c 6.7\n_cell_angle_alpha 90\n_cell_angle_beta 90\n"
    "_cell_angle_gamma 90\n_symmetry_space_group_name_H-M 'P 1'\nloop_\n_atom_site_label\n_atom_site_type_symbol\n"
    "_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z\n_atom_site_occupancy\nNa1 Na 0 0 0 1.0\n"
    "Cl1 Cl 0.5 0.5 0.5 1.0\n"
)
POSCAR = "salt\n1.0\n4.0 0 0\n0 4.0 0\n0 0 4.0\nNa Cl\n1 1\nDirect\n0 0 0\n0.5 0.5 0.5\n"
XYZ = '3\nLattice="9 0 0 0 9 0 0 0 9" Properties=species:S:1:pos:R:3\nO 0 0 0\nH 0.96 0 0\nH -0.24 0.93 0\n'


def molecules(kind: str) -> Iterator[bytes]:
    """Small molecules and crystals."""
    if kind == "smi":
        yield "\n".join(SMILES).encode()
        yield "\n".join(INCHI).encode()
    elif kind == "cif":
        yield CIF.encode()
    elif kind == "poscar":
        yield POSCAR.encode()
    elif kind == "xyz":
        yield XYZ.encode()
        yield b"2\nhydrogen\nH 0 0 0\nH 0.74 0 0\n"
    else:
        from rdkit import Chem

        records = []
        for k, text in enumerate(SMILES[:4]):
            block = Chem.MolToMolBlock(Chem.MolFromSmiles(text), forceV3000=k == 2)
            records.append(f"{block}>  <size>\n{k}.5\n\n$$$$\n")
        yield "".join(records).encode()


def weights(kind: str) -> Iterator[bytes]:
    """Checkpoints of three tensors."""
    import torch
    from safetensors.torch import save

    tensors = {
        "head.weight": torch.arange(15.0).reshape(3, 5), "head.bias": torch.zeros(3), "step": torch.tensor(7),
    }  # fmt: skip
    if kind == "safetensors":
        yield save(tensors, {"format": "pt"})
    elif kind == "npz":
        yield from _saved(np.savez, {name: one.numpy() for name, one in tensors.items()})
    elif kind == "pickle":
        yield pickle.dumps({b"data": np.arange(12, dtype=np.uint8), b"labels": [1, 2]}, protocol=2)
    else:
        content = {
            "state_dict": tensors,
            "epoch": 3,
            "optimizer": {"lr": 0.1, "betas": (0.9, 0.99)},
        }
        written = io.BytesIO()
        torch.save(content, written, _use_new_zipfile_serialization=kind == "pt")
        yield written.getvalue()


CONFIG = """
[vision.mine]
extends = "vit-mnist"
summary = "mine"
train.lr = 1e-3
train.epochs = 3
data.mean = [0.5]
backbone.dim = 32
"""
JSON = json.dumps(
    {
        "data": {"origin": "x", "sizes": {"train": 3}, "left_out": 1},
        "initial": "a",
        "licence": "MIT",
    }
)
