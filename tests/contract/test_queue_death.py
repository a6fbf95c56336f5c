"""return.lua, reap.lua, begin.lua, stray.lua, beat.lua: what happens to what the dead held."""

from __future__ import annotations

import pytest

from conserver.process.messages import Blame, Blamed
from conserver.queue import calls, host_calls, operator_calls
from conserver.queue.host_calls import Returned
from conserver.queue.record import Claimed
from tests.queues import DEFAULT_LIMITS, FAR_MS, Consumer, Queue, document, payloads, record

CANCELLED = "conserver:cancelled:c1"


def blame(*items: Claimed, counts: bool = False) -> Blame:
    """These ran when their worker died."""
    return Blame("items", [Blamed(item.token, item.epoch, counts) for item in items])


# ---- who is blamed -----------------------------------------------------------------------------


def test_nobody_is_blamed_for_an_orderly_end(queue: Queue) -> None:
    queue.push("q", "u1", "u2")
    one = Consumer(queue)
    items = one.take(2)
    assert queue.return_items(one) == Returned(2, 0, 0, 0)
    assert {item.token for item in queue.returned()} == {item.token for item in items}
    assert {(item.suspect, item.deaths) for item in queue.returned()} == {(False, 0)}


def test_what_ran_becomes_a_suspect_and_its_batch_mates_do_not(queue: Queue) -> None:
    queue.push("q", "ran", "waited")
    one = Consumer(queue)
    ran, _ = one.take(2)
    assert queue.return_items(one, blame(ran)) == Returned(2, 0, 1, 0)
    assert (payloads(queue.suspects()), payloads(queue.returned())) == ([b"ran"], [b"waited"])
    assert queue.suspects()[0].deaths == 0


def test_everything_is_blamed_when_nobody_saw_the_death(queue: Queue) -> None:
    queue.push("q", "u1", "u2")
    one = Consumer(queue)
    one.claim()
    assert queue.return_items(one, Blame("everything")) == Returned(2, 0, 2, 0)
    assert {item.deaths for item in queue.suspects()} == {0}


def test_a_death_counts_for_a_suspect_that_was_begun(queue: Queue) -> None:
    queue.suspect("s1")
    one = Consumer(queue)
    assert one.begin(one.one()) == 1
    assert queue.return_items(one, Blame("everything")) == Returned(1, 0, 1, 1)
    assert queue.suspects()[0].deaths == 1


def test_a_death_does_not_count_for_a_suspect_that_was_not_begun(queue: Queue) -> None:
    queue.suspect("s1")
    one = Consumer(queue)
    one.claim()
    assert queue.return_items(one, Blame("everything")).deaths == 0
    assert queue.suspects()[0].deaths == 0


def test_our_own_kill_counts_nothing_although_a_suspect_had_begun(queue: Queue) -> None:
    queue.suspect("s1")
    one = Consumer(queue)
    one.begin(one.one())
    assert queue.return_items(one) == Returned(1, 0, 1, 0)
    assert queue.suspects()[0].deaths == 0


def test_the_mark_is_cleared_by_the_return(queue: Queue) -> None:
    queue.suspect("s1")
    one, two = Consumer(queue, "c1"), Consumer(queue, "c2")
    one.begin(one.one())
    queue.return_items(one)
    two.claim()
    assert queue.return_items(two, Blame("everything")).deaths == 0


def test_an_item_past_its_own_time_limit_counts_and_its_neighbours_do_not(queue: Queue) -> None:
    queue.push("q", "slow", "fast")
    one = Consumer(queue)
    slow, _ = one.take(2)
    assert queue.return_items(one, blame(slow, counts=True)) == Returned(2, 0, 1, 1)
    [suspect] = queue.suspects()
    assert (suspect.payload, suspect.deaths) == (b"slow", 1)
    assert [(item.payload, item.deaths) for item in queue.returned()] == [(b"fast", 0)]


def test_a_suspect_over_its_limit_counts_once(queue: Queue) -> None:
    queue.suspect("s1")
    one = Consumer(queue)
    item = one.one()
    one.begin(item)
    assert queue.return_items(one, blame(item, counts=True)).deaths == 1
    assert queue.suspects()[0].deaths == 1


