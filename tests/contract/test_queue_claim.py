"""claim.lua: what a claim takes, in which order, under which number, and what it leaves alone."""

from __future__ import annotations

import orjson
import pytest

from conserver.process.messages import Blame
from conserver.queue import calls, host_calls
from conserver.queue.calls import ClaimLimits
from conserver.queue.record import Source
from tests.queues import Consumer, Queue, document, payloads, record

# ---- order -------------------------------------------------------------------------------------


def test_what_came_back_is_claimed_before_what_is_fresh(queue: Queue) -> None:
    queue.push("q", "fresh")
    queue.client.rpush("conserver:returned:q", record("t1", "back"))
    assert payloads(Consumer(queue).take(2)) == [b"back", b"fresh"]


def test_a_list_is_served_from_its_head(queue: Queue) -> None:
    queue.push("q", "1", "2", "3")
    assert payloads(Consumer(queue).take(2)) == [b"1", b"2"]
    assert queue.waiting() == [b"3"]


def test_lists_are_served_strictly_in_order(queue: Queue) -> None:
    queue.push("low", "l1", "l2")
    queue.push("high", "h1", "h2")
    one = Consumer(queue, lists=("high", "low"), limits=ClaimLimits(most=3))
    assert payloads(one.claim(2).items) == [b"h1", b"h2", b"l1"]


def test_returned_items_of_a_later_list_do_not_overtake_an_earlier_list(queue: Queue) -> None:
    queue.push("high", "h")
    queue.client.rpush("conserver:returned:low", record("t1", "l", "low"))
    one = Consumer(queue, lists=("high", "low"), limits=ClaimLimits(most=1))
    assert payloads(one.claim().items) == [b"h"]


def test_what_the_bell_has_moved_gets_a_token_of_its_own(queue: Queue) -> None:
    queue.client.rpush("conserver:returned:q", "u1", "u1")
    first, second = Consumer(queue).take(2)
    assert first.payload == second.payload == b"u1"
    assert first.token != second.token


def test_suspects_of_a_later_list_come_before_everything_else(queue: Queue) -> None:
    queue.push("high", "h")
    queue.suspect("s", "low")
    claim = Consumer(queue, lists=("high", "low")).claim()
    assert payloads(claim.items) == [b"s"]
    assert claim.items[0].suspect
    assert queue.waiting("high") == [b"h"]


# ---- how much ----------------------------------------------------------------------------------


def test_each_list_has_its_own_bound_and_the_call_another(queue: Queue) -> None:
    for name in ("a", "b", "c"):
        queue.push(name, *[f"{name}{number}" for number in range(5)])
    one = Consumer(queue, lists=("a", "b", "c"), limits=ClaimLimits(most=5))
    claim = one.claim(2)
    assert payloads(claim.items) == [b"a0", b"a1", b"b0", b"b1", b"c0"]
    assert claim.more == 10


def test_a_claim_of_nothing_from_a_list_takes_nothing_and_says_that_more_waits(
    queue: Queue,
) -> None:
    queue.push("q", "u1")
    claim = Consumer(queue).claim(0)
    assert (claim.items, claim.more) == ([], 1)


def test_documents_are_bounded_by_bytes(queue: Queue) -> None:
    for uuid in ("a", "b", "c"):
        queue.store(uuid, document(uuid, subject="x" * 1000))
    queue.push("q", "a", "b", "c")
    claim = Consumer(queue, limits=ClaimLimits(most_bytes=1500)).claim()
    assert payloads(claim.items) == [b"a", b"b"]
    assert claim.more == 1


def test_one_item_larger_than_the_bound_is_claimed_all_the_same(queue: Queue) -> None:
    queue.push("q", document("a", subject="x" * 5000), "b")
    claim = Consumer(queue, limits=ClaimLimits(most_bytes=100)).claim()
    assert [item.source for item in claim.items] == [Source.INLINE]


def test_a_thousand_waiting_items_cost_one_call_a_bounded_number(queue: Queue) -> None:
    queue.push("q", *[f"u{number}" for number in range(1000)])
    claim = Consumer(queue).claim(10_000)
    assert len(claim.items) == ClaimLimits().most
    assert claim.more == 1000 - len(claim.items)


