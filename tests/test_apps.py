"""The apps that come with isoform: valid, and no claim without its command."""

from __future__ import annotations

import tomllib

import pytest

from isoform import registry
from isoform.core import config
from isoform.core.config import layers

TABLES = tomllib.loads(layers.built_in())
NAMES = [(domain, app) for domain in TABLES for app in TABLES[domain]]


@pytest.mark.parametrize(("domain", "app"), NAMES)
def test_every_app_is_valid_and_claims_only_what_was_measured(domain, app):
    found = config.resolve_app(app, domain=registry.domain(domain))
    assert found.summary
    if found.status == "measured":
        assert found.expected and found.minutes and "isoform" in found.measured
    else:
        assert (
            not found.expected and not found.spread and not found.measured and found.minutes is None
        )


@pytest.mark.parametrize("domain", TABLES)
def test_every_domain_has_a_demo_and_a_tiny_app_that_makes_resuming_hard(domain):
    assert any(app.endswith("-demo") for app in TABLES[domain])
    tiny = [app for app in TABLES[domain] if app.endswith("-tiny")]
    assert tiny
    for app in tiny:
        found = config.resolve_app(app, domain=registry.domain(domain))
        assert (
            found.train.checkpoint_every == 5
            and found.train.accumulate > 1
            and found.backbone.dropout > 0
        )


def test_every_app_is_preceded_by_its_command():
    text = layers.built_in()
    for domain, app in NAMES:
        comment = text.partition(f"\n[{domain}.{app}]\n")[0].rpartition("\n\n")[2]
        assert all(line.startswith("#") for line in comment.splitlines())
        assert f"isoform {domain} train {app}" in comment
