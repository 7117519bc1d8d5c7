"""Images that several tests of this domain use."""

import pytest

from .pictures import class_folders


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """49 images of three classes, one of them called like a script; tests don't write into it."""
    return class_folders(
        tmp_path_factory.mktemp("data") / "own", {"cat": 17, "dog": 19, "<script>alert(1)<": 13}
    )
