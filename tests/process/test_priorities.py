"""Lists of one chain: a flood on one delays the items of another by its share at most."""

from __future__ import annotations

from pathlib import Path

import redis

from tests.daemon import Daemon, elements, push, vcon
from tests.helpers import eventually

FLOOD = 4000
FEW = 100


def test_a_flood_on_one_list_does_not_starve_another(
    redis_url: str, client: redis.Redis, tmp_path: Path
) -> None:
    lists = {"ingress_lists": ["flood", "few"], "list_weights": {"flood": 1, "few": 1}}
    text = {
        "links": {"count": {"module": "tests.modules.marks", "options": {"slow_s": 0.002}}},
        "chains": {"main": {"links": ["count"], "egress_lists": ["out"], **lists}},
    }
    with Daemon(tmp_path, redis_url, text):
        push(client, "flood", [vcon() for _ in range(FLOOD)])
        assert eventually(lambda: client.llen("out") > 0)
        few = set(push(client, "few", [vcon() for _ in range(FEW)]))
        before = client.llen("out")

        def all_few_are_out() -> bool:
            return few <= set(elements(client, "out"))

        assert eventually(all_few_are_out)
        # Which were done before them: however long this test took to look.
        last = max(place for place, uuid in enumerate(elements(client, "out")) if uuid in few)
    assert last - before < FLOOD / 2, "they did not wait for the flood to end"
