"""RDKit behind a fence: text from outside becomes a molecule or a reason, within limits and without a word in the log.

RDKit's log is silenced for the length of a call only: what the user set for it stays.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rdkit import Chem, rdBase

from isoform.molecules.data.fence import MANY_RINGS, refused

MOST_TEXT = 10_000  # characters of one SMILES; the longest of PubChem's proteins stay below
MOST_BLOCK = 2**21  # characters of one mol block
MOST_ATOMS = 2_000  # without hydrogens: canonical ranking takes seconds beyond
MOST_RINGS = 200  # a fullerene of 360 atoms has fewer; those of 40 atoms, each bound to all, take seconds to perceive
_FEW_CHARACTERS = 2 * MANY_RINGS  # a closure takes two, so these can't close many rings
_FEW_BONDS = MANY_RINGS  # nor can these
_ODD = re.compile("[^ -~]")
_TOKEN = re.compile(
    r"(\[\d*H(?![a-z])[^\]]*\])"  # hydrogen
    r"|(\[[^\]]*\]|Cl|Br|[BCNOPSFIbcnops*])"  # another atom
    r"|(%\(\d+\)|%\d\d|\d)"  # one end of a ring closure
)
_REASON = re.compile(r"SMILES Parse Error: (.*?) (?:while parsing|for input)\b")
_PLACE = re.compile(r"around position (\d+)")
_MAPPED = re.compile(r":\d+\]")
_BEYOND_INCHI = re.compile("@(SP|TB|OH|AL)")  # cisplatin and transplatin have one InChI
_MARKED_GROUP = re.compile(r"(?<![A-Za-z])[&o]\d+:")
_CONTINUED = re.compile(r"-[ \t]*\r?\nM  V30 ")  # a line of V3000 that goes on in the next
_BOND_OF_V3000 = re.compile(r"^M\s+V30\s+\d+\s+\d+\s+(\d{1,9})\s+(\d{1,9})\b", re.MULTILINE)
_MARKED_BLOCK = re.compile(r"MDLV30/STE(RAC|REL)")
# What a molecule file can do wrong inside RDKit; Boost turns C++ exceptions into these.
_ERRORS = (
    ValueError,
    RuntimeError,
    TypeError,
    KeyError,
    IndexError,
    OverflowError,
    MemoryError,
    AttributeError,
)


def _params(*, sanitize: bool) -> Chem.SmilesParserParams:
    params: Any = Chem.SmilesParserParams()  # its properties are typed as what they belong to
    params.sanitize = sanitize
    params.allowCXSMILES = False
    params.parseName = False
    return params


_RAW, _SANE = _params(sanitize=False), _params(sanitize=True)


@contextmanager
def quiet() -> Iterator[None]:
    """RDKit's log is off inside, and as it was before behind it."""
    with rdBase.BlockLogs():
        yield


def parse_smiles(text: str, max_atoms: int = MOST_ATOMS) -> Chem.Mol | str:
    """The sanitised molecule of a SMILES, or why there is none, as part of a sentence; never raises.

    Blanks around it are ignored, and so is a CXSMILES extension (" |...|"). `max_atoms` counts no hydrogens that RDKit
    takes up into their neighbours.
    """
    text = text.strip()
    wrong = _wrong_text(text)
    if wrong:
        return wrong
    head, blank, extension = text.partition(" ")
    if blank:
        if not extension.lstrip().startswith("|"):
            return "holds a blank"
        text = head
    if len(text) > _FEW_CHARACTERS:  # even parsing without sanitising looks for rings
        atoms, rings = _counted(text)
        wrong = _too_large(atoms, max_atoms) or _ringed(rings, "smiles", text)
        if wrong:
            return wrong
    with quiet():
        try:
            mol = Chem.MolFromSmiles(text, _SANE)
            if mol is None:
                return _why_not(Chem.MolFromSmiles(text, _RAW), text)
        except _ERRORS as error:
            return _said(error)
    return _checked(mol, max_atoms)


