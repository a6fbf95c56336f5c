"""FakeRedisServer: what a client of Redis sees of it. The queue's contract runs on it as well."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from conserver.testing.redis_server import FakeRedisServer


@pytest.fixture(params=[2, 3])
def client(request: pytest.FixtureRequest) -> Iterator[redis.Redis]:
    """A client that speaks RESP2, and one that speaks RESP3."""
    with (
        FakeRedisServer() as server,
        redis.Redis.from_url(server.url, protocol=request.param) as made,
    ):
        yield made


def test_replies_of_every_type(client: redis.Redis) -> None:
    assert client.ping()
    assert client.set("text", b"\x00\xff\r\n")
    assert (client.get("text"), client.get("none")) == (b"\x00\xff\r\n", None)
    assert client.rpush("list", "a", "b") == 2
    assert client.lrange("list", 0, -1) == [b"a", b"b"]
    client.hset("hash", mapping={"a": 1, "b": 2})
    assert client.hgetall("hash") == {b"a": b"1", b"b": b"2"}
    client.sadd("set", "a", "b")
    assert client.smembers("set") == {b"a", b"b"}
    client.zadd("zset", {"a": 1.5})
    assert client.zscore("zset", "a") == 1.5
    assert client.zrange("zset", 0, -1, withscores=True) in ([(b"a", 1.5)], [[b"a", 1.5]])
    script = "return {1, 'x', false, {redis.status_reply('OK')}}"
    assert client.eval(script, 0) == [1, b"x", None, [b"OK"]]


def test_an_error_does_not_end_the_connection(client: redis.Redis) -> None:
    with pytest.raises(redis.exceptions.NoScriptError):
        client.evalsha("0" * 40, 0)
    client.rpush("list", "a")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        client.get("list")
    with pytest.raises(redis.ResponseError, match="unknown command"):
        client.execute_command("NONSENSE")
    with pytest.raises(redis.ResponseError, match="MINE is broken"):
        client.eval("return redis.error_reply('MINE is broken')", 0)
    assert client.ping()


def test_large_values_and_pipelines_come_whole(client: redis.Redis) -> None:
    large = b"x" * 3_000_000
    with client.pipeline(transaction=True) as pipe:
        pipe.set("large", large)
        for number in range(200):
            pipe.rpush("list", number)
        pipe.get("large")
        answers = pipe.execute()
    assert answers[-1] == large
    assert client.llen("list") == 200


def test_what_is_published_arrives_and_what_blocks_is_woken(client: redis.Redis) -> None:
    with client.pubsub(ignore_subscribe_messages=True) as channel:
        channel.subscribe("news")
        channel.get_message(timeout=60)
        client.publish("news", "it")
        message = channel.get_message(timeout=60)
        assert message is not None
        assert message["data"] == b"it"
    assert client.blpop(["list"], timeout=0.05) is None
    client.rpush("list", "a")
    assert client.blpop(["list"], timeout=60) in ((b"list", b"a"), [b"list", b"a"])


def test_two_servers_have_nothing_in_common() -> None:
    with FakeRedisServer() as one, FakeRedisServer() as two:
        with redis.Redis.from_url(one.url) as client:
            client.set("key", "value")
        with redis.Redis.from_url(two.url) as client:
            assert client.get("key") is None
    with pytest.raises(redis.ConnectionError):
        redis.Redis.from_url(one.url, retry=None).ping()