def test_blame_means_one_epoch(queue: Queue) -> None:
    # The page showed the item running; it was parked, came back, and a late claim of the dead
    # worker took it again: there it never ran.
    queue.push("q", "u1")
    one = Consumer(queue)
    item = one.one()
    one.park(item, after_ms=0)
    queue.promote("q")
    one.claim()
    assert queue.return_items(one, blame(item, counts=True)) == Returned(1, 0, 0, 0)
    assert [(i.suspect, i.deaths) for i in queue.returned()] == [(False, 0)]


def test_a_suspect_stays_one_although_nobody_is_blamed(queue: Queue) -> None:
    queue.suspect("s1")
    one = Consumer(queue)
    one.claim()
    assert queue.return_items(one).suspects == 1
    assert payloads(queue.suspects()) == [b"s1"]


def test_progress_comes_back_with_the_item(queue: Queue) -> None:
    queue.push("q", "u1")
    one = Consumer(queue)
    one.write(one.one(), state=b'{"links":["transcribe"]}')
    queue.return_items(one)
    [item] = queue.returned()
    assert (item.state, item.epoch) == (b'{"links":["transcribe"]}', 1)


def test_equal_payloads_in_one_worker_are_not_two_deaths_of_one(queue: Queue) -> None:
    queue.push("q", "u1", "u1")
    one = Consumer(queue)
    first, _ = one.take(2)
    queue.return_items(one, blame(first, counts=True))
    assert [item.deaths for item in queue.suspects() + queue.returned()] == [1, 0]


def test_poison_is_dead_lettered_after_max_deliveries_and_not_before(queue: Queue) -> None:
    queue.push("q", "poison", "innocent")
    for death in range(1 + 3):  # once in company, then alone max_deliveries times
        one = Consumer(queue, f"c{death}")
        [running] = [item for item in one.claim().items if item.payload == b"poison"]
        assert (running.suspect, running.deaths) == (death > 0, max(0, death - 1))
        if running.suspect:
            one.begin(running)
        queue.return_items(one, blame(running))
        queue.return_items(one)
    last = Consumer(queue, "last")
    last.refuse(last.one())
    innocent = last.one()
    assert queue.dead() == [b"poison"]
    assert (innocent.payload, innocent.deaths) == (b"innocent", 0)


# ---- bounds, registrations ---------------------------------------------------------------------


def test_what_an_operator_has_cancelled_ends_with_its_worker(queue: Queue) -> None:
    """It was run again, maybe for hours more, although somebody had said that it should not."""
    queue.supply("q", "u1", "u2")
    one = Consumer(queue)
    first, second = one.take(2)
    key = f"conserver:inflight:{one.id}"
    queue.run(operator_calls.cancel(key, first.token.encode(), CANCELLED))
    assert queue.return_items(one, Blame("everything")) == Returned(1, 0, 1, 0, cancelled=1)
    assert queue.places("q") == {("suspects", second.payload): 1}


def test_the_document_of_what_was_cancelled_expires_when_its_worker_has_died(
    queue: Queue,
) -> None:
    """Nobody else would let it: its item is in no place any more. That of another one stays."""
    queue.supply("q", "u1", "u2")
    one = Consumer(queue)
    first, _ = one.take(2)
    key = f"conserver:inflight:{one.id}"
    queue.run(operator_calls.cancel(key, first.token.encode(), CANCELLED))
    before_ms = queue.now_ms()
    assert queue.return_items(one, keep_s=3600).cancelled == 1
    expires_ms = queue.expires_ms("u1") - 3_600_000
    assert before_ms - 2 <= expires_ms <= queue.now_ms() + 2
    assert queue.expires_ms("u2") > FAR_MS - 3_600_000


@pytest.mark.real_redis("an error inside its scripts has no text")
def test_cancellations_of_another_type_keep_nothing_from_its_return(queue: Queue) -> None:
    queue.supply("q", "u1")
    one = Consumer(queue)
    one.one()
    queue.client.set(CANCELLED, "oops")
    assert queue.return_items(one) == Returned(1, 0, 0, 0)