# ---- numbers -----------------------------------------------------------------------------------


def test_a_repeated_number_gets_what_it_got_and_nothing_new(queue: Queue) -> None:
    queue.supply("q", "u1", "u2")
    one = Consumer(queue)
    first = one.claim(1)
    again = one.claim(1, number=1)
    assert [(i.token, i.source, i.text) for i in again.items] == [
        (i.token, i.source, i.text) for i in first.items
    ]
    assert queue.waiting() == [b"u2"]


def test_a_repeated_number_does_not_get_what_has_ended_meanwhile(queue: Queue) -> None:
    queue.push("q", "u1", "u2", "u3")
    one = Consumer(queue)
    gone, kept = one.take(2)
    one.settle(gone, "out")
    assert [item.token for item in one.claim(2, number=1).items] == [kept.token]
    assert queue.waiting() == [b"u3"]


def test_a_repeated_number_gets_only_its_own_epoch(queue: Queue) -> None:
    queue.push("q", "u1", "u2")
    one = Consumer(queue)
    one.one()
    second = one.one()
    assert [item.token for item in one.claim(1, number=2).items] == [second.token]


def test_a_late_number_gets_nothing_and_says_so(queue: Queue) -> None:
    queue.push("q", "u1", "u2")
    one = Consumer(queue)
    one.claim(1)
    one.claim(0)
    claim = one.claim(1, number=1)
    assert claim.late
    assert queue.waiting() == [b"u2"]


def test_an_empty_claim_raises_the_number_too(queue: Queue) -> None:
    # A first copy that arrives after its repetition was answered "nothing" must not claim.
    one = Consumer(queue)
    assert one.claim().items == []
    queue.push("q", "u1")
    assert one.again()[4] == []
    assert queue.waiting() == [b"u1"]
    assert queue.registration(one) == b"1"


def test_the_number_is_the_epoch_of_what_it_took(queue: Queue) -> None:
    queue.push("q", "u1", "u2")
    one = Consumer(queue)
    assert [one.one().epoch, one.one().epoch] == [1, 2]


def test_a_repeated_number_skips_a_document_that_was_deleted(queue: Queue) -> None:
    queue.supply("q", "u1")
    one = Consumer(queue)
    one.claim()
    queue.client.delete("vcon:u1")
    assert [item.source for item in one.claim(number=1).items] == [Source.MISSING]


# ---- registrations -----------------------------------------------------------------------------


def test_registering_says_who_lives_and_what_it_claims_from(queue: Queue) -> None:
    one = Consumer(queue, "c1", "h1", ("a", "b"))
    assert queue.registration(one) == b"0"
    assert queue.client.smembers("conserver:hosts") == {b"h1"}
    assert queue.client.smembers("conserver:lists") == {b"a", b"b"}


def test_registering_again_does_not_turn_the_number_back(queue: Queue) -> None:
    one = Consumer(queue)
    one.claim()
    Consumer(queue)
    assert queue.registration(one) == b"1"


def test_registering_again_does_not_revive_a_void_registration(queue: Queue) -> None:
    queue.push("q", "u1")
    one = Consumer(queue)
    one.claim()
    queue.return_items(one)
    Consumer(queue)
    assert queue.registration(one) == b"void"


def test_nobody_claims_without_a_registration(queue: Queue) -> None:
    queue.push("q", "u1")
    one = Consumer(queue)
    queue.client.delete("conserver:host:h1")
    assert one.claim().void
    assert queue.waiting() == [b"u1"]
    assert queue.client.exists("conserver:inflight:c1") == 0


def test_a_reaped_consumer_is_told_that_it_is_void(queue: Queue) -> None:
    queue.push("q", "u1")
    one = Consumer(queue)
    assert queue.reap("h1") == [b"c1"]
    assert one.claim().void
    assert queue.waiting() == [b"u1"]


# ---- suspects ----------------------------------------------------------------------------------


def test_a_suspect_is_claimed_alone(queue: Queue) -> None:
    queue.suspect("s1")
    queue.suspect("s2")
    queue.push("q", "u1")
    claim = Consumer(queue).claim()
    assert payloads(claim.items) == [b"s1"]
    assert claim.suspects == 1


