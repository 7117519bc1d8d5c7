"""The settings of time-series apps: each has a reader, and an old key names the new one."""

from pathlib import Path

import pytest

from config_readers import unread_keys
from isoform.core.config import resolve_app
from isoform.core.errors import UserError
from isoform.timeseries import DOMAIN
from isoform.timeseries.config import TimeseriesApp

ROOT = Path(__file__).resolve().parents[2]


def test_every_key_has_a_reader():
    assert unread_keys(TimeseriesApp, [ROOT / "core", ROOT / "timeseries"]) == []


@pytest.mark.parametrize("old", TimeseriesApp.moved)
def test_an_old_key_names_the_new_one(old):
    with pytest.raises(
        UserError, match=f"{old}: unknown key; it is called {TimeseriesApp.moved[old]} now"
    ):
        resolve_app("itransformer-tiny", domain=DOMAIN, sets=[f"{old}=1"])


def test_losses_have_the_names_of_every_domain():
    kinds = {"mse", "l1", "huber"}
    for kind in kinds:
        assert (
            resolve_app("itransformer-tiny", domain=DOMAIN, sets=[f"loss.kind={kind}"]).loss.kind
            == kind
        )
    with pytest.raises(UserError, match=r"loss\.kind"):
        resolve_app("itransformer-tiny", domain=DOMAIN, sets=["loss.kind=mae"])


def test_what_only_classes_and_images_have_is_unknown_here():
    for key in ("train.mixup", "train.label_smoothing", "loss.label_smoothing"):
        with pytest.raises(UserError, match=f"{key}: unknown key"):
            resolve_app("itransformer-tiny", domain=DOMAIN, sets=[f"{key}=0.1"])
