"""Batches for the models' tests, from SMILES and back to odd orders and sizes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from isoform.core.config.schema import BackboneConfig
from isoform.molecules.config import (
    HeadConfig,
    ModelConfig,
    MoleculesApp,
    ScoreConfig,
    TokeniserConfig,
)
from isoform.molecules.data.collate import collate
from isoform.molecules.data.featurise import featurise_many
from isoform.molecules.data.graphs import build_store
from isoform.molecules.graphormer.model import sized
from isoform.molecules.gt.model import TRUNK as GT_TRUNK
from isoform.molecules.models import build_model

ATOM_IDS, EDGE_IDS = 4609, 1537
# Of QM9: its first four, then 46 at random.
QM9 = (
    "C", "N", "O", "C#C", "NC(=O)N1C=NC(O)=C1", "CC1=CC=C(C)C(=O)O1", "CCOCCC=O", "CC12COC1C1CC21",
    "C#CC1=NC2CC3C2N13", "CCOC1=CC(O)=CN1", "OC1=C2CCOC2=CN1", "C1CC2OCC3C1C23", "CCC1=CC=CN=C1O",
    "N#CC1=NC(=CO1)C#N", "C1C2OCC3CCOC123", "CC#CCC#CC#C", "C#CC12CC3OC1C3O2", "CCCCC(C)C=O", "N1C2C=CC3OC2C13",
    "COCCC(C)CO", "O=CCC1(CC#N)CO1", "CC1(O)CC(O)C1C#C", "OC(CN1CCC1)C#N", "CC1C2CC(=O)C1C2=O", "OC1C=CCC11CCC1",
    "CC(=O)C12CC3C1CC23", "CC1(CC2NC2C1)C=O", "O=CCC1=CC(=O)CC1", "O=CC1C2CC2C2CC12", "CC1(C)N2CC3C2C13O",
    "CC1C(C)C(=N)N1C=O", "OC1C2NC2C1(O)C#N", "O=COC1C2C3NC3C12", "CC12CC(C1)CCCO2", "CC1=C(C#C)C2NC2C1",
    "NC1(CNC1=O)C1CN1", "NC1=CNN=C1NC=O", "CC1=C(F)C(=N)N=CO1", "CCC(CC)OC1CC1", "CC1=NOC(N)=C1CO", "COCC1CC11COC1",
    "OCCC(CC#N)C#C", "C1C2NC1C1=C2ON=C1", "COC12CC(C1)C(=O)C2", "CC1CN=COC1C#C", "CC1=NN(C=O)C(C)=N1",
    "CC1OC2(CNC12)C#N", "CC1CCC2CC2C1=O", "CCC1CCC(C=O)=C1", "O=CCNC1=NON=N1",
)  # fmt: skip
MIXED = (
    "CC(=O)Oc1ccccc1C(=O)O",
    "[Na+].CC(=O)[O-]",
    "C",
    "C1CCC2CCCCC2C1",
    "[NH4+].[Cl-]",
    "OCC#N",
)


def batch_of(*smiles: str, laplacian: int = 0, **options: bool) -> dict[str, Tensor]:
    """The molecules as a batch; with compact=True its kinds of edges are listed beside it."""
    found = featurise_many(smiles)
    assert not found.skipped
    store = build_store(found.graphs, laplacian=laplacian)
    batch = collate(store, range(len(store)), **options)
    return (
        batch | {"kind_bond_ids": torch.from_numpy(store.kind_bond_ids)}
        if options.get("compact")
        else batch
    )


def graphormer(outputs: int = 3, *, seed: int = 0, spread: float = 0.0, **keys: Any) -> nn.Module:
    """A small Graphormer in evaluation mode; `spread` > 0: every weight random, so that a forgotten one shows.

    Keys are of the backbone, or of another table with its name and two underscores in front.
    """
    small = {"depth": 2, "dim": 24, "mlp_dim": 29, "heads": 4, **_of("", keys)}
    return _built("graphormer", sized("slim", **small), keys, outputs, seed, spread)


def gt(outputs: int = 3, *, seed: int = 0, spread: float = 0.0, **keys: Any) -> nn.Module:
    """A small graph transformer; see `graphormer`."""
    table = {**GT_TRUNK, "depth": 2, "dim": 20, "mlp_dim": 23, "heads": 5, **_of("", keys)}
    keys = {
        "tokeniser__graph_token": False, "tokeniser__norm": False, "tokeniser__degree_ids": 0, "head__pool": "mean",
        **keys,
    }  # fmt: skip
    return _built("gt", BackboneConfig.model_validate(table), keys, outputs, seed, spread)


def app(family: str, backbone: BackboneConfig, **keys: Any) -> MoleculesApp:
    """An app of these tables."""
    return MoleculesApp(
        domain="molecules", app="test", model=ModelConfig(family=family), backbone=backbone,
        tokeniser=TokeniserConfig.model_validate(_of("tokeniser", keys)),
        head=HeadConfig.model_validate(_of("head", keys)),
        score=ScoreConfig.model_validate(_of("score", keys)),
    )  # fmt: skip


def _of(table: str, keys: dict[str, Any]) -> dict[str, Any]:
    if not table:
        return {key: value for key, value in keys.items() if "__" not in key}
    return {k.removeprefix(f"{table}__"): v for k, v in keys.items() if k.startswith(f"{table}__")}


def _built(
    family: str,
    backbone: BackboneConfig,
    keys: dict[str, Any],
    outputs: int,
    seed: int,
    spread: float,
):
    torch.manual_seed(seed)
    model = build_model(app(family, backbone, **keys), outputs).eval()
    if spread:
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            centre = float(tensor.dim() == 1 and name.endswith("weight"))
            torch.nn.init.normal_(tensor, centre, spread)
            if name.endswith("running_var"):
                torch.nn.init.uniform_(tensor, 0.5, 1.5)
            if name.endswith(
                ("spatial", "edges", "features.weight", "degree.weight", "bonds.weight")
            ):
                tensor.data[0] = 0.0
    return model


def permuted(batch: dict[str, Tensor], seed: int = 0) -> dict[str, Tensor]:
    """The same molecules with the atoms of each in another order (dense batches, without bonds)."""
    g = torch.Generator().manual_seed(seed)
    out = {name: tensor.clone() for name, tensor in batch.items()}
    for b, n in enumerate(batch["valid"].sum(1).tolist()):
        order = torch.randperm(n, generator=g)
        for name in ("atoms", "degree", "laplacian"):
            if name in batch:
                out[name][b, :n] = batch[name][b, order]
        for name in ("distance_ids", "path_bond_ids", "path_kinds"):
            if name in batch:
                out[name][b, :n, :n] = batch[name][b, order][:, order]
    return out


def padded(batch: dict[str, Tensor], extra: int) -> dict[str, Tensor]:
    """`extra` more places a molecule, all of which, like the places that were padding before, hold junk."""
    n_batch, n = batch["valid"].shape
    valid = torch.cat([batch["valid"], torch.zeros(n_batch, extra, dtype=torch.bool)], dim=1)
    out = {"valid": valid}
    for name, tensor in batch.items():
        by_pair = ("distance_ids", "path_bond_ids", "path_kinds")
        axes = 2 if name in by_pair else int(name in ("atoms", "degree", "laplacian"))
        if not axes:
            out.setdefault(name, tensor)
            continue
        size = (n_batch, *[n + extra] * axes, *tensor.shape[1 + axes :])
        most = 50 if name == "path_kinds" else 500
        junk = (
            torch.randn(size) * 100
            if tensor.is_floating_point()
            else torch.randint(1, most, size).to(tensor.dtype)
        )
        real = valid if axes == 1 else valid[:, :, None] & valid[:, None, :]
        place = torch.zeros(size[: 1 + axes], dtype=torch.bool)
        place[(slice(None), *[slice(n)] * axes)] = True
        junk[place & real] = tensor[real[(slice(None), *[slice(n)] * axes)]]
        out[name] = junk
    if "bond_index" in batch:
        out["bond_index"] = batch["bond_index"] + batch["bond_index"] // n * extra
    return out