def test_a_consumer_that_runs_a_suspect_claims_nothing_more(queue: Queue) -> None:
    queue.suspect("s1")
    queue.push("q", "u1")
    one = Consumer(queue)
    item = one.one()
    assert one.claim().items == []
    one.settle(item)
    assert payloads(one.claim().items) == [b"u1"]


def test_a_consumer_that_holds_something_gets_no_suspect(queue: Queue) -> None:
    queue.push("q", "u1", "u2")
    one = Consumer(queue)
    one.claim(1)
    queue.suspect("s1")
    claim = one.claim(1)
    assert payloads(claim.items) == [b"u2"]
    assert claim.suspects == 1


@pytest.mark.parametrize("by", ["its word", "its hash"])
def test_holding_nothing_is_asked_of_the_consumer_and_of_redis(queue: Queue, by: str) -> None:
    # A failover can undo the claim of a poison that runs: Redis alone would not know.
    queue.push("q", "u1")
    one = Consumer(queue)
    if by == "its hash":
        one.claim()
    queue.suspect("s1")
    assert not any(item.suspect for item in one.claim(empty=by == "its hash").items)
    assert payloads(queue.suspects()) == [b"s1"]


def test_holding_nothing_is_looked_at_over_all_lists(queue: Queue) -> None:
    queue.push("a", "u1")
    queue.suspect("s1", "b")
    Consumer(queue, lists=("a",)).claim()
    one = Consumer(queue, "c1", lists=("b",), number=1)
    assert one.claim(empty=True).items == []


def test_one_suspect_at_a_time_runs_on_a_host(queue: Queue) -> None:
    queue.suspect("s1")
    queue.suspect("s2")
    queue.push("q", "u1")
    one, two = Consumer(queue, "c1"), Consumer(queue, "c2")
    first = one.one()
    assert payloads(two.claim(1).items) == [b"u1"]
    other_host = Consumer(queue, "c3", "h2")
    assert payloads(other_host.claim().items) == [b"s2"]
    one.settle(first)
    queue.suspect("s3")
    assert payloads(one.claim().items) == [b"s3"]


@pytest.mark.parametrize("end", ["settle", "park", "dead_letter", "release", "death"])
def test_a_suspect_that_is_no_longer_held_frees_its_host(queue: Queue, end: str) -> None:
    queue.suspect("s1")
    queue.suspect("s2")
    one, two = Consumer(queue, "c1"), Consumer(queue, "c2")
    item = one.one()
    if end == "death":
        queue.return_items(one)
    else:
        getattr(one, end)(item)
    [found] = two.claim().items
    assert found.suspect


def test_a_busy_consumer_hears_of_suspects_that_wait(queue: Queue) -> None:
    queue.push("q", "u1", "u2")
    one = Consumer(queue)
    one.claim(1)
    queue.suspect("s1")
    queue.suspect("s2")
    assert one.claim(0).suspects == 2


def test_suspects_of_lists_that_a_consumer_does_not_serve_are_not_its_business(
    queue: Queue,
) -> None:
    queue.suspect("s1", "other")
    claim = Consumer(queue).claim()
    assert (claim.items, claim.suspects) == ([], 0)


def test_an_item_that_died_too_often_is_claimed_like_any_suspect_and_says_how(
    queue: Queue,
) -> None:
    note = "%7B%22error%22%3A%22was%20killed%22%2C%22link%22%3A%22tag%22%7D"
    queue.client.rpush("conserver:suspects:q", record("t1", "s1", flags=f"s:{note}", deaths=3))
    queue.suspect("s2", deaths=3)
    one = Consumer(queue)
    claim = one.claim()
    assert (payloads(claim.items), claim.suspects) == ([b"s1"], 1)
    [item] = claim.items
    assert (item.deaths, item.last_death) == (3, {"error": "was killed", "link": "tag"})
    one.refuse(item)
    assert (queue.dead(), payloads(one.claim().items)) == ([b"s1"], [b"s2"])


def test_an_item_that_must_not_run_comes_back_as_it_was_if_its_worker_dies(queue: Queue) -> None:
    """It has not begun: no death is counted, or its deaths would grow without bound."""
    queue.suspect("s1", deaths=3)
    for number in range(2):
        one = Consumer(queue, f"c{number}")
        [item] = one.claim().items
        queue.return_items(one, Blame("items", [], {"error": "was killed"}))
        [back] = queue.suspects()
        assert (back.deaths, back.note) == (item.deaths, item.note) == (3, b"")


