"""`isoform molecules check`: what a model would be trained on, and what is wrong with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from rdkit import Chem
from rdkit.Chem.MolStandardize import rdMolStandardize

from isoform.core.data.findings import fold
from isoform.core.data.splits import SPLITS, Rows
from isoform.core.domain import CheckReport, Prepared
from isoform.core.errors import UserError, count, join_names
from isoform.molecules.config import DataConfig, MoleculesApp
from isoform.molecules.data.check_page import draw_page
from isoform.molecules.data.clean import UNLABELLED, assign_splits, compare
from isoform.molecules.data.dataset import MoleculeData, build_data, describe_unscored
from isoform.molecules.data.duplicates import SAME, identities, leaks, merge, repeated
from isoform.molecules.data.labelled import Labelled
from isoform.molecules.data.parsing import canonical, parse, quiet
from isoform.molecules.data.read import read_molecules
from isoform.molecules.data.standardise import describe_stereo_groups, standardise
from isoform.molecules.prepare import refuse_impossible, resolve

MOST_MOLECULES = 20_000  # looked at closely; of more, that many evenly spaced
NAMED = 10  # of each kind of finding, in the text
_TARGETS, _ELEMENTS = 12, 12  # listed


@dataclass
class _Seen:
    """What was found in the molecules that were looked at; `rows` and `flat` run alike."""

    rows: list[int] = field(default_factory=list)
    flat: list[str] = field(
        default_factory=list
    )  # SMILES without salts, charges, isotopes and stereo chemistry
    sizes: list[int] = field(default_factory=list)
    elements: Counter[str] = field(default_factory=Counter)  # molecules that hold one
    kinds: Counter[str] = field(default_factory=Counter)


def check(config: MoleculesApp) -> CheckReport:
    """Reads the data of an app and reports on them; what would stop a training is the report's refusal.

    Leakage is one molecule (canonical SMILES or InChIKey) in two splits, unless data.allow_leakage; molecules that
    differ in salt, charge, isotopes or stereo chemistry alone are reported beside it. Raises UserError where there are
    no data to read.
    """
    data = config.data
    read = read_molecules(data)
    parsed, merged, prepared, refusal = _as_trained(config, read)
    several = repeated(parsed)
    splits = _splits(merged)
    seen = _look(merged)
    leaking = leaks(merged, splits)
    near = _near(merged, seen, splits)
    report: dict[str, Any] = {
        "origin": read.origin,
        "licence": read.licence,
        "sha256": read.sha256,
        "rows": len(read) + len(read.skipped),
        "molecules": len(merged),
        "task": read.task,
        "splits": {split: len(rows) for split, rows in splits.items()},
        "targets": _targets(merged, splits),
        "atoms": _spread(seen.sizes),
        "elements": dict(seen.elements.most_common()),
        "kinds": dict(seen.kinds.most_common()),
        "skipped": [{"row": name, "reason": why} for name, why in merged.skipped],
        "duplicates": [[parsed.names[row] for row in one.rows] for one in several],
        "conflicting_labels": [
            [parsed.names[row] for row in one.rows] for one in several if one.differing
        ],
        "near_duplicates": [[merged.names[row] for row in rows] for rows in near],
        "leaks": [[f"{split}: {merged.names[row]}" for split, row in one] for one in leaking],
        "findings": list(merged.findings),
    }
    if read.task == "multiclass":
        report["classes"] = list(read.classes)
    leakage = bool(leaking) and not data.allow_leakage
    lines = _lines(report, merged, seen, near, splits, "" if splits else refusal or "")
    leaking_rows = [[row for _, row in one] for one in leaking]
    page = draw_page(read.origin, lines, leakage, merged, splits, leaking_rows, near)
    return CheckReport(lines, report, leakage, page, refusal, prepared)


def _as_trained(
    config: MoleculesApp, read: Labelled
) -> tuple[Labelled, Labelled, Prepared[MoleculesApp, MoleculeData] | None, str | None]:
    """(every row that is compared, what training makes of them, prepared, why it refuses), by training's own steps.

    Where it refuses, the molecules are as far as it gets, with no splits if none were made. Leakage is no refusal here:
    the report says it by itself.
    """
    data = config.data.model_copy(update={"allow_leakage": True})
    accepting = config.model_copy(update={"data": data})
    parsed: Labelled | None = None
    merged: Labelled | None = None
    prepared = refusal = None
    try:
        refuse_impossible(config)
        parsed = compare(read, data)
        merged = assign_splits(merge(parsed, data), data)
        built = build_data(accepting, merged)
        said = [*built.molecules.findings, *describe_unscored(built)]
        merged = replace(built.molecules, skipped=built.skipped, findings=said)
        prepared = resolve(accepting, built)
    except UserError as error:
        refusal = str(error)
    if parsed is None:
        said = describe_stereo_groups(read)
        parsed = replace(read, findings=[*read.findings, *said])
    parsed = _with_keys(parsed, data)
    if merged is None:
        return parsed, replace(merge(parsed, data), split=None), None, refusal
    return parsed, _with_keys(merged, data), prepared, refusal


def _with_keys(molecules: Labelled, data: DataConfig) -> Labelled:
    """Parsed where training saw no need to."""
    return molecules if molecules.keys is not None else standardise(molecules, data)


def _splits(molecules: Labelled) -> Rows:
    """{split: its rows} of every split that has some; none where training makes none."""
    if molecules.split is None:
        return {}
    rows = {split: np.flatnonzero(molecules.split == split) for split in SPLITS}
    return {split: at for split, at in rows.items() if len(at)}


def _look(molecules: Labelled) -> _Seen:
    seen = _Seen()
    if molecules.graphs is not None:
        seen.sizes = molecules.graphs.sizes.tolist()
        return seen
    step = max(1, -(-len(molecules) // MOST_MOLECULES))
    choose, uncharge = (
        rdMolStandardize.LargestFragmentChooser(preferOrganic=True),
        rdMolStandardize.Uncharger(),
    )
    for row in range(0, len(molecules), step):
        mol = parse(
            molecules.smiles[row], molecules.blocks[row] if molecules.blocks is not None else None
        )
        if isinstance(mol, str):
            continue
        seen.rows.append(row)
        seen.sizes.append(mol.GetNumAtoms())
        seen.elements.update({atom.GetSymbol() for atom in mol.GetAtoms()})
        _count_kinds(mol, seen.kinds)
        seen.flat.append(_flat(mol, choose, uncharge))
    return seen


def _count_kinds(mol: Chem.Mol, kinds: Counter[str]) -> None:
    atoms = list(mol.GetAtoms())
    kinds["several fragments (salts, mixtures)"] += len(Chem.GetMolFrags(mol)) > 1
    kinds["a net charge"] += Chem.GetFormalCharge(mol) != 0
    kinds["isotopes"] += any(atom.GetIsotope() for atom in atoms)
    kinds["radicals"] += any(atom.GetNumRadicalElectrons() for atom in atoms)
    kinds["dummy atoms (*)"] += any(atom.GetAtomicNum() == 0 for atom in atoms)
    kinds["a single atom"] += len(atoms) == 1
    with quiet():
        centres = Chem.FindMolChiralCenters(
            mol, includeUnassigned=True, useLegacyImplementation=False
        )
    kinds["marked stereo centres"] += any(mark != "?" for _, mark in centres)
    kinds["stereo centres that are not marked"] += any(mark == "?" for _, mark in centres)


def _flat(mol: Chem.Mol, choose: Any, uncharge: Any) -> str:
    """SMILES of the skeleton: largest fragment, no charge where hydrogens can undo it, no isotopes, no stereo."""
    try:
        with quiet():
            mol = Chem.Mol(uncharge.uncharge(choose.choose(mol)))
            for atom in mol.GetAtoms():
                atom.SetIsotope(0)
            return canonical(mol, stereo=False)
    except (ValueError, RuntimeError):
        return canonical(mol, stereo=False)


def _near(molecules: Labelled, seen: _Seen, splits: Mapping[str, np.ndarray]) -> list[list[int]]:
    """Rows of different molecules with one skeleton; those that lie in several splits first."""
    if molecules.keys is None:
        return []
    places: dict[str, list[int]] = {}
    for row, flat in zip(seen.rows, seen.flat, strict=True):
        places.setdefault(flat, []).append(row)
    numbers = identities(molecules)
    found = [rows for rows in places.values() if len({numbers[row] for row in rows}) > 1]
    split_of = {int(row): split for split, rows in splits.items() for row in rows}
    return sorted(
        found, key=lambda rows: len({split_of[row] for row in rows if row in split_of}) <= 1
    )


def _targets(molecules: Labelled, splits: Mapping[str, np.ndarray]) -> dict[str, dict[str, Any]]:
    """{target: unit, labels, missing and, by task, the range or the counts}."""
    found = {}
    for column, (name, unit) in enumerate(
        zip(molecules.target_names, molecules.units, strict=True)
    ):
        values = molecules.targets[:, column]
        known = values[np.isfinite(values)]
        entry: dict[str, Any] = {
            "unit": unit,
            "labels": len(known),
            "missing": len(values) - len(known),
        }
        if molecules.task == "regression":
            if len(known):
                entry |= {
                    "min": float(known.min()),
                    "median": float(np.median(known)),
                    "max": float(known.max()),
                    "mean": float(known.mean()),
                    "std": float(known.std()),
                }
        else:
            labels = molecules.classes if molecules.task == "multiclass" else ("0", "1")
            entry["counts"] = {
                label: int((known == number).sum()) for number, label in enumerate(labels)
            }
            entry["by_split"] = {
                split: {
                    label: int((values[rows] == number).sum())
                    for number, label in enumerate(labels)
                }
                for split, rows in splits.items()
            }
        found[name] = entry
    return found


def _spread(sizes: Sequence[int]) -> dict[str, int]:
    if not sizes:
        return {}
    return {"smallest": min(sizes), "median": int(np.median(sizes)), "largest": max(sizes)}


def _lines(
    report: dict[str, Any],
    molecules: Labelled,
    seen: _Seen,
    near: Sequence[Sequence[int]],
    splits: Mapping[str, np.ndarray],
    unsplit: str,
) -> list[str]:
    shares = ", ".join(f"{n} {split}" for split, n in report["splits"].items())
    lines = [
        f"{report['origin']}: {count(report['rows'], 'row')}, {count(report['molecules'], 'molecule')}"
        + (f" ({shares})" if shares else "")
    ]
    lines += [f"no splits: {unsplit}"] if unsplit else []
    lines += fold(molecules.findings)
    if len(seen.rows) < len(molecules) and molecules.graphs is None:
        lines.append(f"{len(seen.rows):,} evenly spaced molecules were looked at closely")
    if report["atoms"]:
        lines.append(
            "atoms a molecule: " + ", ".join(f"{name} {n}" for name, n in report["atoms"].items())
        )
    if seen.elements:
        most = ", ".join(f"{symbol} {n}" for symbol, n in seen.elements.most_common(_ELEMENTS))
        lines.append(
            f"molecules with an element: {most}"
            + (" and others" if len(seen.elements) > _ELEMENTS else "")
        )
    kinds = [f"{kind} {n}" for kind, n in report["kinds"].items() if n]
    lines += [f"molecules with: {', '.join(kinds)}"] if kinds else []
    lines += _target_lines(report)
    unlabelled = [one["row"] for one in report["skipped"] if one["reason"] == UNLABELLED]
    if unlabelled:
        lines.append(f"rows without a label: {len(unlabelled)} ({join_names(unlabelled, NAMED)})")
    # The other rows of a molecule come below, by molecule.
    gone = [
        one
        for one in report["skipped"]
        if one["reason"] != UNLABELLED and not one["reason"].startswith(SAME)
    ]
    lines += _found("skipped", [f"{one['row']} ({one['reason']})" for one in gone])
    lines += _found(
        "molecules in several rows", [" = ".join(names) for names in report["duplicates"]]
    )
    lines += _found(
        "of these, with different labels",
        [" = ".join(names) for names in report["conflicting_labels"]],
    )
    split_of = {int(row): split for split, rows in splits.items() for row in rows}
    across = sum(len({split_of[row] for row in rows if row in split_of}) > 1 for rows in near)
    heading = "molecules that differ in salt, charge, isotopes or stereo chemistry alone"
    lines += _found(
        heading + (f" ({across} in several splits)" if across else ""),
        [" ~ ".join(names) for names in report["near_duplicates"]],
    )
    lines += _found(
        "LEAKAGE, one molecule in several splits", [", ".join(one) for one in report["leaks"]]
    )
    if molecules.keys is None:
        lines.append("graphs without SMILES: duplicates and leakage were not looked for")
    elif not report["leaks"] and splits:
        none = "no leakage between splits found"
        lines.append("the same molecule is in no two splits" if across else none)
    return lines


def _target_lines(report: dict[str, Any]) -> list[str]:
    lines = []
    for name, entry in list(report["targets"].items())[:_TARGETS]:
        unit = f" {entry['unit']}" if entry["unit"] else ""
        missing = f", {entry['missing']} missing" if entry["missing"] else ""
        if "counts" in entry:
            counts = ", ".join(f"{label}: {n}" for label, n in list(entry["counts"].items())[:20])
            lines.append(f"target {name}: {counts}{missing}")
        elif entry["labels"]:
            lines.append(
                f"target {name}: {entry['min']:.4g} to {entry['max']:.4g}{unit}, mean {entry['mean']:.4g}, "
                f"deviation {entry['std']:.4g}{missing}"
            )
        else:
            lines.append(f"target {name}: no labels")
    more = len(report["targets"]) - _TARGETS
    return lines + ([f"  and {count(more, 'more target')}"] if more > 0 else [])


def _found(what: str, items: Sequence[str]) -> list[str]:
    if not items:
        return []
    lines = [f"{what}: {len(items)}"]
    lines += [f"  {item}" for item in items[:NAMED]]
    if len(items) > NAMED:
        lines.append(f"  and {len(items) - NAMED} more")
    return lines
