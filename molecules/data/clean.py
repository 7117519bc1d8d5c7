"""From what was read to what is trained on: with a label, standardised, one row a molecule, in a split."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from isoform.core.data.folds import SET_ASIDE
from isoform.core.data.splits import Rows
from isoform.core.errors import UserError, join_names
from isoform.molecules.config import DataConfig
from isoform.molecules.data.digests import MOST_PARSED, keys_of
from isoform.molecules.data.duplicates import describe_leaks, merge, refuse_leaks
from isoform.molecules.data.labelled import Labelled, keep_targets, take
from isoform.molecules.data.splits import describe_shares, draw_splits
from isoform.molecules.data.standardise import describe_stereo_groups, standardise
from isoform.molecules.data.targets import describe_left_out

UNLABELLED = "has no label"  # the reason of a row that goes for that


def clean_and_split(molecules: Labelled, data: DataConfig) -> Labelled:
    """`clean`, then `assign_splits`."""
    return assign_splits(clean(molecules, data), data)


def clean(molecules: Labelled, data: DataConfig) -> Labelled:
    """The molecules with a label, standardised, one row each.

    Rows without any label go first, then what is no molecule, then duplicates; each is in `skipped` with the reason.
    Where nothing asks for parsing (no cleaning, data.duplicates = keep, a random or given split), it is left to the
    featuriser to find what is no molecule. Raises UserError where there is nothing to learn.
    """
    return merge(compare(molecules, data), data)


def compare(molecules: Labelled, data: DataConfig) -> Labelled:
    """What `clean` merges: the molecules with a label, standardised. Raises UserError as `clean` does."""
    if not molecules.targets.shape[1]:
        reasons = "; ".join(describe_left_out(molecules.unlearned))
        raise UserError(
            f"{molecules.origin}: no column of labels to learn{f' ({reasons})' if reasons else ''}; name it with "
            "data.targets"
        )
    molecules = drop_unlabelled(molecules)
    said = describe_stereo_groups(molecules)
    if molecules.graphs is not None:
        standardise(molecules, data)  # says that graphs can't be cleaned
        said = ["graphs without SMILES aren't compared for duplicates"]
    elif parsing_asked(data):
        molecules = standardise(molecules, data)
    return replace(molecules, findings=[*molecules.findings, *said])


def assign_splits(molecules: Labelled, data: DataConfig) -> Labelled:
    """The molecules with `split` "train", "val", "test", or "" for what data.counts did not draw.

    A split far from its share is a finding, and so is a molecule in two splits with data.allow_leakage, which raises
    UserError without it.
    """
    splits, moved = draw_splits(molecules, data)
    molecules = compared(molecules, splits, data)
    if not data.allow_leakage:
        refuse_leaks(molecules, splits)
    said = describe_leaks(molecules, splits)
    split = np.full(len(molecules), "", dtype=object)
    for name, rows in splits.items():
        split[rows] = name
    aside = [SET_ASIDE] if data.folds is not None and data.split == "given" else []
    shares = describe_shares(splits, data, moved)
    findings = [*molecules.findings, *aside, *shares, *said]
    return replace(molecules, split=split, findings=findings)


def compared(molecules: Labelled, splits: Rows, data: DataConfig) -> Labelled:
    """With the keys by which a molecule is known in another split, worked out here where nothing else asked for them.

    Of the molecules in a split alone; graphs without SMILES have none, and where leakage is allowed anyhow, more than
    MOST_PARSED molecules are not parsed for it.
    """
    if molecules.keys is not None or molecules.graphs is not None:
        return molecules
    rows = np.concatenate([*splits.values()]).astype(np.int64)
    if data.allow_leakage and len(rows) > MOST_PARSED:
        return molecules
    found, inchis_found = keys_of(take(molecules, rows), data)
    keys, inchis = [""] * len(molecules), [""] * len(molecules)
    for row, key, inchi in zip(rows.tolist(), found, inchis_found, strict=True):
        keys[row] = key or f"\0{row}"  # what is no molecule is equal to none
        inchis[row] = inchi
    return replace(molecules, keys=keys, inchis=inchis)


def leave_out_unlearnt(molecules: Labelled, train: np.ndarray) -> Labelled:
    """Without the targets of which no training molecule (rows `train`) has a label: nothing can be learned of them."""
    known = np.isfinite(molecules.targets[train]).any(0)
    if known.all():
        return molecules
    gone = [f'"{molecules.target_names[k]}"' for k in np.flatnonzero(~known).tolist()]
    what = f"target{'s' * (len(gone) > 1)} {join_names(gone)}"
    said = f"no training molecule has a label of the {what}: left out, not learned, predicted or scored"
    found = keep_targets(molecules, np.flatnonzero(known))
    return replace(found, findings=[*found.findings, said])


def parsing_asked(data: DataConfig) -> bool:
    """Whether a setting needs every molecule parsed before it is featurised."""
    changed = data.fragment or data.neutralise or data.tautomer or data.canonical
    return changed or data.duplicates != "keep" or data.split in ("scaffold", "cluster")


def drop_unlabelled(molecules: Labelled) -> Labelled:
    """Without the rows that have no label at all, each named. Raises UserError where none is left."""
    labelled = np.isfinite(molecules.targets).any(1)
    if labelled.all():
        return molecules
    rows = np.flatnonzero(labelled)
    if not len(rows):
        raise UserError(
            f"{molecules.origin}: no row has a label ({', '.join(list(molecules.target_names)[:5])})"
        )
    gone = [(molecules.names[row], UNLABELLED) for row in np.flatnonzero(~labelled).tolist()]
    return replace(take(molecules, rows), skipped=[*molecules.skipped, *gone])