# ---- what is stopped, and what is broken -------------------------------------------------------


def test_a_paused_list_gives_nothing_not_even_what_came_back(queue: Queue) -> None:
    queue.push("q", "u1")
    queue.push("other", "u2")
    queue.client.rpush("conserver:returned:q", record("t1", "back"))
    queue.suspect("s1")
    queue.client.hset("conserver:control", "paused:q", "1")
    claim = Consumer(queue, lists=("q", "other")).claim()
    assert payloads(claim.items) == [b"u2"]
    assert (claim.more, claim.suspects) == (0, 0)


def test_at_the_cap_of_parked_items_only_what_comes_back_is_served(queue: Queue) -> None:
    queue.push("q", "u1", "u2", "u3", "u4")
    one = Consumer(queue, limits=ClaimLimits(parked_cap=2))
    one.park(*one.take(2), after_ms=0)
    queue.client.rpush("conserver:returned:q", record("t1", "back"))
    claim = one.claim()
    assert payloads(claim.items) == [b"back"]
    assert claim.more == 0
    queue.promote("q", most=1)
    assert payloads(one.claim(2).items) == [b"u1", b"u3"]


@pytest.mark.parametrize("kind", ["string", "hash", "set", "zset", "stream"])
def test_an_ingress_list_of_another_type_is_reported_and_harms_nobody(
    queue: Queue, kind: str
) -> None:
    queue.make_key("bad", kind)
    before = queue.client.dump("bad")
    queue.push("good", "u1")
    queue.client.rpush("conserver:returned:bad", record("t1", "back", "bad"))
    claim = Consumer(queue, lists=("bad", "good")).claim()
    assert list(claim.broken) == [("bad", kind)]
    assert payloads(claim.items) == [b"back", b"u1"]
    assert queue.client.dump("bad") == before


@pytest.mark.parametrize("waits", ["fresh", "returned", "suspect"])
def test_a_dlq_of_another_type_stops_its_list_and_no_other(queue: Queue, waits: str) -> None:
    # An item that had to be dead-lettered could not be: it would be parked again and again.
    queue.client.set("DLQ:bad", "not a list")
    if waits == "fresh":
        queue.push("bad", "u1")
    elif waits == "returned":
        queue.client.rpush("conserver:returned:bad", record("t1", "u1", "bad"))
    else:
        queue.suspect("u1", "bad", deaths=3)
    queue.push("good", "u2")
    claim = Consumer(queue, lists=("bad", "good")).claim()
    assert ("DLQ:bad", "string") in claim.broken
    assert payloads(claim.items) == [b"u2"]
    assert len(queue.waiting("bad") + queue.returned("bad") + queue.suspects("bad")) == 1


# ---- documents ---------------------------------------------------------------------------------


def test_who_has_been_forgotten_is_registered_no_more(queue: Queue) -> None:
    """Its late calls would pass every fence again: under a number that it had, to the same item."""
    queue.supply("q", "u1")
    dead = Consumer(queue)
    first = dead.one()
    write = calls.Write(first.token, first.epoch, "u1", 0, "c", b"{}", document("u1", late=True))
    queue.return_items(dead)
    assert queue.return_items(dead).left == 0
    assert queue.run(host_calls.register(dead.host, dead.id, dead.lists)) == 0
    assert queue.registration(dead) is None
    assert dead.claim(number=1).void
    assert queue.run(calls.write(dead.id, 1, [write])) == [[b"lost"]]
    assert queue.client.get("vcon:u1") == document("u1")
    assert 0 < queue.client.ttl(f"conserver:gone:{dead.id}") <= 3600


