"""`isoform DOMAIN train --folds K`: a cross-validation as K runs beside each other, RUN/fold-1 to RUN/fold-K."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from isoform.core import api, config
from isoform.core.data.folds import join_tables
from isoform.core.engine.groups import groups_of_folds
from isoform.core.errors import UserError
from isoform.core.report.page import write_report
from isoform.core.runs.folder import RunFolder
from isoform.core.runs.results import summarise_folds


def train_folds(
    request: api.Request,
    folds: int,
    run_dir: str | Path | None = None,
    *,
    resume: bool = False,
    progress: bool = True,
    strict: bool = False,
    log: Sequence[str] = (),
    say: api.Say,
) -> api.Run:
    """Trains data.fold = 1 to K of data.folds = K into RUN/fold-K; each is a run that can be had again by itself.

    What an app leaves open of its model is chosen on the first fold and holds for all; what training samples fill
    (scales) is each fold's own. RUN gets results.json (mean, deviation and values of every metric, sizes of each fold),
    the folds' test predictions joined, and a page. Where `train.init` is a folder of folds too, each begins from the
    one of its number, which never saw what this one tests on. Raises UserError for fewer than 2 folds and for a folder
    that is taken. Each fold is a run of its own to the trackers in `log`.
    """
    if folds < 2:
        raise UserError(f"--folds {folds}: should be at least 2")
    path = Path(run_dir) if run_dir is not None else Path("runs") / f"{request.app}-folds"
    group = RunFolder(path)
    if not resume:
        api.refuse_run(group)
    elif any(run.name.startswith("seed-") for run in config.members_of(path)):
        raise UserError(f"{path}: holds several seeds; name another --run-dir for the folds")
    runs: list[api.Run] = []
    said: set[str] = set()
    chosen: dict[str, Any] = {}
    options: dict[str, Any] = {
        "resume": resume,
        "progress": progress,
        "strict": strict,
        "log": log,
    }
    starts = _starts(request, folds)
    for fold in range(1, folds + 1):
        settings = {**request.settings, **chosen, "data.folds": folds, "data.fold": fold}
        one = replace(request, settings=settings)
        if starts:
            one = replace(one, flags={**one.flags, "train.init": str(starts[fold - 1])})
        say(f"fold {fold} of {folds}")
        folder = path / f"fold-{fold}"
        runs.append(api.train(one, folder, **options, say=say, said=said))
        if fold == 1:
            chosen = _chosen(one, runs[0].folder)
    folders = [run.folder for run in runs]
    results = {
        "app": request.app,
        "domain": request.domain.name,
        "runs": [folder.name for folder in folders],
        "sizes": [_sizes(request, folder) for folder in folders],
        **summarise_folds([run.results for run in runs]),
    }
    groups = groups_of_folds([run.results.get("groups", {}).get("test") for run in runs])
    if groups is not None:
        results["groups"] = {"test": groups}
    group.write_json("results.json", results)
    _join_predictions(request, folders, path)
    write_report(folders)
    return api.Run(path, results, request.domain)


DRAWN = ("folds", "split_seed", "group")  # what the members of a fold depend on beside the data


def _starts(request: api.Request, folds: int) -> list[Path]:
    """The runs of the folder of folds that `train.init` is; none where it is anything else.

    Raises UserError where those folds are others: of another number, or drawn otherwise.
    """
    first = {**request.settings, "data.folds": folds, "data.fold": 1}
    asked = replace(request, settings=first).resolve().config
    init = asked.train.init
    members = config.members_of(Path(init)) if init else []
    runs = [run for run in members if run.name.startswith("fold-")]
    if not runs or (Path(str(init)) / "config.toml").is_file():
        return []
    for number, run in enumerate(runs, 1):
        theirs = config.load_run_config(run, request.domain)
        for key in DRAWN:
            own, other = (getattr(getattr(one, "data", None), key, None) for one in (asked, theirs))
            if own != other:
                raise UserError(
                    f"--init {run}: has data.{key} = {other}, and these folds {own}: its training would have seen "
                    "what is tested on here"
                )
        if run.name != f"fold-{number}":
            raise UserError(f"--init {init}: has no fold-{number}, of which fold {number} begins")
    if len(runs) != folds:
        raise UserError(f"--init {init}: has {len(runs)} of {folds} folds")
    return runs


def _chosen(
    request: api.Request,
    first: Path,
) -> dict[str, Any]:
    """What the first fold made of the settings that were left open, but for what its training samples filled."""
    settled = config.load_run_config(first, request.domain)
    own = {f"data.{key}" for key in request.domain.fitted}
    changes = config.changes(request.resolve().config, settled)
    found = {}
    for key, _, now in changes:
        if key not in own and now is not None:
            found[key] = now
    return found


def _sizes(
    request: api.Request,
    folder: Path,
) -> dict[str, int]:
    """Samples of each split of a fold."""
    data = RunFolder(folder).state(request.domain.state_schema()).data
    return {} if data is None else dict(data.sizes)


def _join_predictions(
    request: api.Request,
    folders: Sequence[Path],
    out: Path,
) -> None:
    request.domain.join_predictions(folders, out)
    tables = [folder / "predictions.csv" for folder in folders]
    if all(table.exists() for table in tables):
        join_tables(tables, out / "predictions.csv")
