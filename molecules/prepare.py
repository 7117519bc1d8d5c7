"""An app with its data, which decide what it leaves open: outputs, scale, and for `auto` apps the trunk."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from isoform.core.config.schema import Table
from isoform.core.domain import Prepared
from isoform.core.errors import UserError, count
from isoform.core.ops.shapes import shapes_alone
from isoform.core.supervised.config import resolve_loss_kind
from isoform.molecules.config import MoleculesApp
from isoform.molecules.data.collate import FIRST_ATOM_ID
from isoform.molecules.data.dataset import MoleculeData, describe_data, describe_losses, read_data
from isoform.molecules.data.graphs import COLUMN, GraphStore
from isoform.molecules.models import make_model

# (up to this many training molecules, dim, depth, heads, batch)
_SIZES = ((2000, 64, 4, 4, 32), (20_000, 96, 6, 8, 64), (math.inf, 128, 8, 8, 128))
_OPERATIONS = 4e12  # of a training: about 5 minutes of one core, small matrices and all
_EPOCHS = (10, 200)  # at least and at most


def prepare(config: MoleculesApp) -> Prepared[MoleculesApp, MoleculeData]:
    """The molecules of an app, and its config with nothing left open; preparing that again changes nothing in it.

    Raises UserError for data that are missing or don't fit the config.
    """
    refuse_impossible(config)
    return resolve(config, read_data(config))


def refuse_impossible(config: MoleculesApp) -> None:
    """Raises UserError for tables that no model can be made of, whatever the molecules; an `auto` app has them open."""
    if not config.auto:
        with shapes_alone():
            make_model(config, 1)


def resolve(config: MoleculesApp, data: MoleculeData) -> Prepared[MoleculesApp, MoleculeData]:
    """Fills what the config leaves open from its data; the notes say what was found and chosen.

    Raises UserError where the two don't fit.
    """
    outputs = len(data.names)
    if config.head.outputs not in (0, outputs):
        words = ("class", "classes") if data.kind == "multiclass" else ("target",)
        raise UserError(
            f"head.outputs = {config.head.outputs}, but {data.molecules.origin} has {count(outputs, *words)}"
        )
    if config.head.descriptors and not data.has_smiles:
        raise UserError(
            f"{data.molecules.origin} comes as graphs without SMILES, which have no descriptors: set "
            "head.descriptors = false"
        )
    check_ids(config, data.store)
    resolve_loss_kind(config.loss, data.kind)  # refuses one that doesn't fit
    notes, lost = describe_data(data), describe_losses(data)
    if is_resolved(config):
        return Prepared(config, notes, data, lost)
    scale: dict[str, Any] = {}
    if data.kind == "regression":
        scale = {"target_mean": data.scaling.mean, "target_std": data.scaling.std}
    config = _update(config, head={"outputs": outputs}, data=scale)
    if config.auto:
        config = _choose_trunk(config, data)
    if config.auto or config.train.epochs == "auto":
        config = _choose_epochs(config, data)
        notes.append(_describe_choice(config, data.sizes()["train"]))
    return Prepared(config, notes, data, lost)


def _describe_choice(config: MoleculesApp, molecules: int) -> str:
    b, t = config.backbone, config.train
    stops = (
        f", stopped after {count(t.patience, 'epoch')} without a better validation"
        if t.patience
        else ""
    )
    return (
        f"{count(molecules, 'training molecule')}: {count(b.depth, 'block')} of {b.dim} features, "
        f"{count(int(t.epochs), 'epoch')} in batches of {t.batch}{stops}"
    )


def is_resolved(config: MoleculesApp) -> bool:
    """Whether nothing is left to be filled from the data."""
    sized = config.backbone.model_fields_set >= {"dim", "depth", "heads", "mlp_dim"}
    scaled = config.data.task in ("binary", "multiclass") or config.data.target_mean is not None
    if not config.head.outputs or not scaled or config.train.epochs == "auto":
        return False
    return sized or not config.auto


def check_ids(config: MoleculesApp, store: GraphStore) -> None:
    """Raises UserError where a molecule has a feature that the model's tables have no row for."""
    hf = int(config.tokeniser.hf_compat)
    needed = {"tokeniser.atom_ids": FIRST_ATOM_ID + hf + _highest(store.graphs.atoms)}
    bonds = "tokeniser.bond_ids" if config.model.family == "gt" else "score.bond_ids"
    needed[bonds] = 3 + _highest(store.graphs.bonds)
    for key, highest in needed.items():
        table, name = key.split(".")
        rows = getattr(getattr(config, table), name)
        if rows is not None and highest >= rows:
            raise UserError(
                f"{key} = {rows}: the features of these molecules need {highest + 1} rows; set it to that"
            )


def _highest(features: np.ndarray) -> int:
    """The largest of `COLUMN * column + value`."""
    if not len(features):
        return 0
    return int((features.max(0) + COLUMN * np.arange(features.shape[1])).max())


def _choose_trunk(config: MoleculesApp, data: MoleculeData) -> MoleculesApp:
    """Fills the keys of the trunk that nobody set, from the number of molecules."""
    molecules = data.sizes()["train"]
    _, dim, depth, heads, batch = next(row for row in _SIZES if molecules <= row[0])
    if "dim" in config.backbone.model_fields_set:
        dim = config.backbone.dim
    trunk = {"dim": dim, "depth": depth, "heads": heads, "mlp_dim": 2 * dim}
    return _update(
        config,
        backbone=_unset(config.backbone, trunk),
        train=_unset(config.train, {"batch": batch}),
    )


def _choose_epochs(config: MoleculesApp, data: MoleculeData) -> MoleculesApp:
    """As many epochs as the model's cost allows, and patience to stop earlier."""
    if config.train.epochs != "auto":
        return config
    b = config.backbone
    mlp_dim = b.mlp_dim or 4 * b.dim
    weights = b.depth * (4 * b.dim**2 + 2 * b.dim * mlp_dim)
    tokens = float((data.store.sizes[data.rows["train"]] + 1).sum())
    cost = 6 * weights * tokens  # forward, and twice as much backward
    least, most = _EPOCHS
    epochs = int(max(least, min(most, _OPERATIONS / max(cost, 1))))
    patience = config.train.patience or max(10, epochs // 4)
    return _update(config, train={"epochs": epochs, "patience": patience})


def _unset(table: Table, values: dict[str, Any]) -> dict[str, Any]:
    """The values for the keys that nobody set."""
    return {key: value for key, value in values.items() if key not in table.model_fields_set}


def _update(config: MoleculesApp, **tables: dict[str, Any]) -> MoleculesApp:
    """The config with some keys set."""
    changed = {
        name: getattr(config, name).model_copy(update=changes) for name, changes in tables.items()
    }
    return config.model_copy(update=changed)
