"""A trained molecules model on molecules from anywhere: one row a molecule, whatever the input is.

n molecules, K targets or classes, D features.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rdkit import Chem
from rdkit.Chem import rdFingerprintGenerator
from torch import Tensor, nn

from isoform.core.config.schema import AppConfig
from isoform.core.domain import Predictor
from isoform.core.errors import UserError
from isoform.core.supervised.metrics import sigmoid, softmax
from isoform.molecules.config import MoleculesApp
from isoform.molecules.conformal import SHOWN, Calibration
from isoform.molecules.data.buckets import batches
from isoform.molecules.data.collate import collate
from isoform.molecules.data.descriptors import Normaliser, compute
from isoform.molecules.data.featurise import featurise_many
from isoform.molecules.data.graphs import OGB_BONDS, build_store
from isoform.molecules.data.parsing import canonical, looks_like_smiles, parse, parse_smiles, quiet
from isoform.molecules.data.read import Structure, read_structures
from isoform.molecules.data.standardise import Standardiser
from isoform.molecules.data.tables import KNOWN
from isoform.molecules.losses import Scaling

SHOWN_CLASSES = 20  # with more, a table of predictions has no column for each class's probability
RADIUS, BITS = 2, 2048  # of Morgan fingerprints
CHUNK = 1024  # molecules that are graphs in memory at one time


class Named(Structure):
    """A molecule to predict that is called by where it comes from: "mols.smi line 7"."""

    __slots__ = ()

    def __str__(self) -> str:
        return self.name


class MoleculePredictor(Predictor):
    """Predictions and features of one model.

    portable (RunFolder.portable()) may lack any key: then outputs are regression targets called by number, unscaled
    and without intervals. Raises UserError for a model that was trained on graphs that no SMILES becomes.
    """

    def __init__(self, config: AppConfig, portable: Mapping[str, Any], model: nn.Module):
        assert isinstance(config, MoleculesApp)
        kinds = portable.get("kinds")
        if kinds and len(kinds[0]) != len(OGB_BONDS):
            raise UserError(
                f"this model reads graphs whose bonds have {len(kinds[0])} features of the data set's own, and SMILES "
                "don't give them; judge it with eval"
            )
        self.config, self.model = config, model.eval()
        self.kind = str(portable.get("kind") or "regression")
        self.names = [str(name) for name in portable.get("names") or ()]
        scaling = portable.get("scaling")
        self.scaling = Scaling(tuple(scaling["mean"]), tuple(scaling["std"])) if scaling else None
        arrays, given = portable.get("calibration"), portable.get("descriptors")
        self.calibration = Calibration.of(arrays) if arrays else None
        self.normaliser = Normaliser.from_json(given) if given else None
        self.training = list(portable.get("training") or ())
        self.clean = Standardiser(config.data)

    def predict(self, inputs: Sequence[Any]) -> list[dict[str, Any]]:
        """One row a molecule, in input order: input, smiles, prediction, ..., uncertainty, nearest, similarity, error.

        An input is a SMILES, an RDKit molecule, a Structure, or a file of many molecules. What can't be read has its
        reason in `error` and None elsewhere. nearest is the training molecule most similar by Tanimoto's coefficient of
        Morgan fingerprints (radius 2, 2048 bits).
        """
        found = expand_inputs(inputs)
        rows: list[dict[str, Any]] = [{"input": str(one), "error": ""} for one in found]
        for members, texts, output in self._run(found, rows, self.model):
            made = rows_of(self.kind, self._names(output.shape[1]), self._guess(output), self.calibration)
            for i, text, row in zip(members, texts, made, strict=True):
                rows[i] = {"input": rows[i]["input"], "smiles": text, **row, **self._nearest(text), "error": ""}
        columns = dict.fromkeys(key for row in rows for key in row if key not in ("input", "error"))
        return [{"input": r["input"], **{c: r.get(c) for c in columns}, "error": r["error"]} for r in rows]

    def embed(self, inputs: Sequence[Any]) -> np.ndarray:
        """[n, D] float32 features in front of the head, a row a molecule; NaN for what can't be read (it warns)."""
        found = expand_inputs(inputs)
        rows: list[dict[str, Any]] = [{"input": str(one), "error": ""} for one in found]
        method: Any = self.model.features
        features: np.ndarray | None = None
        for members, _, output in self._run(found, rows, method):
            if features is None:
                features = np.full((len(found), output.shape[1]), np.nan, np.float32)
            features[members] = output
        failed = [f"{row['input']}: {row['error']}" for row in rows if row["error"]]
        if features is None:
            raise UserError(failed[0] if failed else "there is no molecule to embed")
        for why in failed:
            warnings.warn(f"{why} (its features are NaN)", stacklevel=2)
        return features

    def _run(
        self, inputs: Sequence[Named], rows: list[dict[str, Any]], function: Any
    ) -> Iterator[tuple[list[int], list[str], np.ndarray]]:
        """(members, their canonical SMILES, what `function` gives) of what can be read; reasons go into `rows`."""
        device = next(self.model.parameters()).device
        for start in range(0, len(inputs), CHUNK):
            members, keys, texts = [], [], []
            for i in range(start, min(start + CHUNK, len(inputs))):
                read = self._read(inputs[i])
                if read is None or isinstance(read, str):
                    rows[i]["error"] = read or inputs[i].error
                    continue
                members.append(i)
                keys.append(read[0])
                texts.append(read[1])
            for chosen, batch in self._batches(members, keys, texts, rows):
                with torch.no_grad():
                    output = function({name: value.to(device) for name, value in batch.items()})
                yield [members[k] for k in chosen], [keys[k] for k in chosen], output.float().cpu().numpy()

    def _read(self, one: Named) -> tuple[str, str] | str | None:
        """(canonical SMILES, the text that becomes the graph), or why there is none; None: as `one` says."""
        if one.error:
            return None
        data = self.config.data
        mol = parse(one.smiles, one.block, data.max_atoms)
        if isinstance(mol, str):
            return mol
        key = canonical(self.clean(mol))
        return key, key if self.clean.steps or data.canonical else one.block or one.smiles

    def _batches(
        self, members: list[int], keys: list[str], texts: list[str], rows: list[dict[str, Any]]
    ) -> Iterator[tuple[list[int], dict[str, Tensor]]]:
        """(places in `texts`, batch) by size; what becomes no graph is named in `rows`."""
        data, t, gt = self.config.data, self.config.tokeniser, self.config.model.family == "gt"
        found = featurise_many(
            texts, chirality=data.chirality, canonical=data.canonical, explicit_h=data.hydrogens,
            max_atoms=data.max_atoms,
        )  # fmt: skip
        for k, why in found.skipped:
            rows[members[k]]["error"] = why
        if not len(found.kept):
            return
        # The model knows a bond by its features, so kinds may be numbered otherwise than in training.
        hops = 1 if gt else self.config.score.hops
        store = build_store(found.graphs, hops=hops, laplacian=t.laplacian)
        for part in batches(store.sizes, self.config.eval.batch, None):
            batch = collate(store, part, hf_compat=t.hf_compat, compact=True, bonds=gt)
            chosen = found.kept[part].tolist()
            if self.normaliser is not None:
                read = [keys[k] if "\n" in texts[k] else texts[k] for k in chosen]  # of a mol block its SMILES
                batch["descriptors"] = torch.from_numpy(self.normaliser(compute(read)))
            yield chosen, batch

    def _names(self, outputs: int) -> list[str]:
        names = self.names or [str(k) for k in range(1, outputs + 1)]
        if len(names) != outputs:
            raise UserError(f"the model has {outputs} outputs and task.json names {len(names)}")
        return names

    def _guess(self, output_nK: np.ndarray) -> np.ndarray:
        if self.kind != "regression":
            return softmax(output_nK) if self.kind == "multiclass" else sigmoid(output_nK)
        return output_nK if self.scaling is None else self.scaling.units(torch.from_numpy(output_nK)).numpy()

    def _nearest(self, smiles: str) -> dict[str, Any]:
        texts, bits_FM, counts_M = self._training
        mol = parse_smiles(smiles)
        if not texts or isinstance(mol, str):
            return {}
        on = _on_bits(mol)
        common_M = bits_FM[on].sum(0, dtype=np.uint16)
        alike_M = common_M / np.maximum(counts_M + len(on) - common_M, 1)
        best = int(alike_M.argmax())
        return {"nearest": texts[best], "similarity": round(float(alike_M[best]), 4)}

    @functools.cached_property
    def _training(self) -> tuple[list[str], np.ndarray, np.ndarray]:
        """SMILES of the M training molecules, their fingerprints uint8 [2048, M], and how many bits each has.

        Worked out at the first prediction. Bit by bit, because a molecule has few of them: only their rows are read.
        """
        mols = [(text, parse_smiles(text)) for text in self.training]
        good = [(text, mol) for text, mol in mols if not isinstance(mol, str)]
        bits_FM = np.zeros((BITS, len(good)), np.uint8)
        for column, (_, mol) in enumerate(good):
            bits_FM[_on_bits(mol), column] = 1
        return [text for text, _ in good], bits_FM, bits_FM.sum(0, dtype=np.int32)


