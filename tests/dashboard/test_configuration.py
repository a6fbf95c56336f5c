"""The page of the configuration: redacted, as it was read, as a picture; and the reload."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from conserver.config.model import Config
from conserver.dashboard.picture import picture
from conserver.queue import keys
from tests.api.conftest import Api, configuration
from tests.dashboard.visitor import Visitor, Visitors
from tests.helpers import eventually
from tests.queues import Queue


def test_it_is_shown_without_secrets(serve: Callable[..., Api], tmp_path: Path) -> None:
    api = serve(CONSERVER_API_TOKEN="a-very-secret-token", CONSERVER_UI_LABEL="production")
    with Visitor(api) as visitor:
        page = visitor.login("read").get("config")
        for text in ("links.tag", "storage.sqlite", "main", "calls", "CONSERVER_UI_LABEL"):
            assert text in page.text, text
        assert "a-very-secret-token" not in page.html
        assert "changed" not in page.text
        assert not page.has_button("Reload")
        path = tmp_path / "config.yml"
        changed = configuration(tmp_path / "files")
        changed["chains"]["main"]["egress_lists"] = ["elsewhere"]
        path.write_text(yaml.safe_dump(changed))
        assert "has changed since" in visitor.get("config").text
        path.write_text("chains: [1]")
        assert "cannot be used as it is now" in visitor.get("config").text


def test_the_picture_has_everything_in_it() -> None:
    chain = {"links": ["a", "b"], "storages": ["s"], "ingress_lists": ["in"]}
    config = Config.model_validate(
        {
            "links": {"a": {"module": "links.tag"}, "b": {"module": "links.tag"}},
            "storages": {"s": {"module": "storage.sqlite"}},
            "chains": {
                "first": {**chain, "egress_lists": ["next", "out"]},
                "second": {"ingress_lists": ["next"]},
                "third": {**chain, "ingress_lists": ["x"], "enabled": False},
            },
        }
    )
    found = picture(config)
    first, second, third = found.bands
    assert [(one.kind, one.name, one.to) for one in first.nodes] == [
        ("list", "in", ""), ("link", "a", ""), ("link", "b", ""), ("storage", "s", ""),
        ("list", "next", "second"), ("list", "out", ""),
    ]  # fmt: skip
    assert len(first.lines) == 6
    assert [one.name for one in second.nodes] == ["next"]
    assert not third.enabled
    for band in found.bands:
        for one in band.nodes:
            assert one.x + one.width <= found.width
            assert one.y + one.height <= found.height
        boxes = [(one.x, one.y, one.x + one.width, one.y + one.height) for one in band.nodes]
        for place, (left, top, right, bottom) in enumerate(boxes):
            for other in boxes[place + 1 :]:
                apart = right <= other[0] or other[2] <= left or bottom <= other[1]
                assert apart or other[3] <= top, "no box covers another"
    assert "first: in to a, b to s to next, out" in found.said
    assert picture(Config()).bands == []


@pytest.fixture
def supervisor() -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with 7 at a SIGHUP."""
    program = (
        "import os, signal, sys; signal.signal(signal.SIGHUP, lambda *_: os._exit(7));"
        "print(flush=True); signal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def test_an_admin_reloads(
    api: Api, visitors: Visitors, queue: Queue, supervisor: subprocess.Popen[bytes]
) -> None:
    api.context.host = "h1"
    queue.client.hset(keys.host("h1"), "pid", supervisor.pid)
    admin = visitors("admin")
    asked = admin.press(admin.get("config"), "Reload")
    assert supervisor.poll() is None
    done = admin.press(asked, "Reload")
    assert "The supervisor was asked" in done.text
    assert eventually(supervisor.poll) == 7
    assert b'"reload"' in queue.client.lrange(keys.AUDIT, -1, -1)[0]


def test_a_reload_that_cannot_be(api: Api, visitors: Visitors, queue: Queue) -> None:
    admin = visitors("admin")
    alone = admin.press(admin.press(admin.get("config"), "Reload"), "Reload")
    assert (alone.status, "runs alone" in alone.text) == (409, True)
    api.context.host = "h1"
    unknown = admin.press(admin.press(admin.get("config"), "Reload"), "Reload")
    assert (unknown.status, "has not told its pid" in unknown.text) == (409, True)
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    queue.client.hset(keys.host("h1"), "pid", process.pid)
    gone = admin.press(admin.press(admin.get("config"), "Reload"), "Reload")
    assert (gone.status, "has ended" in gone.text) == (409, True)
