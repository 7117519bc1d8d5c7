"""Which pages of a file are its image, as data.page says; several are never passed over in silence."""

from __future__ import annotations

from isoform.core.errors import UserError
from isoform.vision.data.arrays import Reading


def choose_pages(
    count: int,
    channels: int | None,
    reading: Reading,
    name: str,
    *,
    bands: int = 1,
    what: str = "pages",
) -> list[int]:
    """Numbers, from 0, of the pages to read of `count`; several are channels of one image.

    bands   channels of a page, which must be 1 where pages are channels
    Raises UserError where data.page names none of them, or where it doesn't say and there is a choice.
    """
    page = reading.page
    if isinstance(page, int):
        if page > count:
            raise UserError(f"{name}: the number of its {what} is {count}, and data.page = {page}")
        return [page - 1]
    unusual = channels is not None and channels not in (1, 3, 4)
    if page == "all" or (unusual and bands == 1 and count == channels):
        if bands > 1 and count > 1:
            raise UserError(
                f"{name}: each of its {count} {what} has {bands} channels, so they are no channels; set data.page to "
                "the number of one"
            )
        return list(range(count))
    if unusual and bands == 1:
        raise UserError(
            f"{name}: has {count} page(s) of one channel where {channels} channels are expected; store an .npy array "
            f"[H, W, {channels}], or a TIFF of {channels} bands or pages"
        )
    if count == 1:
        return [0]
    raise UserError(
        f"{name}: has {count} {what}: say which to read with data.page = 1 (up to {count}), or take each as a channel "
        f'with data.page = "all" and tokeniser.channels = {count}'
    )