def test_late_calls_of_the_dead_give_no_token_twice(queue: Queue) -> None:
    """Registered once more by a call that is hours late, a dead consumer claims under a number that
    it had.
    """
    queue.push("q", "u1", "u2")
    dead = Consumer(queue)
    first = dead.one()
    queue.return_items(dead)
    assert queue.return_items(dead).left == 0
    queue.client.delete(f"conserver:gone:{dead.id}")  # it has expired
    queue.push("q", "u3")
    queue.client.lmove("q", "conserver:returned:q", "LEFT", "LEFT")  # before the one given back
    queue.run(host_calls.register(dead.host, dead.id, dead.lists))
    items = dead.claim(number=1).items
    assert sorted(payloads(items)) == [b"u1", b"u2", b"u3"]
    assert len({item.token for item in items}) == 3
    assert {item.token for item in queue.held(dead.id)} == {item.token for item in items}
    assert first.token in {item.token for item in items}


def test_a_stored_document_comes_with_its_revision(queue: Queue) -> None:
    body = queue.store("u1")
    queue.push("q", "u1")
    item = Consumer(queue).one()
    assert (item.source, item.length, item.payload) == (Source.STORED, len(body), b"u1")
    assert item.revision == int(queue.revision("u1")[b"r"]) > 1_700_000_000_000_000
    assert not item.replaced


def test_a_pushed_document_is_its_own_payload(queue: Queue) -> None:
    body = document("u1")
    queue.push("q", body)
    item = Consumer(queue).one()
    assert (item.source, item.payload, item.text) == (Source.INLINE, body, b"")
    assert item.revision == 0
    assert queue.client.exists("vcon:u1") == 0


def test_a_missing_document_is_said_to_be_missing(queue: Queue) -> None:
    queue.push("q", "u1")
    assert Consumer(queue).one().source is Source.MISSING
    assert queue.client.exists("conserver:revision:u1") == 0


def test_documents_stay_out_of_the_answer(queue: Queue) -> None:
    for uuid in ("u1", "u2", "u3"):
        queue.client.set(f"vcon:{uuid}", b"x" * 10)
    queue.push("q", "u1", "u2", "u3")
    items = Consumer(queue).take(3)
    assert [(i.source, i.text, i.length) for i in items] == [(Source.STORED, b"", 10)] * 3
    assert all(item.revision > 0 for item in items)


def test_a_small_document_of_few_comes_along(queue: Queue) -> None:
    sizes = {"small": 10, "large": 300_000}
    for uuid, size in sizes.items():
        queue.client.set(f"vcon:{uuid}", b"x" * size)
    queue.push("q", "small", "large")
    consumer = Consumer(queue)
    claim = consumer.claim(2)
    wanted = [(Source.STORED, b"x" * 10, 10), (Source.STORED, b"", 300_000)]
    assert [(i.source, i.text, i.length) for i in claim.items] == wanted
    again = consumer.claim(2, number=consumer.number)
    assert [(i.source, i.text, i.length) for i in again.items] == wanted


def test_what_exceeds_the_bytes_of_a_claim_stays_where_it_was(queue: Queue) -> None:
    """The first is popped alone, the next eight together, and three of these are claimed."""
    uuids = [f"u{number}" for number in range(9)]
    for uuid in uuids:
        queue.store(uuid, document(uuid, subject="x" * 1000))
    queue.push("q", *uuids)
    items = Consumer(queue, limits=ClaimLimits(most_bytes=3500)).claim(9).items
    got = [item.payload.decode() for item in items]
    assert got == uuids[:4]
    left = [element.decode() for element in queue.client.lrange("q", 0, -1)]
    assert got + left == uuids, "in their order, each once"
    assert {item.token for item in queue.held("c1")} == {item.token for item in items}


@pytest.mark.parametrize("kind", ["list", "hash", "set", "zset", "stream"])
def test_a_document_of_another_type_is_named_and_its_neighbours_are_served(
    queue: Queue, kind: str
) -> None:
    queue.make_key("vcon:bad", kind)
    before = queue.client.dump("vcon:bad")
    queue.supply("q", "u1")
    queue.push("q", "bad")
    queue.supply("q", "u2")
    first, bad, second = Consumer(queue).take(3)
    assert (bad.source, bad.bad_key) == (Source.BAD_KEY, ("vcon:bad", kind))
    assert (first.source, second.source) == (Source.STORED, Source.STORED)
    assert queue.client.dump("vcon:bad") == before
    assert queue.client.ttl("vcon:bad") == -1