_MORGAN = rdFingerprintGenerator.GetMorganGenerator(radius=RADIUS, fpSize=BITS)


def _on_bits(mol: Chem.Mol) -> list[int]:
    return list(_MORGAN.GetFingerprint(mol).GetOnBits())


def rows_of(
    kind: str, names: Sequence[str], guess: np.ndarray, calibration: Calibration | None = None
) -> list[dict[str, Any]]:
    """Rows for a table of predictions, without their inputs; `guess` [n, K] as metrics take it.

    regression   prediction, `low 0.9`, `high 0.9`, uncertainty (half that interval's width)
    binary       prediction (0 or 1), probability (of 1), `set 0.9`, uncertainty (entropy in bits)
    multiclass   prediction, probability, `p CLASS` of up to 20 classes, `set 0.9`, uncertainty (entropy, 1 = all alike)

    With several targets every column has the target's name behind it. Without calibration there are no intervals.
    """
    bound = None if calibration is None else calibration.bound()
    sets = None if calibration is None else calibration.sets(guess)
    if kind == "multiclass":
        return [_class_row(names, p, None if sets is None else sets[i]) for i, p in enumerate(guess)]
    several = len(names) > 1
    rows = []
    for i, values in enumerate(guess):
        row: dict[str, Any] = {}
        for k, (name, value) in enumerate(zip(names, map(float, values), strict=True)):
            if kind == "regression":
                cells = _interval(value, float("nan") if bound is None else float(bound[k]))
            else:
                cells = _label(value, None if sets is None else sets[i, k])
            row |= {f"{key} {name}" if several else key: cell for key, cell in cells.items()}
        rows.append(row)
    return rows


