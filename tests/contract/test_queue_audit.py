"""audit.lua: the newest entries of who changed what."""

from __future__ import annotations

from conserver.queue import keys
from conserver.queue.wishes import audit
from tests.queues import Queue


def test_the_newest_entries_are_kept(queue: Queue) -> None:
    for number in range(5):
        assert queue.run(audit(b"entry %d" % number, 3)) == 1
    assert queue.client.lrange(keys.AUDIT, 0, -1) == [b"entry 2", b"entry 3", b"entry 4"]


def test_after_keep_was_lowered_the_next_entry_makes_room(queue: Queue) -> None:
    for number in range(4):
        queue.run(audit(b"entry %d" % number, 10))
    queue.run(audit(b"entry 4", 2))
    assert queue.client.lrange(keys.AUDIT, 0, -1) == [b"entry 3", b"entry 4"]
