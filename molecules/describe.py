"""What `isoform apps` and `isoform explain` tell of a molecules app beside its settings."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from isoform.core.config.parameter_count import backbone_size, linear_size, norm_size
from isoform.molecules.config import MoleculesApp

# data.source -> what it is, where it comes from, outputs where the data decide
SOURCES = {
    "file": ("your molecules", "data.path: csv, tsv, smi, sdf or parquet", 0),
    "qm9": ("QM9, 130,831 small molecules", "inside the package qm9pack", 19),
    "esol": ("ESOL, solubility of 1,128 compounds", "data.root: delaney-processed.csv", 1),
    "bbbp": ("BBBP, blood-brain barrier, 2,050 compounds", "data.root: BBBP.csv", 1),
    "bace": ("BACE, inhibitors, 1,513 compounds", "data.root: bace.csv", 1),
    "zinc12k": (
        "ZINC-12k, constrained solubility",
        "data.root: the pickles of the 12k subset's split",
        1,
    ),
    "zinc-full": ("ZINC, all 249,456 graphs", "data.root: the pickles", 1),
    "pcqm4mv2": ("PCQM4Mv2, HOMO-LUMO gap, 3.7 million", "data.root: pcqm4m-v2", 1),
    "molhiv": ("MolHIV, 41,127 compounds", "data.root: ogbg_molhiv", 1),
    "molpcba": ("MolPCBA, 437,929 compounds", "data.root: ogbg_molpcba", 128),
}


def describe(config: MoleculesApp, detail: bool = True) -> dict[str, Any]:
    """Rows to show: data, model, parameters, source; with `detail` (which imports torch) attention too."""
    name = config.data.source
    data, source, known = SOURCES.get(
        name, (name.removeprefix("pyg:"), "torch-geometric: data.root", 0)
    )
    outputs = config.head.outputs or len(config.data.targets or ()) or known
    b = config.backbone
    kind = "Graphormer" if config.model.family == "graphormer" else "graph transformer"
    if config.auto:
        return {
            "data": data,
            "model": f"{kind}, size chosen from the data",
            "parameters": None,
            "source": source,
        }
    model = f"{kind}, {b.depth} x {b.dim}, {b.heads} heads"
    rows = {
        "data": data,
        "model": model,
        "parameters": parameters(config, outputs),
        "source": source,
    }
    return {**rows, **_detail(config)} if detail else rows


def parameters(config: MoleculesApp, outputs: int) -> int | None:
    """Weights and biases, counted without torch; None where data decide (outputs, descriptors)."""
    if not outputs or config.head.descriptors:
        return None
    dim, t, h = config.backbone.dim, config.tokeniser, config.head
    degrees = t.degree_ids + (t.out_degree_ids or t.degree_ids) if t.degree_ids else 0
    norm = norm_size(config.backbone, dim) * t.norm
    found = (
        backbone_size(config.backbone) + score_size(config) + (t.atom_ids + degrees) * dim + norm
    )
    if t.laplacian:
        found += linear_size(t.laplacian, dim)
    if config.model.family == "gt":
        widths = [dim, *([dim // 2, dim // 4] if h.hidden else []), outputs]
        return found + t.bond_ids * dim + sum(linear_size(a, b) for a, b in pairwise(widths))
    found += dim * t.graph_token + dim * outputs + 1
    return found + (linear_size(dim, dim) + norm_size(config.backbone, dim, "layer")) * h.hidden


def score_size(config: MoleculesApp) -> int:
    """Parameters of Graphormer's bias on the scores."""
    if config.model.family != "graphormer":
        return 0
    score, heads = config.score, config.backbone.heads
    matrices = score.hop_matrices or score.hops
    return (score.distance_ids + score.bond_ids + 1) * heads + matrices * heads**2


def _detail(config: MoleculesApp) -> dict[str, Any]:
    import torch

    from isoform.core.attention.dispatch import Request, explain_choice, tabulate

    b = config.backbone
    if config.model.family == "gt":
        return {
            "tokens": "one an atom, an edge a bond and direction",
            "precision": "fp32",
            "attention": "of neighbours, along the bonds",
        }
    request = Request(
        device="cuda" if torch.cuda.is_available() else "cpu",
        dtype=torch.float32,
        keys=32,
        backward=True,
        head_dim=b.head_dim or b.dim // b.heads,
        bias=True,
        bias_gradient=True,
        kinds="path+table",
        dropout=bool(b.attention_dropout),
    )
    return {
        "tokens": "one an atom and a virtual node",
        "precision": "fp32",
        "attention": "in training: " + "; ".join(explain_choice(request)),
        "attention by device": tabulate(request, "Table and PathTable"),
    }