def _interval(value: float, radius: float) -> dict[str, Any]:
    if not np.isfinite(radius):
        return {"prediction": value}
    return {
        "prediction": value, f"low {SHOWN:g}": value - radius, f"high {SHOWN:g}": value + radius,
        "uncertainty": radius,
    }  # fmt: skip


def _label(p: float, belongs: np.ndarray | None) -> dict[str, Any]:
    cells: dict[str, Any] = {"prediction": int(p >= 0.5), "probability": round(p, 6)}
    if belongs is not None:
        cells[f"set {SHOWN:g}"] = "|".join(str(k) for k in np.flatnonzero(belongs))
    return {**cells, "uncertainty": _entropy(np.array([1 - p, p]))}


def _class_row(names: Sequence[str], p_C: np.ndarray, belongs: np.ndarray | None) -> dict[str, Any]:
    best = int(p_C.argmax())
    row: dict[str, Any] = {"prediction": names[best], "probability": round(float(p_C[best]), 6)}
    if len(names) <= SHOWN_CLASSES:
        row |= {f"p {name}": round(float(p), 6) for name, p in zip(names, p_C, strict=True)}
    if belongs is not None:
        row[f"set {SHOWN:g}"] = "|".join(names[k] for k in np.flatnonzero(belongs).tolist())
    return {**row, "uncertainty": _entropy(p_C)}


def _entropy(p: np.ndarray) -> float:
    """0 = certain, 1 = all alike."""
    return round(abs(float(-(p * np.log(np.maximum(p, 1e-12))).sum() / np.log(max(len(p), 2)))), 6)


def expand_inputs(inputs: Sequence[Any]) -> list[Named]:
    """Inputs as molecules: SMILES, RDKit molecules, Structures, and files (.csv .tsv .txt .smi .sdf .parquet, .gz).

    A file gives every one of its rows, called "FILE line 7". The column of SMILES is found; FILE:COLUMN names it. What
    is neither a file nor a SMILES stays, with the reason as its `error`.
    """
    found: list[Named] = []
    for number, one in enumerate(inputs):
        if isinstance(one, Structure):
            found.append(Named(*one))
        elif isinstance(one, (str, Path)):
            found += _of_text(str(one))
        else:
            found.append(_of_mol(one, number))
    return found


def _of_text(text: str) -> list[Named]:
    path, column = text, None
    if not _is_there(path) and ":" in text:
        head, _, tail = text.rpartition(":")
        if head and tail and _is_there(head) and Path(head).is_file():
            path, column = head, tail
    if _is_there(path) and (_has_ending(path) or Path(path).is_dir() or not looks_like_smiles(path)):
        try:
            return [Named(f"{path} {o.name}", o.smiles, o.block, o.error) for o in read_structures(path, column)]
        except UserError as error:
            return [Named(text, "", None, str(error))]
    wrong = parse_smiles(text)
    if not isinstance(wrong, str):
        return [Named(text, text)]
    if _has_ending(path):
        return [Named(text, "", None, "no such file")]
    no_text = wrong.startswith(("is no SMILES", "holds"))
    return [Named(text, text, None, f"{wrong}, nor is there a file of that name" if no_text else wrong)]


def _is_there(path: str) -> bool:
    try:
        return bool(path) and Path(path).exists()
    except (OSError, ValueError):  # a long SMILES can be no path
        return False


def _has_ending(path: str) -> bool:
    return path.lower().removesuffix(".gz").endswith(KNOWN)


def _of_mol(one: Any, number: int) -> Named:
    name = f"{type(one).__name__} {number}"
    if not isinstance(one, Chem.Mol):
        return Named(name, "", None, f"is no SMILES, file or RDKit molecule but a {type(one).__name__}")
    try:
        with quiet():
            return Named(name, str(Chem.MolToSmiles(one)))
    except (ValueError, RuntimeError) as error:
        return Named(name, "", None, f"can't be written as SMILES ({str(error).strip().partition(chr(10))[0][:160]})")
