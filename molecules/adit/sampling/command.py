"""`isoform molecules sample RUN -n N --out FILE`: systems drawn into a file that survives being killed."""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import torch

from isoform.core.domain import Speaker, TrainedModel
from isoform.core.engine import distributed
from isoform.core.errors import UserError, count
from isoform.core.inference.run_model import load_trained
from isoform.core.runs.exported import as_run
from isoform.core.runs.folder import runs_in
from isoform.core.version import __version__
from isoform.molecules.adit.sampler import SizeCounts
from isoform.molecules.adit.sampling import records
from isoform.molecules.adit.sampling.items import (
    Track,
    adit_of,
    model_for,
    only_kind,
    sizes_learned,
    windows,
)
from isoform.molecules.adit.sampling.journal import Journal
from isoform.molecules.adit.sampling.request import Request, changed, parse_atoms
from isoform.molecules.adit.sampling.scoring import Judging, refuse_scoring


def run_sample(args: argparse.Namespace, console: Speaker) -> int:
    """The command. Raises UserError for options that don't fit the run, the file or each other."""
    atoms = parse_atoms(args.atoms)
    refuse_scoring(args)
    if args.kind is not None:
        records.ending_of(args.out, args.kind)
    trained = _load(args.run_dir, args.checkpoint)
    adit_of(trained)
    sizes = sizes_learned(trained)
    request = Request(
        count=args.count,
        kind=args.kind or only_kind(sizes),
        sampling=changed(
            trained.config.sampling,
            guidance=args.guidance,
            steps=args.steps,
            solver=args.solver,
        ),
        seed=args.seed,
        atoms=atoms,
        spacegroup=args.spacegroup,
        batch=args.batch,
    )
    out = Path(args.out)
    judging = Judging.of(args, trained, request.kind, console) if args.score else None
    before = sample_into(
        out,
        trained,
        request,
        sizes,
        overwrite=args.overwrite,
        track=console.track,
        say=console.warn,
    )
    _tell(out, request, before, console)
    if judging is not None:
        judging.write(out, request, console)
    return 0


def sample_into(
    out: Path,
    trained: TrainedModel[Any, Any],
    request: Request,
    sizes: SizeCounts,
    *,
    overwrite: bool = False,
    track: Track = lambda parts, doing: parts,
    say: Any = lambda line: None,
) -> int:
    """Draws what is asked for into `out` and STEM.records.csv beside it; returns how many were there already.

    Killed at any moment and called again it goes on, and the files are those of an undisturbed call, byte for byte, on
    the same machine with as many threads. STEM.sampling.json says what they were made from.

    Raises UserError for an ending that can't hold the kind, and where other records are in the way, unless `overwrite`.
    """
    suffix = records.ending_of(out, request.kind)
    model_for(trained, request, sizes)
    journal = Journal(
        records.beside(out, "sampling.json"),
        [out, records.beside(out, "records.csv")],
        request.count,
        {"file": out.name, **request.to_json(), "model": model_digest(trained, sizes)},
        {
            "run": trained.folder.name,
            "checkpoint": trained.step,
            "isoform": __version__,
            "computed by": _computer(),
        },
    )
    with journal.open(overwrite=overwrite):
        before = journal.done
        if before < request.count:  # metrics would be of other records
            records.beside(out, "metrics.json").unlink(missing_ok=True)
        if 0 < before < request.count:
            say(f"{out}: goes on behind {before:,} of {request.count:,} records")
            if journal.told_before.get("computed by") != journal.told["computed by"]:
                say(
                    f"{out}: was begun by {journal.told_before.get('computed by')}, now it is "
                    f"{journal.told['computed by']}: the last digits may differ"
                )
        beginnings = [records.head(suffix), records.table_head(request.kind)]
        for window in windows(trained, request, sizes, before, track):
            texts = ["", ""] if journal.done else list(beginnings)
            for number, item in enumerate(window, journal.done + 1):
                item = records.as_written(item, suffix)
                verdict = records.judge(item)
                texts[0] += records.record(item, verdict, suffix)
                texts[1] += records.table_row(number, request.kind, item, verdict)
            journal.append(texts, len(window))
    return before


def model_digest(trained: TrainedModel[Any, Any], sizes: SizeCounts) -> str:
    """BLAKE2b of 16 bytes, hex, of the weights, and of the sizes that are drawn from."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in trained.weights().items():
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().numpy().tobytes())
    counts = {kind: dict(sorted(found.items())) for kind, found in sizes.counts.items()}
    digest.update(json.dumps(counts, sort_keys=True).encode())
    return digest.hexdigest()


def _computer() -> str:
    """What the last digits of a number depend on."""
    device = distributed.this_process().device.type
    return f"torch {torch.__version__} on {device}, {count(torch.get_num_threads(), 'thread')}"


def _load(run_dir: str, checkpoint: str) -> TrainedModel[Any, Any]:
    """The model of one run. Raises UserError for a group of seeds."""
    from isoform.molecules import DOMAIN

    with as_run(run_dir) as folder:
        runs = runs_in(folder)
        if len(runs) > 1:
            raise UserError(f"{run_dir}: holds several runs; name one of them, such as {runs[0]}")
        return load_trained(DOMAIN, runs[0], checkpoint)


def _tell(out: Path, request: Request, before: int, console: Speaker) -> None:
    """What is in the files now."""
    table = records.beside(out, "records.csv")
    found = records.count_valid(table)
    if before == request.count:
        console.say(f"{out}: is there already, all of it")
    console.say(
        f"{out}: {request.count:,} {request.kind}s, {found['valid']:,} valid, {found['invalid']:,} not, "
        f"{found['undetermined']:,} undetermined; each is told in {table}"
    )
    console.result |= {"out": str(out), "kind": request.kind, "records": request.count, **found}
