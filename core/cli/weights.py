"""`isoform DOMAIN import | export`: foreign checkpoints to run folders, and back."""

from __future__ import annotations

import warnings

from isoform.core import api
from isoform.core.cli.context import Context


def import_(context: Context) -> int:
    """Writes a foreign checkpoint as a run folder."""
    args, console, domain = context.args, context.console, context.domain
    imported = api.import_weights(
        domain, args.source, app=args.app, apps_file=args.apps, sets=args.sets, layout=args.layout
    )
    run = api.write_imported(imported, domain, args.source, args.out)
    console.say(*imported.notes)
    console.say(
        f"{imported.layout} layout, {run.results['parameters']:,} parameters, licence {imported.licence}: {run.folder}"
    )
    console.result = {"run": str(run.folder), "notes": list(imported.notes), **run.results}
    return 0


def export(context: Context) -> int:
    """Writes a run's model in another format."""
    args, console, domain = context.args, context.console, context.domain
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        agreement = api.export(
            domain, args.run_dir, args.format, args.out, args.checkpoint, args.verify
        )
    for one in said:  # a NonCommercial licence of the initial weights, an input that can't be read
        console.warn(str(one.message))
    console.say(f"{args.format}: {args.out}")
    console.result = {"format": args.format, "out": args.out}
    if agreement is not None:
        console.say(str(agreement))
        console.result["verified"] = agreement.to_json()
    return 0
