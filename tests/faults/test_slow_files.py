"""Fault 10: small files by hand on which a reader took minutes, all memory, or the numbers of another file.

Mutations hardly find these: each goes for one loop in one library. They are read as `fuzz` reads, in a child that 5 s
of the processor end; without its bound a reader fails here. docs/reliability.md has the table.
"""

import io
import itertools
import struct
import sys
import zipfile
import zlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # for `fuzz`, which is a tool beside the package

from fuzz.drive import read_one  # noqa: E402
from fuzz.targets import TARGETS, Target  # noqa: E402


def columns(count, cell, mark=","):
    return f"{mark.join(f'c{k}' for k in range(count))}\n{mark.join([cell] * count)}\n"


def all_numbers(path):
    from isoform.core.data.read import read_table

    table = read_table(path)
    for name in table.names:
        table.numbers(name)
    assert isinstance(table.findings, list)


def split_words(path):
    from isoform.core.data.splits import split_of_word

    split_of_word(path.read_text())


def stereo_groups(path):
    from isoform.molecules.data.parsing import has_stereo_groups

    has_stereo_groups(path.read_text())


def described(path):
    from isoform.molecules.data.descriptors import compute

    compute(path.read_text().split())


def judged(path):
    from isoform.molecules.generation import crystals, molecules
    from isoform.molecules.systems.read import read_systems

    for one in read_systems(path).systems:
        (molecules if one.lattice is None else crystals).judge(one)


def frame(element, places):
    lines = "".join(f"{element} {x:.3f} {y:.3f} {z:.3f}\n" for x, y, z in places)
    return f"{len(places)}\n\n{lines}"


def cif(sites, operations, side=60):
    cell = "".join(f"_cell_length_{k} {side}\n" for k in "abc")
    cell += "".join(f"_cell_angle_{k} 90\n" for k in ("alpha", "beta", "gamma"))
    moves = "".join(f"'x+{k}/5003,y+{k}/4999,z'\n" for k in range(operations))
    places = "".join(f"C {k % 19 / 19} {k % 23 / 23} {k % 29 / 29}\n" for k in range(sites))
    names = "".join(f"_atom_site_{name}\n" for name in ("label", "fract_x", "fract_y", "fract_z"))
    return f"data_x\n{cell}loop_\n_symmetry_equiv_pos_as_xyz\n{moves}loop_\n{names}{places}"


def complete(size):
    """SMILES of dummy atoms that are each bound to all others."""
    bonds = {pair: k for k, pair in enumerate(itertools.combinations(range(size), 2), 10)}
    closures = (
        "".join(f"%({k})" for pair, k in bonds.items() if atom in pair) for atom in range(size)
    )
    return ".".join(f"*{ends}" for ends in closures)


def v3000(size, mark=" "):
    """A mol block of dummy atoms that are each bound to all others."""
    bonds = list(itertools.combinations(range(1, size + 1), 2))
    lines = [f"COUNTS {size} {len(bonds)} 0 0 0", "BEGIN ATOM"]
    lines += [f"{k} * {k} 0 1 0" for k in range(1, size + 1)] + ["END ATOM", "BEGIN BOND"]
    lines += [f"{k} 1 {a}{mark}{b}" for k, (a, b) in enumerate(bonds, 1)] + ["END BOND"]
    inner = "".join(f"M  V30 {line}\n" for line in ("BEGIN CTAB", *lines, "END CTAB"))
    return f"\n\n\n  0  0  0  0  0  0  0  0  0  0999 V3000\n{inner}M  END\n$$$$\n"


def jpeg():
    """Progressive, its last pass repeated."""
    from PIL import Image

    written = io.BytesIO()
    Image.new("L", (4000, 4000)).save(written, "JPEG", progressive=True)
    content = written.getvalue()
    last = content[content.rindex(b"\xff\xda") : -2]
    return content[:-2] + last * 1500 + content[-2:]


def tiff(pages=30_000):
    """Pages of one pixel."""
    tags = (
        (256, 1),
        (257, 1),
        (258, 8),
        (259, 1),
        (262, 1),
        (273, 8),
        (277, 1),
        (278, 1),
        (279, 1),
    )
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    size, content = 6 + len(entries), b"II*\0" + struct.pack("<I", 8)
    for page in range(1, pages + 1):
        behind = 8 + page * size if page < pages else 0
        content += struct.pack("<H", len(tags)) + entries + struct.pack("<I", behind)
    return content


def deflated_dicom():
    def element(group, number, kind, value):
        value += b"\0" * (len(value) % 2)
        size = struct.pack("<H" if kind == b"UI" else "<HI", *([0] * (kind != b"UI")), len(value))
        return struct.pack("<HH", group, number) + kind + size + value

    about = element(2, 0x10, b"UI", b"1.2.840.10008.1.2.1.99")
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    nothing = element(0x7FE1, 0x10, b"OB", bytes(100 << 20))
    packed = b"".join(packer.compress(nothing) for _ in range(8)) + packer.flush()
    size = struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(about))
    return bytes(128) + b"DICM" + size + about + packed


