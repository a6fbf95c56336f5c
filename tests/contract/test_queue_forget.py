"""forget.lua: documents that are done with go before their time, and no others."""

from __future__ import annotations

from conserver.operations.forget import forget
from tests.queues import FAR_MS, Consumer, Queue, document


def test_what_is_at_work_or_has_no_end_stays(queue: Queue) -> None:
    """A document that is at work has an expiry far in the future, with which it is not done."""
    queue.client.set("vcon:done", document("done"), px=3_600_000)
    queue.client.set("vcon:kept", document("kept"))
    queue.supply("q", "held")
    Consumer(queue).one()
    assert queue.run(forget(["done", "kept", "held", "gone"])) == 1
    left_ms = queue.client.pttl("vcon:done")
    assert 0 < left_ms <= 1000 or left_ms == -2, "that second may be over"
    assert queue.client.pttl("vcon:kept") == -1
    assert abs(queue.expires_ms("held") - FAR_MS) < 1000
    assert not queue.client.exists("vcon:gone")
