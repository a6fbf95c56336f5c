"""What a record says of the last death blamed on it, and what its dead letter makes of that."""

from __future__ import annotations

import pytest

from conserver.process.messages import Blame, Blamed
from conserver.queue.record import Claimed
from conserver.worker.item import ChainOutcome
from tests.queues import Consumer, Queue

CRASH = {"error": "was killed by signal 11 (Segmentation fault) in the link tag", "link": "tag"}
LIMIT = {"error": "was killed because it took 5 s", "link": "tag", "reason": "time_limit"}
STRANGE = {"error": 'said: "100 % \\ü\n:\t\x01" s b', "link": "a link: b"}


def blame(*items: Claimed, counted: bool = True, **notes: dict[str, str]) -> Blame:
    """These ran; notes by payload, `others` for whoever has none."""
    blamed = [
        Blamed(item.token, item.epoch, counted, notes.get(item.payload.decode(), {}))
        for item in items
    ]
    return Blame("items", blamed, notes.get("others", {}))


def buried(queue: Queue) -> ChainOutcome:
    """Why the next claimed suspect, which has died once too often, is dead-lettered."""
    one = Consumer(queue, "gravedigger", max_deliveries=1)
    return one.refuse(one.one())


@pytest.mark.parametrize("note", [CRASH, LIMIT, STRANGE], ids=["crash", "limit", "strange"])
def test_a_dead_letter_tells_how_its_worker_died(queue: Queue, note: dict[str, str]) -> None:
    queue.push("q", "u1")
    one = Consumer(queue)
    queue.return_items(one, blame(one.one(), u1=note))
    why = buried(queue)
    assert why.reason == note.get("reason", "poison")
    assert why.link == note["link"]
    assert (
        why.message
        == f"its worker died 1 time with nothing else to blame; the last time it {note['error']}"
    )


def test_without_a_note_it_tells_how_often(queue: Queue) -> None:
    queue.push("q", "u1")
    one = Consumer(queue)
    queue.return_items(one, blame(one.one()))
    why = buried(queue)
    assert why.message == "its worker died 1 time with nothing else to blame"
    assert (why.reason, why.link) == ("poison", "")


def test_each_of_the_blamed_has_its_own_note_and_the_others_have_none(queue: Queue) -> None:
    queue.push("q", "u1", "u2", "u3")
    one = Consumer(queue)
    first, second, _ = one.take(3)
    queue.return_items(one, blame(first, second, u1=CRASH, others=LIMIT))
    assert {r.payload for r in queue.suspects()} == {b"u1", b"u2"}
    texts = {
        text.rpartition(b"\n")[2]: text
        for text in queue.client.lrange("conserver:suspects:q", 0, -1)
    }
    assert b"Segmentation" in texts[b"u1"]
    assert b"time_limit" in texts[b"u2"]
    [text] = queue.client.lrange("conserver:returned:q", 0, -1)
    assert b" - " in text, "no note"


def test_a_host_that_is_gone_leaves_a_note_with_all(queue: Queue) -> None:
    queue.push("q", "u1")
    one = Consumer(queue)
    one.take(1)
    gone = Blame("everything", note={"error": "died with its host"})
    for turn in range(2):
        queue.return_items(one, gone)
        one = Consumer(queue, f"again{turn}")
        item = one.one()
        one.begin(item)
    queue.return_items(one, gone)
    assert "; the last time it died with its host" in buried(queue).message


def test_a_host_that_is_gone_leaves_the_note_of_an_earlier_death(queue: Queue) -> None:
    queue.push("q", "u1")
    one = Consumer(queue)
    queue.return_items(one, blame(one.one(), u1=LIMIT))
    one = Consumer(queue, "again")
    assert one.one().suspect
    queue.return_items(one, Blame("everything", note={"error": "died with its host"}))
    assert buried(queue).reason == "time_limit"


def test_the_last_death_is_what_counts(queue: Queue) -> None:
    queue.push("q", "u1")
    for turn, note in enumerate((CRASH, STRANGE, LIMIT)):
        one = Consumer(queue, f"d{turn}")
        queue.return_items(one, blame(one.one(), u1=note))
    assert buried(queue).reason == "time_limit"


def test_a_note_survives_every_road_and_does_not_touch_the_marks(queue: Queue) -> None:
    queue.supply("q", "u1")
    one = Consumer(queue)
    queue.return_items(one, blame(one.one(), u1=STRANGE))
    for road in range(4):
        one = Consumer(queue, f"d{road}")
        item = one.one()
        assert (item.suspect, item.deaths) == (True, 1)
        one.begin(item)
        one.write(item, state=b'{"links":["a"]}')
        if road == 0:
            one.release(item)
        elif road == 1:
            one.park(item, after_ms=0)
            queue.promote("q")
        else:
            queue.return_items(one)  # our own doing: nothing is counted, nothing is noted
    assert buried(queue).link == STRANGE["link"]


def test_a_replay_forgets_the_death(queue: Queue) -> None:
    queue.push("q", "u1")
    one = Consumer(queue)
    queue.return_items(one, blame(one.one(), u1=CRASH))
    buried(queue)
    assert queue.replay("q") == "returned"
    [text] = queue.client.lrange("conserver:returned:q", 0, -1)
    assert b"Segmentation" not in text