def h5(fill):
    h5py = pytest.importorskip("h5py")
    written = io.BytesIO()
    with h5py.File(written, "w") as file:
        fill(file, h5py)
    return written.getvalue()


def netcdf():
    h5netcdf = pytest.importorskip("h5netcdf")
    written = io.BytesIO()
    with h5netcdf.File(written, "w") as file:
        file.dimensions = {"time": 5, "a": 3000, "b": 3000}
        time = file.create_variable("time", ("time",), "i4", data=list(range(5)))
        time.attrs["units"] = "days since 2020-01-01"
        sizes = {"chunks": (1, 3000, 3000), "compression": "gzip"}
        file.create_variable("v", ("time", "a", "b"), "f4", **sizes)
    return written.getvalue()


def parquet():
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    written = io.BytesIO()
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * 10_000_000), pa.array(["x" * 1000]))
    pq.write_table(pa.table({"a": texts.cast(pa.dictionary(pa.int32(), pa.string()))}), written)
    return written.getvalue()


def workbook(sheet="", styles=""):
    openpyxl = pytest.importorskip("openpyxl")
    book, plain, changed = openpyxl.Workbook(), io.BytesIO(), io.BytesIO()
    book.active.append(["a", "b"])
    book.active.append([1, 2])
    book.save(plain)
    where = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    parts = {
        "xl/worksheets/sheet1.xml": sheet and f"<worksheet {where}>{sheet}</worksheet>",
        "xl/styles.xml": styles and f"<styleSheet {where}>{styles}</styleSheet>",
    }
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(changed, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, parts.get(entry.filename) or old.read(entry))
    return changed.getvalue()


def sheet(dimension, *rows):
    cells = "".join(f'<row r="{k}"><c r="{column}{k}"><v>1</v></c></row>' for column, k in rows)
    size = f'<dimension ref="{dimension}"/>' if dimension else ""
    return f"{size}<sheetData>{cells}</sheetData>"


FORMAT = f'<numFmts><numFmt numFmtId="200" formatCode="{"[" * 300_000}"/></numFmts>'
FORMAT += '<cellXfs><xf numFmtId="200"/></cellXfs>'
LATTICE = 'Lattice="5 0 0 0 5 0 0 0 5"'