def test_a_return_is_bounded_and_goes_on(queue: Queue) -> None:
    queue.push("q", *[f"u{number}" for number in range(1000)])
    one = Consumer(queue, limits=calls.ClaimLimits(most=1000))
    one.take(1000)
    steps = [queue.return_items(one) for _ in range(17)]
    assert [step.returned for step in steps[:-2]] == [64] * 15
    assert (steps[-2].returned, steps[-2].left) == (40, 0)
    assert steps[-1] == Returned(0, 0, 0, 0)
    assert len(queue.returned()) == 1000


def test_a_return_is_bounded_by_bytes_too(queue: Queue) -> None:
    for number in range(8):
        queue.push("q", document(f"u{number}", subject="x" * 400_000))
    one = Consumer(queue, limits=calls.ClaimLimits(most_bytes=100_000_000))
    one.take(8)
    steps = [queue.return_items(one) for _ in range(4)]
    assert [(step.returned, step.left) for step in steps] == [(3, 5), (3, 2), (2, 0), (0, 0)]
    assert len(queue.returned()) == 8


def test_claims_are_refused_from_the_first_call_of_a_return_on(queue: Queue) -> None:
    queue.push("q", *[f"u{number}" for number in range(10)])
    one = Consumer(queue)
    one.claim(5)
    queue.return_items(one, most=1)
    assert queue.registration(one) == b"void"
    assert one.claim().void
    assert len(queue.held("c1")) == 4


def test_a_registration_goes_in_the_call_that_finds_nothing_held(queue: Queue) -> None:
    queue.push("q", "u1")
    one = Consumer(queue)
    one.claim()
    queue.return_items(one)
    assert queue.registration(one) == b"void"
    queue.return_items(one)
    assert queue.registration(one) is None


def test_a_late_claim_of_the_dead_takes_nothing(queue: Queue) -> None:
    queue.push("q", "u1")
    one = Consumer(queue)
    one.claim(0)
    late = calls.claim("h1", "c1", 2, True, [calls.Demand("q", 5)], DEFAULT_LIMITS)
    queue.return_items(one)
    assert queue.run(late) == [b"void"]
    assert queue.places() == {("waiting", b"u1"): 1}


def test_a_claim_of_the_dead_before_the_return_is_returned_too(queue: Queue) -> None:
    queue.push("q", "u1", "u2")
    one = Consumer(queue)
    one.claim(1)
    queue.run(calls.claim("h1", "c1", 2, False, [calls.Demand("q", 5)], DEFAULT_LIMITS))
    assert queue.return_items(one).returned == 2


def test_any_coordinator_can_go_on_with_a_return_and_blames_everything(queue: Queue) -> None:
    queue.push("q", "u1", "u2")
    one = Consumer(queue)
    one.claim()
    assert queue.return_items(one, most=1).left == 1
    assert queue.return_items(one, Blame("everything")) == Returned(1, 0, 1, 0)
    assert len(queue.suspects()) == len(queue.returned()) == 1


def test_a_return_without_a_registration_is_still_a_return(queue: Queue) -> None:
    # A failover can lose the registration and leave what it held.
    queue.push("q", "u1", "u2")
    one = Consumer(queue)
    one.claim()
    queue.client.delete("conserver:host:h1", "conserver:hosts")
    assert queue.return_items(one, most=1).left == 1
    assert queue.registration(one) == b"void"
    assert queue.client.smembers("conserver:hosts") == {b"h1"}
    queue.return_items(one)
    queue.return_items(one)
    assert queue.registration(one) is None
    assert len(queue.returned()) == 2


def test_a_return_for_somebody_who_never_was_does_nothing(queue: Queue) -> None:
    answer = queue.run(host_calls.return_items("h1", "nobody", Blame()))
    assert Returned(*answer) == Returned(0, 0, 0, 0)
    assert queue.everything() == {}


# ---- hosts -------------------------------------------------------------------------------------


