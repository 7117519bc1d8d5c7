"""`isoform DOMAIN import | export`: foreign checkpoints to run folders, and back."""

from __future__ import annotations

from pathlib import Path

from isoform.core import actions, config
from isoform.core.cli.parser import Context
from isoform.core.domain import UserError


def import_(context: Context) -> int:
    """Writes a foreign checkpoint as a run folder."""
    args, console, domain = context.args, context.console, context.domain
    imported = actions.import_weights(
        domain, args.source, app=args.app, apps_file=args.apps, sets=args.sets, layout=args.layout
    )
    run = actions.write_imported(imported, domain, args.source, args.out)
    console.say(*imported.notes)
    console.say(
        f"{imported.layout} layout, {run.results['parameters']:,} parameters, licence {imported.licence}: {run.folder}"
    )
    console.result = {"run": str(run.folder), "notes": list(imported.notes), **run.results}
    return 0


def export(context: Context) -> int:
    """Writes a run's model in another format."""
    args, console, domain = context.args, context.console, context.domain
    config.load_run_config(args.run_dir, domain)
    out = Path(args.out)
    if out.exists():
        raise UserError(f"{out}: exists already; name another --out")
    domain.export[args.format](Path(args.run_dir), out, checkpoint=args.checkpoint)
    console.say(f"{args.format}: {out}")
    console.result = {"format": args.format, "out": str(out)}
    return 0