# What it is called -> (target, or ending and what reads it; the file)
FILES = {
    "csv, comments": ("table-csv", lambda: "#\n" * 2_000_000 + "a,b\n1,2\n"),
    "csv, short rows of many columns": (
        "table-csv",
        lambda: columns(190_000, "1") + "x\n" * 1000,
    ),
    "csv, columns of either decimal mark": (
        (".csv", all_numbers),
        lambda: columns(20_000, "1.105"),
    ),
    "csv, columns of decimal commas": ((".csv", all_numbers), lambda: columns(20_000, "1,5", ";")),
    "csv, word of a split": ((".txt", split_words), lambda: "train" + "_" * 400_000 + "x"),
    "parquet, one long text": ("table-parquet", parquet),
    "xlsx, size that it claims": (
        "table-xlsx",
        lambda: workbook(sheet("A1:XFD1048576", ("A", 1), ("A", 1048576))),
    ),
    "xlsx, row far below": (
        "table-xlsx",
        lambda: workbook(sheet("", ("A", 1), ("A", 10**12))),
    ),
    "xlsx, wide and long": (
        "table-xlsx",
        lambda: workbook(sheet("", ("XFD", 1), *(("A", k) for k in range(2, 60_000)))),
    ),
    "xlsx, format": ("table-xlsx", lambda: workbook(styles=FORMAT)),
    "toml, blanks": ("config-toml", lambda: "[vision.mine]\n" + " " * 400_000 + "x\n"),
    "toml, dots": ("config-toml", lambda: f"a{'.a' * 60_000} = 1\n"),
    "toml, long and wrong": (
        "config-toml",
        lambda: f"[vision.mine]\nx = [{'1,' * 250_000}]\n" + "a = \n" * 30,
    ),
    "toml, unknown keys": (
        "config-toml",
        lambda: "[vision.mine]\n" + "".join(f"key{k} = 1\n" for k in range(20_000)),
    ),
    "series, blanks in a name": (
        "series-csv",
        lambda: f"date,v{' ' * 400_000}x\n2020-01-01,1\n2020-01-02,2\n",
    ),
    "nc, columns that aren't there": ("series-nc", netcdf),
    "h5, pieces that aren't there": (
        "cloud-h5",
        lambda: h5(lambda f, _: f.create_dataset("points", (9_000_000, 3), "f4", chunks=(1, 3))),
    ),
    "obj, materials": (
        "cloud-obj",
        lambda: "v 0 0 0\nv 1 0 0\nv 0 1 0\n" + "".join(f"usemtl m{k}\nf 1 2 3\n" for k in range(20_000)),
    ),
    "smi, one line of many columns": (
        "molecules-smi",
        lambda: "C\ta\n" * 50_000 + "C" + "\t1" * 50_000 + "\n",
    ),
    "smi, marks of stereo": ((".txt", stereo_groups), lambda: "C |" + "&1:" * 300_000),
    "smi, atoms bound to all others": ((".txt", described), lambda: complete(20)),
    "smi, InChI of many molecules": (
        "molecules-smi",
        lambda: "InChI=1S/32000CH4/h32000*1H4\nInChI=1S/32000H2/h32000*1H\n",
    ),
    "sdf, brackets": (
        "molecules-sdf",
        lambda: f"\n\n\n  0  0  0\nM  END\n>{'<' * 400_000}\n\n$$$$\n",
    ),
    "sdf, rings": ("systems-sdf", lambda: v3000(70)),
    "sdf, rings in lines that go on": ("molecules-sdf", lambda: v3000(70, " -\nM  V30 ")),
    "xyz, empty lines": ("systems-xyz", lambda: "x\n" + "\n" * 400_000 + "H 0 0 0\n"),
    "extxyz, width of a property": (
        "systems-xyz",
        lambda: f"1\n{LATTICE} Properties=species:S:1:pos:R:+99_999_999\nH 0 0 0\n",
    ),
    "xyz, digits of a number": ("systems-xyz", lambda: "9" * 9_999 + "\n\nH 0 0 0\n"),
    "xyz, bonds that fit many ways": (
        (".xyz", judged),
        lambda: frame("S", [(2.05 * k, 0, 0) for k in range(399)]),
    ),
    "xyz, atoms in one place": (
        (".xyz", judged),
        lambda: frame("C", [(0, 0, 0.001 * k) for k in range(300)]),
    ),
    "xyz, many atoms": (
        (".xyz", judged),
        lambda: frame("C", [(3 * (k % 17), 3 * (k // 17 % 17), k // 289) for k in range(9_000)]),
    ),
    "cif, empty lines": (
        "systems-cif",
        lambda: "data_x\n" + "\n" * 400_000 + "_atom_site_label\nC\n",
    ),
    "cif, operations": ("systems-cif", lambda: cif(200, 500)),
    "cif, many atoms": ((".cif", judged), lambda: cif(1_500, 1)),
    "jpeg, passes": ("jpeg", jpeg),
    "tiff, pages": ("tiff", tiff),
    "dicom, deflated": ("dcm", deflated_dicom),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_small_file_is_read_or_refused_in_time(name):
    target, make = FILES[name]
    if target == "dcm":
        pytest.importorskip("pydicom")
    content = make()
    content = content.encode() if isinstance(content, str) else content
    assert len(content) < 5_000_000
    if isinstance(target, tuple):
        ending, read = target
        target = Target(f"own-{ending[1:]}", lambda _: iter([content]), read)
    else:
        target = TARGETS[target]
    assert read_one(target, content) is None


def outside(file, h5py):
    file.create_dataset("points", (4, 3), "u1", external=[(str(ROOT / "LICENSE"), 0, 12)])


def linked(file, h5py):
    file["points"] = h5py.ExternalLink("other.h5", "points")


def virtual(file, h5py):
    layout = h5py.VirtualLayout((4, 3), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "points", (4, 3))
    file.create_virtual_dataset("points", layout)


@pytest.mark.parametrize("fill", [outside, linked, virtual])
@pytest.mark.parametrize("kind", ["cloud-h5", "series-nc"])
def test_numbers_of_another_file_are_refused(tmp_path, fill, kind):
    from isoform.core.errors import UserError

    target = TARGETS[kind]
    path = tmp_path / f"one{target.suffix}"
    path.write_bytes(h5(fill))
    with pytest.raises(UserError, match="another file"):
        target.read(path)


def test_a_sheet_is_read_whole_whatever_size_it_claims(tmp_path):
    """That size is not believed, else a small file could ask for 16,384 columns."""
    from isoform.core.data.read import read_table

    def cell(place, word):
        return f'<c r="{place}" t="inlineStr"><is><t>{word}</t></is></c>'

    rows = "".join(
        f'<row r="{k}">{cell(f"A{k}", a)}{cell(f"B{k}", b)}</row>'
        for k, a, b in ((1, "a", "b"), (2, "x", "y"))
    )
    path = tmp_path / "one.xlsx"
    path.write_bytes(workbook(f'<dimension ref="A1:A1"/><sheetData>{rows}</sheetData>'))
    assert read_table(path).cells("b") == ["y"]
