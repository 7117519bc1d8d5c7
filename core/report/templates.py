"""The templates of all pages, compiled once a process."""

from __future__ import annotations

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from isoform.core.report.formatting import clock, mebibytes, number


@cache
def template(name: str) -> Template:
    """The file `name` of this folder, made ready: it escapes everything, and a name that it isn't given is an error."""
    environment = Environment(
        loader=PackageLoader("isoform.core.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "clock": clock, "bytes": mebibytes}
    return environment.get_template(name)