def test_payloads_that_are_no_vcon_are_claimed_like_any_other(queue: Queue) -> None:
    odd: list[bytes] = [b"", b"[]", b"null", b"7", b"\xff\xfe\x00", b"a b\nc", b"{", b"{}"]
    queue.push("q", *odd)
    items = Consumer(queue).take(len(odd))
    assert payloads(items) == odd
    assert [item.source for item in items] == [Source.MISSING] * 6 + [Source.INLINE] * 2


@pytest.mark.real_redis("its scripts have no redis.sha1hex")
@pytest.mark.parametrize("most", [1000, 100_000])
def test_of_a_payload_that_is_too_large_a_claim_gives_the_beginning(
    queue: Queue, most: int
) -> None:
    body = document("u1", subject="x" * 200_000)
    queue.push("q", body, "u2")
    one = Consumer(queue, limits=ClaimLimits(payload_bytes=most))
    large, small = one.take(2)
    assert large.refused == ("cut", str(len(body)))
    assert (large.length, large.payload) == (len(body), body[:65536])
    assert (small.source, small.refused, small.payload) == (Source.MISSING, None, b"u2")
    one.refuse(large)
    [(_, buried)] = queue.reasons()
    assert (queue.dead(), buried.payload[:1]) == ([body], b"\2"), "Redis has all of it"


def test_a_small_payload_that_is_too_large_is_given_whole(queue: Queue) -> None:
    body = document("u1", subject="x" * 2000)
    queue.push("q", body)
    item = Consumer(queue, limits=ClaimLimits(payload_bytes=len(body) - 1)).one()
    assert (item.refused, item.payload) == (("cut", str(len(body))), body)


def test_what_a_claim_says_of_a_document_is_the_state_after_it(queue: Queue) -> None:
    # The revision of the answer is the base of the next write: it must not conflict with itself.
    queue.supply("q", "u1", "u1")
    one = Consumer(queue)
    first, second = one.take(2)
    assert first.revision == second.revision
    assert one.write(first, document("u1", subject="new")).kind == "written"


def test_etags_of_the_storages_come_with_the_document(queue: Queue) -> None:
    queue.supply("q", "u1", "u1")
    one = Consumer(queue)
    first = one.one()
    assert first.etags == {}
    one.settle(first, etags={"s3": '"abc"', "minio": '"déf"'})
    assert one.one().etags == {"s3": '"abc"', "minio": '"déf"'}


# ---- names and numbers of lists ----------------------------------------------------------------


ODD_NAMES = ["with space", "日本:語", "a:b:c", "tab\there", "{tag}q", "q" * 500, "'\"%s[^]", "-"]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_list_may_have_any_name_without_a_line_break(queue: Queue, name: str) -> None:
    queue.push(name, "u1", "u2", "u3", "u4")
    one = Consumer(queue, lists=(name,))
    first, second, third, fourth = one.take(4)
    assert first.list == name
    one.release(first)
    assert queue.waiting(name) == [b"u1"]
    one.park(second, state=b"{}")
    queue.promote(name)
    one.dead_letter(third)
    queue.replay(name)
    assert payloads(queue.returned(name)) == [b"u2", b"u3"]
    queue.return_items(one)
    assert payloads(queue.returned(name)) == [b"u2", b"u3", b"u4"]
    two = Consumer(queue, "c2", lists=(name,))
    for item in two.take(4):
        assert two.settle(item, name + "/out").kind == "settled"
    assert queue.waiting(name + "/out") == [b"u2", b"u3", b"u4", b"u1"]
    assert fourth.list == name


def test_two_hundred_lists_are_one_call(queue: Queue) -> None:
    names = tuple(f"list-{number}" for number in range(200))
    queue.push(names[-1], "last")
    queue.push(names[100], "middle")
    one = Consumer(queue, lists=names)
    assert payloads(one.claim().items) == [b"middle", b"last"]
    assert {item.list for item in one.holds.values()} == {names[100], names[-1]}


def test_a_record_that_lua_wrote_reads_the_same_in_python(queue: Queue) -> None:
    queue.push("q", "u1")
    one = Consumer(queue)
    item = one.one()
    state = orjson.dumps({"links": ["a\nb"], "text": "ü€😀"})
    one.write(item, state=state)
    [held] = queue.held("c1")
    assert held.state == state
    assert held.payload == b"u1"
    assert held.first_seen_ms == item.first_seen_ms
