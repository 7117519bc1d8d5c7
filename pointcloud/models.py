"""Models and apps by name, for code that wants a trunk and no training run."""

from __future__ import annotations

from typing import Any, cast

from isoform.core.config import app_names, resolve_app
from isoform.core.errors import UserError
from isoform.pointcloud.config import PointcloudApp
from isoform.pointcloud.prepare import update
from isoform.pointcloud.state import PointcloudState

PUBLISHED = "pointmae"  # the published classifier's size


def app_of_model(
    name: str, *, outputs: int | None = None, groups: int | None = None
) -> tuple[PointcloudApp, PointcloudState]:
    """The app of the published size ("pointmae"), or one of the apps; `outputs` classes, `groups` patches.

    Raises UserError for a name that nobody knows.
    """
    from isoform.pointcloud import DOMAIN

    if name == PUBLISHED:
        app = PointcloudApp(domain=DOMAIN.name, app=name)
    elif name in app_names(DOMAIN.name):
        app = cast(PointcloudApp, resolve_app(name, domain=DOMAIN))
    else:
        known = ", ".join((PUBLISHED, *app_names(DOMAIN.name)))
        raise UserError(f"no point cloud model is called {name!r}; there are {known}")
    changes: dict[str, dict[str, Any]] = {
        "head": {"outputs": outputs},
        "tokeniser": {"groups": groups},
    }
    for table, values in changes.items():
        wanted = {key: value for key, value in values.items() if value is not None}
        app = update(app, **{table: wanted})
    return app, PointcloudState()