def test_a_beat_says_that_a_host_lives_and_answers_its_registrations(queue: Queue) -> None:
    Consumer(queue, "c1").claim()
    Consumer(queue, "c2")
    void = Consumer(queue, "c3")
    queue.push("q", "u1")
    void.claim()
    queue.return_items(void)
    answer = queue.run(host_calls.beat("h1", "b1", {"pid": 7, "version": "1.0"}))
    assert host_calls.read_registrations(answer) == {"c1": "1", "c2": "0", "c3": "void"}
    host = queue.client.hgetall("conserver:host:h1")
    assert (host[b"beat"], host[b"pid"], host[b"version"]) == (b"b1", b"7", b"1.0")


def test_a_beat_answers_what_it_has_replaced(queue: Queue) -> None:
    def before(beat: str) -> tuple[str, bool]:
        return host_calls.read_before(queue.run(host_calls.beat("h1", beat, {})))

    assert before("b1") == ("", True)
    assert before("b2") == ("b1", False)
    queue.client.delete("conserver:host:h1")
    assert before("b3") == ("", False)
    queue.client.flushall()
    assert before("b4") == ("", True)


def test_a_host_that_beat_meanwhile_is_not_reaped(queue: Queue) -> None:
    one = Consumer(queue)
    queue.run(host_calls.beat("h1", "b1", {}))
    queue.run(host_calls.beat("h1", "b2", {}))
    before = queue.everything()
    assert queue.reap("h1", "b1") is None
    assert queue.everything() == before
    assert queue.registration(one) == b"0"


def test_a_reaped_host_is_void_at_once_and_forgotten_when_nothing_is_left(queue: Queue) -> None:
    queue.push("q", "u1", "u2")
    one, two = Consumer(queue, "c1"), Consumer(queue, "c2")
    one.claim(1)
    queue.run(host_calls.beat("h1", "b1", {}))
    consumers = queue.reap("h1", "b1")
    assert consumers is not None
    assert sorted(consumers) == [b"c1", b"c2"]
    assert one.claim().void
    assert two.claim().void
    for consumer in (one, one, two):
        queue.return_items(consumer, Blame("everything"))
    assert queue.client.exists("conserver:host:h1") == 1
    assert queue.reap("h1", "b1") == []
    assert queue.client.exists("conserver:host:h1") == 0
    assert queue.client.smembers("conserver:hosts") == set()
    assert payloads(queue.suspects()) == [b"u1"]


def test_a_wrongly_reaped_host_comes_back_by_its_next_beat_or_registration(queue: Queue) -> None:
    Consumer(queue, "c1")
    queue.reap("h1")
    queue.client.delete("conserver:host:h1", "conserver:hosts")
    queue.run(host_calls.beat("h1", "b2", {}))
    assert queue.client.smembers("conserver:hosts") == {b"h1"}
    queue.client.delete("conserver:hosts")
    Consumer(queue, "c2")
    assert queue.client.smembers("conserver:hosts") == {b"h1"}


def test_a_host_that_registers_anew_is_not_forgotten_by_its_reaper(queue: Queue) -> None:
    queue.push("q", "u1")
    one = Consumer(queue, "c1")
    queue.reap("h1")
    queue.return_items(one)
    two = Consumer(queue, "c2")
    two.claim()
    queue.run(host_calls.beat("h1", "b1", {}))
    assert queue.reap("h1", "") is None
    assert queue.registration(two) == b"1"


def test_coordinators_may_race_over_one_dead_host(queue: Queue) -> None:
    queue.push("q", "u1", "u2", "u3")
    one = Consumer(queue)
    one.claim()
    for _ in range(2):
        assert queue.reap("h1") == [b"c1"]
    returned = [queue.return_items(one, Blame("everything"), most=2).returned for _ in range(4)]
    assert returned == [2, 1, 0, 0]
    assert [queue.reap("h1"), queue.reap("h1")] == [[], []]
    assert len(queue.suspects()) == 3


def test_the_many_suspects_of_a_dead_host_finish_one_by_one(queue: Queue) -> None:
    """So many that they are not returned in one call. tests/process/test_poison.py has more."""
    count = host_calls.RETURN_BATCH + 50
    queue.push("q", *[f"u{number}" for number in range(count)])
    one = Consumer(queue, "dead", "dead-host", limits=calls.ClaimLimits(most=count))
    one.take(count)
    while queue.return_items(one, Blame("everything")).returned:
        pass
    two = Consumer(queue, "c2", "h2")
    for _ in range(count):
        item = two.one()
        assert two.begin(item) == 1
        two.settle(item, "out")
    assert len(queue.waiting("out")) == count
    assert queue.places() == {}