def parse_block(block: str, max_atoms: int = MOST_ATOMS) -> Chem.Mol | str:
    """The sanitised molecule of a mol block (V2000 or V3000), or why there is none; never raises.

    Stereo chemistry comes from the wedges, or from the coordinates where they are in 3-D. Explicit hydrogens are taken
    up into their neighbours, as those of a SMILES are.
    """
    if len(block) > MOST_BLOCK:
        return f"is longer than {MOST_BLOCK:,} characters"
    if "\0" in block:
        return "holds a NUL character"
    wrong = _ringed(_rings_of_block(block), "block", block)
    if wrong:
        return wrong
    with quiet():
        try:
            raw = Chem.MolFromMolBlock(block, sanitize=False, removeHs=False)
            if raw is None:
                return "is no mol block that can be read"
            heavy = sum(atom.GetAtomicNum() != 1 for atom in raw.GetAtoms())
            wrong = _too_large(heavy, max_atoms)
            if wrong:
                return wrong
            mol = Chem.MolFromMolBlock(block, sanitize=True, removeHs=True)
            if mol is None:
                return _why_not(raw, "")
        except _ERRORS as error:
            return _said(error)
    return _checked(mol, max_atoms)


def parse(smiles: str, block: str | None = None, max_atoms: int = MOST_ATOMS) -> Chem.Mol | str:
    """The molecule of a mol block where there is one, of the SMILES otherwise; see `parse_smiles`."""
    return parse_smiles(smiles, max_atoms) if block is None else parse_block(block, max_atoms)


def canonical(mol: Chem.Mol, *, stereo: bool = True) -> str:
    """RDKit's canonical SMILES without atom map numbers: equal for two spellings of one molecule."""
    with quiet():
        text = str(Chem.MolToSmiles(mol, isomericSmiles=stereo))
        if not _MAPPED.search(text):
            return text
        plain = Chem.Mol(mol)
        for atom in plain.GetAtoms():
            atom.SetAtomMapNum(0)
        # An atom's rank, and so the sense of a stereo centre as written, came with the numbers: read it once more.
        plain = Chem.MolFromSmiles(Chem.MolToSmiles(plain), _SANE) or plain
        return str(Chem.MolToSmiles(plain, isomericSmiles=stereo))


def inchikey(mol: Chem.Mol, smiles: str) -> str:
    """The standard InChIKey of a molecule with that canonical SMILES; "" where it has none, or it tells less.

    Equal for two tautomers that differ in mobile hydrogens, and for spellings that RDKit's canonical form, which isn't
    always a fixed point, leaves apart. None for what holds a dummy atom, over 1,023 atoms or stereo chemistry other
    than tetrahedral and of double bonds.
    """
    if _BEYOND_INCHI.search(smiles):
        return ""
    with quiet():
        try:
            return str(Chem.MolToInchiKey(mol))
        except _ERRORS:
            return ""


def has_stereo_groups(smiles: str, block: str | None = None) -> bool:
    """Whether centres are marked as a racemate or as known relative to each other alone, which no graph here keeps.

    In a CXSMILES extension ("|&1:1|", "|o1:1,2|"), or in a V3000 block (MDLV30/STERAC and STEREL).
    """
    if block is not None:
        return _MARKED_BLOCK.search(block) is not None
    return any(map(_MARKED_GROUP.search, smiles.split("|")[1:-1]))


def looks_like_smiles(text: str) -> bool:
    """True for text that RDKit parses and that holds an atom; a number or a word is none."""
    text = text.strip()
    if not text or text[0] in "0123456789+-.," or len(text) > MOST_TEXT:
        return False
    return not isinstance(parse_smiles(text), str)


def _wrong_text(text: str) -> str:
    if not text:
        return "is empty"
    if len(text) > MOST_TEXT:
        return f"is longer than {MOST_TEXT:,} characters"
    odd = _ODD.search(text)
    if odd:
        return f"holds the character {odd[0]!a}, which no SMILES has"
    return ""


