"""The page of `check`: escaped, self-contained, and honest about tables that are wider than itself."""

import re

from isoform.core.report.check_page import Group, Listing, Picture, render_check_page

BAD = "<script>alert(1)</script>"


def page(**parts):
    return render_check_page(**{"title": "t", "lines": ["a line"], **parts})


def test_everything_of_the_users_is_escaped():
    text = page(
        title=BAD, lines=[BAD], leakage=BAD,
        groups=[Group(BAD, [Picture(BAD, png="AAAA"), Picture(BAD, svg="BBBB", size=(7, 11)), Picture(BAD)])],
        tables=[Listing(BAD, [BAD], [[BAD]])],
    )  # fmt: skip
    assert "<script" not in text and text.count("&lt;script&gt;alert(1)") == 12
    assert (
        "data:image/png;base64,AAAA" in text
        and 'width="7" height="11" src="data:image/svg+xml;base64,BBBB"' in text
    )
    assert text.count("not drawn") == 1


def test_pictures_that_the_suite_drew_stand_as_they_are():
    text = page(groups=[Group("curves", [Picture("a & b", drawn="<svg><path/></svg>")], "curves")])
    assert (
        "<svg><path/></svg><figcaption>a &amp; b</figcaption>" in text
        and 'class="row curves"' in text
    )


def test_leakage_is_said_only_where_it_is():
    assert 'class="bad"' not in page() and '<p class="bad">it leaks</p>' in page(leakage="it leaks")


def test_wide_tables_scroll_and_say_so():
    wide = page(tables=[Listing("all", [f"c{i}" for i in range(13)], [["1"] * 13, ["2"] * 13])])
    assert "13 columns: the table scrolls sideways" in wide and wide.count("<td>") == 26
    assert '<div class="wide" tabindex="0"' in wide and re.search(
        r"\.wide \{ overflow-x: auto", wide
    )
    assert "scrolls sideways" not in page(tables=[Listing("few", ["a", "b"], [["1", "2"]])])


def test_the_page_needs_nothing_from_elsewhere():
    text = page(groups=[Group("g", [Picture("p", png="AAAA")])])
    assert "default-src 'none'" in text and "http" not in re.sub(r"http-equiv", "", text)