# ---- strays ------------------------------------------------------------------------------------


def test_what_a_consumer_does_not_know_goes_back_uncounted(queue: Queue) -> None:
    # A failover undid an acknowledged settle: the item lies under a consumer that forgot it.
    queue.push("q", "u1", "u2")
    one = Consumer(queue)
    forgotten, known = one.take(2)
    del one.holds[forgotten.token]
    assert one.stray() == 1
    assert [(i.payload, i.deaths) for i in queue.returned()] == [(b"u1", 0)]
    assert [item.token for item in queue.held("c1")] == [known.token]


def test_a_stray_suspect_stays_one(queue: Queue) -> None:
    queue.suspect("s1")
    one = Consumer(queue)
    one.begin(one.one())
    one.holds.clear()
    assert one.stray() == 1
    assert [(i.payload, i.deaths) for i in queue.suspects()] == [(b"s1", 0)]


def test_a_claim_on_its_way_is_not_a_stray(queue: Queue) -> None:
    queue.push("q", "u1", "u2")
    one = Consumer(queue)
    one.claim(1)
    answered = one.number
    call = calls.claim("h1", "c1", answered + 1, False, [calls.Demand("q", 1)], DEFAULT_LIMITS)
    queue.run(call)
    assert one.stray(answered) == 0
    assert len(queue.held("c1")) == 2


def test_a_late_copy_of_a_stray_call_takes_nothing_that_was_claimed_later(queue: Queue) -> None:
    queue.push("q", "u1", "u2")
    one = Consumer(queue)
    one.claim(1)
    one.stray()
    late = one.last
    one.claim(1)
    assert late is not None
    assert queue.run(late) == 0
    assert len(queue.held("c1")) == 2


# ---- a long story ------------------------------------------------------------------------------


def test_a_host_killer_ends_as_poison_although_no_page_survives(queue: Queue) -> None:
    # Counting nothing without a page lets it loop for ever; counting all blames the innocent.
    queue.push("q", "killer", "u1", "u2")
    hosts = 0
    while not queue.dead():
        one = Consumer(queue, f"c{hosts}", f"h{hosts}")
        while True:
            claim = one.claim()
            killers = [i for i in one.holds.values() if i.payload == b"killer"]
            if killers and killers[0].deaths >= one.max_deliveries:
                one.refuse(killers[0])
                continue
            if killers:
                if killers[0].suspect:
                    one.begin(killers[0])
                break
            if not claim.items:
                break
            for item in list(one.holds.values()):
                if item.suspect:
                    one.begin(item)
                one.settle(item, "out")
        queue.reap(one.host)
        while queue.return_items(one, Blame("everything")).returned:
            pass
        queue.reap(one.host)
        hosts += 1
        assert hosts < 10
    assert queue.dead() == [b"killer"]
    assert sorted(queue.waiting("out")) == [b"u1", b"u2"]
    assert queue.places() == {("dead", b"killer"): 1}


def test_a_record_survives_every_road(queue: Queue) -> None:
    state = b'{"links":["a"]}'
    queue.client.rpush("conserver:returned:q", record("token", "u1", state=state, deaths=1))
    one = Consumer(queue)
    for road in ("release", "park", "return", "stray", "replay"):
        item = one.one()
        assert (item.token, item.state, item.payload) == ("token", state, b"u1")
        assert item.first_seen_ms == 1_700_000_000_000
        if road == "release":
            one.release(item)
        elif road == "park":
            one.park(item, after_ms=0)
            queue.promote("q")
        elif road == "return":
            queue.return_items(one)
            one = Consumer(queue, "c2")
        elif road == "stray":
            one.holds.clear()
            one.stray()
        else:
            one.dead_letter(item)
            queue.replay("q", state)
    # A replayed one is as young as a new one, or its age would have it given up again at once.
    assert one.one().first_seen_ms > 1_700_000_000_000
