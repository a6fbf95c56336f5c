"""retrying_connection.py: the faults that a worker's connection survives, with a real Redis.

A test makes and ends faults in `tick`, which the connection calls while it waits. So it needs no
threads.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from http import HTTPStatus
from typing import Self
from uuid import UUID

import pytest
import structlog
from redis.exceptions import AuthenticationError, NoPermissionError, NoScriptError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from servers import Redis
from structlog.testing import capture_logs

from conserver.queue import calls, host_calls
from conserver.queue.calls import Demand
from conserver.queue.retrying_connection import (
    LARGE_BYTES,
    RetryingConnection,
    advice,
    denied_in_script,
    is_transient,
    pack,
)
from tests.conftest import Private
from tests.helpers import TcpProxy
from tests.queues import DEFAULT_LIMITS, Queue, opened


@pytest.mark.parametrize(
    "word",
    [
        *("SET", "", "naïve 東京", b"", b"\r\n\0\xff", 0, -7, 1 << 70, 1.5, 1e22),
        *(True, HTTPStatus.OK, UUID(int=7)),
        *(bytes(LARGE_BYTES - 1), bytes(LARGE_BYTES)),
    ],
    ids=lambda word: f"{type(word).__name__} {str(word)[:8]}",
)
def test_a_word_is_packed_as_bytes_or_as_text(word: object) -> None:
    data = word if isinstance(word, bytes) else str(word).encode()
    packed = b"*2\r\n$1\r\nA\r\n$%d\r\n%b\r\n" % (len(data), data)
    assert pack(("A", word)) == pack(["A", word]) == packed


class Ticks:
    """Counts ticks, measures the longest time between two, and does something at the n-th."""

    def __init__(self) -> None:
        self.count = 0
        self.longest_s = 0.0
        self._last = time.monotonic()
        self._orders: dict[int, Callable[[], object]] = {}

    def at(self, number: int, order: Callable[[], object]) -> None:
        """At the `number`-th tick from now."""
        self._orders[self.count + number] = order

    def __call__(self) -> None:
        now = time.monotonic()
        self.longest_s = max(self.longest_s, now - self._last)
        self.count += 1
        order = self._orders.pop(self.count, None)
        if order is not None:
            order()
        self._last = time.monotonic()


class Bench:
    """A connection to Redis through a proxy, and direct access to Redis."""

    def __init__(self, queue: Queue, proxy: TcpProxy, url: str, stack: ExitStack) -> None:
        self.queue = queue
        self.proxy = proxy
        self.ticks = Ticks()
        self.connection = RetryingConnection(url, self.ticks, structlog.get_logger())
        stack.callback(self.connection.close)
        self._before = (0, 0, 0)

    def connect(self) -> Self:
        """Have a connection. A busy machine may have needed two: they are not counted."""
        self.connection.command("PING")
        self._before = (self.connection.calls, self.connection.repeats, self.proxy.connections)
        return self

    @property
    def counts(self) -> tuple[int, int, int]:
        """Calls, repeats and new connections since connect()."""
        now = (self.connection.calls, self.connection.repeats, self.proxy.connections)
        calls, repeats, connections = (
            n - before for n, before in zip(now, self._before, strict=True)
        )
        return calls, repeats, connections

    def claim(self, number: int) -> calls.Claim:
        """Claim one item of `q`."""
        demand = [Demand("q", 1)]
        call = calls.claim("h1", "c1", number, True, demand, DEFAULT_LIMITS)
        return calls.read_claim(self.connection.call(call))


@contextmanager
def bench_for(url: str) -> Iterator[Bench]:
    """A bench with the Redis at `url`."""
    port = int(url.rpartition(":")[2].partition("/")[0])
    with ExitStack() as stack:
        queue = stack.enter_context(opened(url))
        proxy = stack.enter_context(TcpProxy(port))
        queue.run(host_calls.register("h1", "c1", ["q"]))
        yield Bench(queue, proxy, proxy.url(url), stack)


@pytest.fixture
def bench(redis_url: str) -> Iterator[Bench]:
    with bench_for(redis_url) as made:
        yield made.connect()


def test_a_call_is_one_round_trip(bench: Bench) -> None:
    bench.queue.push("q", "u1")
    bench.queue.client.script_flush()
    bench.claim(1)
    assert bench.counts == (2, 0, 0)
    bench.claim(2)  # the first one had to bring the script
    assert bench.counts == (3, 0, 0)


def test_a_call_that_never_arrived_is_sent_again(bench: Bench) -> None:
    bench.queue.push("q", "u1", "u2")
    bench.proxy.cut_before(b"inflight:c1")
    assert [item.payload for item in bench.claim(1).items] == [b"u1"]
    assert bench.proxy.cuts_done == 1
    assert bench.connection.repeats >= 1
    assert bench.queue.places() == {("held", b"u1"): 1, ("waiting", b"u2"): 1}


@pytest.mark.parametrize("times", [1, 3])
def test_a_call_whose_answer_was_lost_is_answered_as_it_was_first(bench: Bench, times: int) -> None:
    bench.queue.push("q", "u1", "u2")
    bench.queue.run(calls.claim("h1", "c1", 1, True, [], DEFAULT_LIMITS))  # the script is known
    bench.proxy.cut_after(b"inflight:c1", times)
    assert [item.payload for item in bench.claim(2).items] == [b"u1"]
    assert bench.proxy.cuts_done == times
    assert bench.connection.repeats >= times
    assert bench.queue.places() == {("held", b"u1"): 1, ("waiting", b"u2"): 1}


def test_an_answer_that_takes_its_time_is_waited_for_on_the_same_connection(bench: Bench) -> None:
    bench.proxy.stall()
    bench.ticks.at(3, bench.proxy.flow)
    assert bench.connection.command("ECHO", "a") == b"a"
    assert bench.counts[1:] == (0, 0)
    assert bench.ticks.longest_s < 30


def test_a_tick_that_ends_the_wait_leaves_no_answer_for_the_next_call(bench: Bench) -> None:
    class Over(Exception):
        """Raised by `tick`, as when the supervisor is gone."""

    def stop() -> None:
        raise Over

    bench.connection.command("PING")
    bench.proxy.stall()
    bench.ticks.at(1, stop)
    with pytest.raises(Over):
        bench.connection.command("ECHO", "first")
    bench.proxy.flow()
    assert bench.connection.command("ECHO", "second") == b"second"


def test_it_outlives_more_broken_connections_than_a_pool_would(bench: Bench) -> None:
    for number in range(120):
        bench.proxy.cut_before(b"ECHO")
        assert bench.connection.command("ECHO", str(number)) == str(number).encode()
    assert bench.proxy.cuts_done == 120
    assert bench.connection.repeats >= 120


def test_a_script_that_redis_has_forgotten_is_sent_whole(bench: Bench) -> None:
    bench.queue.push("q", "u1", "u2")
    bench.claim(1)
    bench.queue.client.script_flush()
    assert [item.payload for item in bench.claim(2).items] == [b"u2"]
    assert bench.counts[1] == 0


def test_a_script_is_forgotten_and_the_connection_cut(bench: Bench) -> None:
    bench.queue.push("q", "u1")
    bench.queue.client.script_flush()
    bench.proxy.cut_after(b"EVAL\r\n")
    assert [item.payload for item in bench.claim(1).items] == [b"u1"]
    assert bench.proxy.cuts_done == 1


@pytest.mark.parametrize("forgotten", [False, True], ids=["known", "forgotten"])
def test_some_words_are_for_repetitions_only(bench: Bench, forgotten: bool) -> None:
    def said_again() -> bytes | None:
        value: bytes | None = bench.queue.client.hget("conserver:host:h1", "again")
        return value

    call = host_calls.beat("h1", "1", {})._replace(again=["again", "yes"])
    bench.connection.call(call)
    assert said_again() is None
    bench.proxy.cut_after(b"host:h1")
    if forgotten:
        bench.ticks.at(1, bench.queue.client.script_flush)
    bench.connection.call(call)
    assert said_again() == b"yes"
    assert bench.proxy.cuts_done == 1


def test_an_error_that_would_come_again_is_raised(bench: Bench) -> None:
    bench.queue.client.set("text", "a")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        bench.connection.command("LPUSH", "text", "b")
    with pytest.raises(NoScriptError):
        bench.connection.command("EVALSHA", "0" * 40, 0)
    with pytest.raises(ResponseError, match="unknown command"):
        bench.connection.command("NONSENSE")
    assert bench.connection.command("ECHO", "a") == b"a"
    assert bench.counts[2] == 0


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (NoPermissionError("this user has no permissions to run the 'evalsha' command"), "ACL"),
        (ResponseError("MISCONF Redis is configured to save RDB snapshots"), "it is up"),
        (RedisConnectionError("refused"), "waiting until it answers"),
        (AuthenticationError("invalid username-password pair"), "REDIS_URL"),
    ],
)
def test_the_log_says_what_is_waited_for(error: Exception, words: str) -> None:
    assert words in advice(error)


@pytest.mark.parametrize("words", [["ECHO", "a"], ["EXISTS", *map(str, range(20))]])
def test_an_outage_that_becomes_a_refused_login_is_logged_again(
    private: Private, words: list[str]
) -> None:
    """The first line has only "Connection closed": it does not say what to mend. Redis refuses a
    command of many words otherwise than one of few.
    """
    server = private(Redis())
    with bench_for(server.url) as bench:
        bench.connection.command("PING")
        client = bench.queue.client
        client.config_set("requirepass", "rotated")
        client.client_kill_filter(_type="normal", skipme=True)

        def mend() -> None:
            if any("the login of REDIS_URL" in line["what"] for line in lines):
                client.config_set("requirepass", "")
            else:
                bench.ticks.at(1, mend)

        bench.ticks.at(1, mend)
        with capture_logs() as lines:
            assert bench.connection.command(*words) in (b"a", 0)
    assert lines[0]["what"] == "waiting until it answers"
    assert lines[-1]["event"] == "redis_back"


def test_an_outage_is_logged_once_when_it_begins_and_once_when_it_ends(bench: Bench) -> None:
    bench.connection.command("PING")
    bench.proxy.refuse()
    bench.ticks.at(7, bench.proxy.start)
    with capture_logs() as lines:
        assert bench.connection.command("ECHO", "a") == b"a"
    assert [line["event"] for line in lines] == ["redis_away", "redis_back"]
    assert lines[1]["attempts"] > 3
    assert 0 < lines[1]["away_s"] < 60


# ---- a server of the test's own ----------------------------------------------------------------


def test_two_errors_by_turns_are_logged_once_each_in_an_outage(private: Private) -> None:
    """As in a failover: Redis refuses a write, breaks the connection, refuses it again."""
    with bench_for(private(Redis({"maxmemory-policy": "noeviction"})).url) as bench:
        bench.queue.client.config_set("maxmemory", 1)
        cut = partial(bench.proxy.cut_before, b"by turns")
        mend = partial(bench.queue.client.config_set, "maxmemory", 0)
        orders = [(1, cut), (3, cut), (5, cut), (6, mend)]  # each after so many repetitions

        def order() -> None:
            bench.ticks.at(1, order)
            if orders and bench.connection.repeats >= orders[0][0]:
                orders.pop(0)[1]()

        bench.ticks.at(1, order)
        with capture_logs() as lines:
            assert bench.connection.command("SET", "by turns", "b") == b"OK"
    assert bench.proxy.cuts_done >= 2
    assert [line["event"] for line in lines] == ["redis_away", "redis_away", "redis_back"]
    assert lines[0]["what"] != lines[1]["what"]


def test_a_frozen_server_stops_no_tick(private: Private) -> None:
    # redis-py's defaults would block here for most of a minute, and the worker would be killed.
    server = private(Redis())
    with bench_for(server.url) as bench:
        bench.connection.command("PING")
        server.pause()
        bench.ticks.at(5, server.resume)
        assert bench.connection.command("ECHO", "a") == b"a"
        assert bench.ticks.longest_s < 30


def test_a_server_that_is_frozen_before_there_is_a_connection(private: Private) -> None:
    server = private(Redis())
    with bench_for(server.url) as bench:
        server.pause()
        bench.ticks.at(2, server.resume)
        assert bench.connection.command("ECHO", "a") == b"a"
        assert bench.connection.repeats >= 1
        assert bench.ticks.longest_s < 30


def test_a_server_that_is_restarted_loses_nothing_that_it_had_answered(private: Private) -> None:
    server = private(Redis({"appendonly": "yes", "appendfsync": "always"}))
    with bench_for(server.url) as bench:
        bench.queue.push("q", "u1", "u2")
        bench.claim(1)
        server.kill()
        bench.ticks.at(3, server.start)
        assert [item.payload for item in bench.claim(2).items] == [b"u2"]
        bench.queue.client.ping()
        assert len(bench.queue.held("c1")) == 2


def test_a_full_server_is_waited_for(private: Private) -> None:
    server = private(Redis({"maxmemory-policy": "noeviction"}))
    with bench_for(server.url) as bench:
        bench.queue.push("q", "u1")
        bench.queue.client.config_set("maxmemory", 1)
        assert [item.payload for item in bench.claim(1).items] == [b"u1"]  # scripts pass
        bench.ticks.at(3, lambda: bench.queue.client.config_set("maxmemory", 0))
        assert bench.connection.command("SET", "a", "b") == b"OK"
        assert bench.connection.repeats >= 2


def test_a_server_that_became_a_replica_is_waited_for(private: Private) -> None:
    server = private(Redis())
    with bench_for(server.url) as bench:
        bench.queue.push("q", "u1")
        # A master that nobody has: the server answers reads, and refuses our scripts' writes.
        bench.queue.client.replicaof("127.0.0.1", "1")
        bench.ticks.at(3, lambda: bench.queue.client.replicaof("NO", "ONE"))
        assert [item.payload for item in bench.claim(1).items] == [b"u1"]
        assert bench.connection.repeats >= 2


def test_a_server_that_is_busy_with_somebodys_script_is_waited_for(private: Private) -> None:
    server = private(Redis({"lua-time-limit": "50"}))
    with bench_for(server.url) as bench, opened(server.url) as other:
        bench.connection.command("PING")
        blocker = other.client.connection_pool.make_connection()
        blocker.connect()
        blocker.send_command("EVAL", "while true do end", 0)
        bench.ticks.at(3, lambda: bench.queue.client.execute_command("SCRIPT", "KILL"))
        assert bench.connection.command("ECHO", "a") == b"a"
        blocker.disconnect()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("MISCONF Redis is configured to save RDB snapshots", True),
        ("NOREPLICAS Not enough good replicas to write.", True),
        ("BUSY Redis is busy running a script.", True),
        ("Protocol error: unauthenticated multibulk length", True),
        ("Protocol error: invalid multibulk length", False),
        ("Error running script (call to f_a): @user_script:2: @user_script: 2: -OOM command", True),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", False),
        ("Error running script (call to f_ab): @user_script:20: unknown variable", False),
        ("user_script:20: Script attempted to access nonexistent global variable 'BUSY '", False),
    ],
)
def test_which_errors_are_transient(text: str, expected: bool) -> None:
    assert is_transient(ResponseError(text)) is expected


def test_hints_are_asked_once_and_refusals_are_none(bench: Bench) -> None:
    client = bench.queue.client
    client.rpush("a list", "first", "second")
    client.set("a string", "x")
    asked = [("LPOP", "a list"), ("LPOP", "a string"), ("HMGET", "nothing", "a", "b")]
    assert bench.connection.hints(asked) == [b"first", None, [None, None]]
    assert bench.connection.command("LLEN", "a list") == 1


def test_hints_of_a_connection_that_breaks_are_lost_and_nothing_else(bench: Bench) -> None:
    bench.queue.supply("q", "u1")
    bench.queue.client.rpush("a list", "first", "second")
    bench.proxy.cut_after(b"LPOP")
    with capture_logs() as logs:
        assert bench.connection.hints([("LPOP", "a list"), ("PING",)]) == [None, None]
        assert len(bench.claim(1).items) == 1
    assert bench.queue.client.lrange("a list", 0, -1) == [b"second"], "not asked a second time"
    assert logs == []


def test_it_says_whether_a_claim_that_waits_may_have_taken_items(bench: Bench) -> None:
    connection, proxy, seen = bench.connection, bench.proxy, list[bool]()

    def start() -> None:
        seen.append(connection.unsure)
        proxy.start()

    def away() -> None:
        proxy.refuse()
        bench.ticks.at(1, start)

    away()
    connection.command("PING")
    away()
    bench.claim(1)
    assert not connection.unsure
    away()
    connection.close_if_ended()
    bench.claim(2)
    assert seen == [False, True, False], "only the first claim was sent, on the old connection"


@pytest.mark.parametrize(
    ("refuse", "permit", "unsure"),
    [
        ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE", False),
        ("ACL SETUSER default -evalsha", "ACL SETUSER default +evalsha", False),
        ("ACL SETUSER default -hset", "ACL SETUSER default +hset", True),
    ],
)
def test_a_claim_that_redis_refuses_has_taken_nothing_unless_its_script_lacks_a_permission(
    private: Private, refuse: str, permit: str, unsure: bool
) -> None:
    server, seen = private(Redis()), list[bool]()
    with bench_for(server.url) as bench:
        client = bench.queue.client
        bench.queue.push("q", "u1")

        def end() -> None:
            seen.append(bench.connection.unsure)
            client.execute_command(*permit.split())

        client.execute_command(*refuse.split())
        bench.ticks.at(1, end)
        with capture_logs() as lines:
            assert [item.payload for item in bench.claim(1).items] == [b"u1"]
    assert seen == [unsure]
    assert [line["event"] for line in lines] == ["redis_away", "redis_back"]
    assert ("ACL of this Redis user" in lines[0]["what"]) is refuse.startswith("ACL")


def test_a_script_that_was_executed_in_part_is_repeated_for_a_claim_only(private: Private) -> None:
    with bench_for(private(Redis()).url) as bench:
        client = bench.queue.client
        bench.queue.push("q", "u1", "u2")
        client.execute_command("ACL", "SETUSER", "default", "-lpop")
        assert bench.claim(1).items == []
        assert bench.connection.repeats == 1
        client.execute_command("ACL", "SETUSER", "default", "+lpop", "-lpush")
        (item,) = bench.claim(2).items
        move = calls.Move(item.token, item.epoch)
        with pytest.raises(ResponseError) as refused:
            bench.connection.call(calls.move("release", "c1", [move]))
        assert denied_in_script(refused.value)
        assert bench.connection.repeats == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The user executing the script can't run this command or subcommand script: 1f", True),
        (
            "Error running script (call to f_a): @user_script: 2: The user executing the script ",
            True,
        ),
        ("ACL failure in script: User a has no permissions to run the 'lpop' command", True),
        ("this user has no permissions to run the 'evalsha' command", False),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", False),
    ],
)
def test_which_errors_come_from_a_command_inside_a_script(text: str, expected: bool) -> None:
    assert denied_in_script(ResponseError(text)) is expected