def _counted(text: str) -> tuple[int, int]:
    """Atoms without hydrogens and ring closures of a SMILES, from the text alone."""
    found = _TOKEN.findall(text)
    return sum(bool(atom) for _, atom, _ in found), sum(bool(end) for _, _, end in found) // 2


def _too_large(atoms: int, max_atoms: int) -> str:
    """Judged before sanitising, which takes long for what is too large."""
    return f"has {atoms} atoms, more than {max_atoms}" if atoms > max_atoms else ""


def too_many_rings(block: str) -> str:
    """What is wrong with a mol block whose rings RDKit would perceive for minutes while it reads it; or ""."""
    rings = _rings_of_block(block)
    return f"has {rings} rings, more than {MOST_RINGS}" if rings > MOST_RINGS else ""


def _ringed(rings: int, task: str, text: str) -> str:
    """What is wrong with a text whose bonds close so many rings, or ""."""
    if rings > MOST_RINGS:
        return f"has {rings} rings, more than {MOST_RINGS}"
    return refused(task, text) if rings > MANY_RINGS else ""


def _rings_of_block(block: str) -> int:
    """Bonds that close a ring, from the text alone; 0 where there are few bonds, or lines that RDKit will refuse."""
    lines = block.splitlines()
    counts = lines[3] if len(lines) > 3 else ""
    try:
        if "V3000" in counts:
            bonds = _BOND_OF_V3000.findall(_CONTINUED.sub("", block))
            ends = [(int(a), int(b)) for a, b in bonds] if len(bonds) > _FEW_BONDS else []
        else:
            atoms, number = int(counts[:3]), int(counts[3:6])
            bonds_at = lines[4 + atoms : 4 + atoms + number] if number > _FEW_BONDS else []
            ends = [(int(line[:3]), int(line[3:6])) for line in bonds_at]
    except (ValueError, IndexError):
        return 0
    parent: dict[int, int] = {}

    def root(atom: int) -> int:
        while parent.setdefault(atom, atom) != atom:
            parent[atom] = parent[parent[atom]]
            atom = parent[atom]
        return atom

    closing = 0
    for a, b in ends:
        a, b = root(a), root(b)
        closing += a == b
        parent[a] = b
    return closing


def _checked(mol: Chem.Mol, max_atoms: int) -> Chem.Mol | str:
    if not mol.GetNumAtoms():
        return "has no atom"
    if mol.GetNumAtoms() > max_atoms:
        return f"has {mol.GetNumAtoms()} atoms, more than {max_atoms}"
    return mol


def _why_not(raw: Chem.Mol | None, text: str) -> str:
    """Why a molecule can't be sanitised, or why text can't be parsed; `raw` is the molecule as written."""
    if raw is not None:
        problems = Chem.DetectChemistryProblems(raw)
        return _one_line(problems[0].Message()) if problems else "is no possible molecule"
    if ">" in text:
        return "is a reaction"
    if text.count("(") != text.count(")"):
        return "is no SMILES: its parentheses don't match"
    if text.count("[") != text.count("]"):
        return "is no SMILES: its brackets don't match"
    reason = _reason_of_log(text) if text else ""
    return f"is no SMILES: {reason}" if reason else "is no SMILES"


def _reason_of_log(text: str) -> str:
    """What RDKit itself says of a SMILES that it can't parse, with the character; "" where it says nothing."""
    if not hasattr(rdBase, "CaptureErrorLog"):  # of RDKit before 2025.9
        return ""
    with rdBase.CaptureErrorLog() as log:
        Chem.MolFromSmiles(text, _RAW)
    said = _REASON.search(log.messages)
    if not said:
        return ""
    place = _PLACE.search(log.messages)
    return said[1].strip() + (f" at character {place[1]}" if place else "")


def _said(error: BaseException) -> str:
    return f"can't be read ({_one_line(str(error)) or type(error).__name__})"


def _one_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0][:160] if lines else ""
