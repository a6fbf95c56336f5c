"""The page for searching what was said."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from markupsafe import Markup

from conserver.http.dashboard.search import marked
from storage.contract import Document, Hit
from storage.sqlite import Options, Storage
from tests.api.conftest import Api
from tests.dashboard.calls import HOSTILE, call, transcript
from tests.dashboard.visitor import Visitors


@pytest.fixture
def index(api: Api) -> Any:
    """The storage that can search."""
    storage = Storage("index", Options(path=api.config.storages["index"].options["path"]))
    storage.open()
    yield storage
    storage.close()


def keep(index: Storage, **members: Any) -> str:
    document = call(**members)
    index.save_many([Document(document["uuid"], orjson.dumps(document), 1)])
    return str(document["uuid"])


def test_words_are_found_and_marked(visitors: Visitors, index: Storage) -> None:
    uuid = keep(index)
    ops = visitors("operate")
    page = ops.press(ops.get("search"), "Search", q="PARCEL late")
    assert "<mark>parcel</mark>" in page.html
    item = ops.follow(page, "A late parcel")
    assert item.url.endswith(f"/items/{uuid}")
    assert "Nothing in index holds" in ops.get("search", q="zebra").text


def test_page_by_page(visitors: Visitors, index: Storage) -> None:
    for number in range(25):
        keep(index, subject=f"call {number:02d}")
    ops = visitors("operate")
    first = ops.get("search", q="parcel")
    second = ops.follow(first, "More")
    both = [link for page in (first, second) for link in page.links if link.startswith("call ")]
    assert both == [f"call {number:02d}" for number in reversed(range(25))]
    assert "More" not in second.links


def test_hostile_words_and_questions(visitors: Visitors, index: Storage) -> None:
    said = [("Ada", 0.0, f"parcel {HOSTILE}")]
    keep(index, subject=HOSTILE, analysis=[transcript(said)])
    ops = visitors("operate")
    page = ops.get("search", q="parcel")
    assert "<mark>parcel</mark> &lt;script" in page.html
    for text in (HOSTILE, '"', "NEAR(", "\0", "a" * 5000):
        page = ops.get("search", q=text)
        assert page.status == 200
        assert not [tag for tag, given in page.tags if tag == "img"]
    assert ops.get("search", q="parcel", cursor="zebra").status == 422
    assert ops.get("search", q="parcel", storage="files").status == 422


def test_who_may_search(visitors: Visitors) -> None:
    for role in ("read", "narrow"):
        assert visitors(role).get("search").status == 200
        assert visitors(role).get("search", q="parcel").status == 403


def test_marks_that_do_not_fit() -> None:
    hit = Hit("u", "", "", "<a> b", ((3, 2), (4, 5), (4, 9)))
    assert marked(hit) == Markup("&lt;a&gt; <mark>b</mark>")
