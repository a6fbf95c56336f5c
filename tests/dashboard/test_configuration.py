"""The page of the configuration: redacted, as it was read, as a picture; and the reload."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import yaml

from conserver.config.model import Config
from conserver.http.dashboard.picture import picture
from conserver.operations import audit, reload
from conserver.queue import keys
from tests.api.conftest import Api, configuration
from tests.dashboard.visitor import Visitor, Visitors
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


def host(queue: Queue, name: str, reload: Any = None, **fields: Any) -> None:
    """A host as its beat tells it; reload: what came of the last one."""
    supervisor = {"pid": 7, **({"reload": reload} if reload else {})}
    told = {"name": f"box-{name}", "supervisor": orjson.dumps(supervisor), **fields}
    told = {
        "lease_s": 3600,
        "beat": f"{int(time.time() * 1000)}.1",
        "started_at": time.time() - 99,
        **told,
    }
    queue.client.sadd(keys.HOSTS, name)
    queue.client.hset(keys.host(name), mapping=told)


def test_an_admin_reloads_all_hosts(visitors: Visitors, queue: Queue) -> None:
    host(queue, "h1")
    host(queue, "h2")
    host(queue, "h3", beat="1.1")
    queue.client.hset(keys.CONTROL, keys.reload("h0", "0-left"), "somebody")
    admin = visitors("admin")
    asked = admin.press(admin.get("config"), "Reload")
    assert "Every host reads its file" in asked.text
    assert not queue.client.hexists(keys.CONTROL, keys.reload("h1", ""))
    done = admin.press(asked, "Reload")
    assert done.text.count("no answer yet") == 2
    assert done.text.count("silent") == 1
    fields = {field.decode().split(":")[1]: field for field in queue.client.hkeys(keys.CONTROL)}
    assert sorted(fields) == ["h1", "h2"], "what a dead host has not read is gone"
    entry = audit.recent(queue.client)[0]
    assert (entry.action, entry.count, entry.target["hosts"]) == ("reload", 2, ["box-h1", "box-h2"])

    reload.ask(queue.client, actor="somebody", host="h1")
    assert queue.client.hexists(keys.CONTROL, fields["h2"]), "who asks one host takes none away"

    request = fields["h1"].decode().split(":")[2]
    path = f"reloads/{request}"
    now_s = time.time()
    host(queue, "h1", {"request": request, "at": now_s, "refused": ""})
    host(queue, "h2", {"request": request, "at": now_s, "refused": "chains.main: <b>no</b> map"})
    host(queue, "h4", started_at=now_s + 60)
    answered = admin.get(path)
    assert "no answer yet" not in answered.text
    assert "box-h1 h1 reloaded" in answered.text
    assert "box-h2 h2 refused" in answered.text
    assert "chains.main: <b>no</b> map" in answered.text
    assert "box-h4" not in answered.text, "it has started since"
    assert "has refused the configuration" in admin.get("").text
    assert visitors("operate").get(path).status == 403
    assert admin.get("reloads/x").status == 404


def test_a_reload_needs_a_host(visitors: Visitors) -> None:
    admin = visitors("admin")
    asked = admin.press(admin.get("config"), "Reload")
    assert "This API runs alone" in asked.text
    refused = admin.press(asked, "Reload")
    assert (refused.status, "no host is running" in refused.text) == (409, True)
