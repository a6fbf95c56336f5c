"""vcon-server's 24 faults, and what is done instead: numbered as in docs/from-vcon-server.md."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
import yaml
from servers import Redis

from tests.api.conftest import Api
from tests.api.test_health import beating
from tests.api.vcon_server import UUID, client, example, some_uuid
from tests.conftest import Private
from tests.helpers import TcpProxy
from tests.queues import FAR_MS, Consumer, Queue

CALLS = {"ingress_list": "calls"}
OUT = {"egress_list": "out"}


@pytest.fixture
def http(api: Api) -> Iterator[httpx.Client]:
    """A client with a token that may everything."""
    with client(api) as found:
        yield found


def post(http: httpx.Client, uuid: str = "", **members: Any) -> str:
    """Post an example with an own uuid; which one."""
    uuid = uuid or some_uuid()
    assert http.post("/vcon", json=example(uuid, **members)).status_code == 201
    return uuid


def party(**members: str) -> dict[str, Any]:
    return {"parties": [members]}


def test_1_count_is_reachable_and_answers_a_bare_number(http: httpx.Client, queue: Queue) -> None:
    queue.push("out", "a", "b")
    answer = http.get("/vcon/count", params=OUT)
    assert (answer.status_code, answer.text) == (200, "2")


def test_2_members_of_both_forms_are_listed(http: httpx.Client, queue: Queue) -> None:
    one, two = some_uuid(), some_uuid()
    for uuid in (one, two):
        queue.store(uuid)
    queue.client.zadd("vcons", {f"vcon:{one}": 2, two: 1})
    assert http.get("/vcon").json() == [one, two]


def test_3_what_is_gone_leaves_the_list_when_it_is_found(http: httpx.Client, queue: Queue) -> None:
    uuids = [post(http, created_at=f"2026-01-0{day}T00:00:00Z") for day in range(1, 7)]
    http.delete(f"/vcon/{uuids[0]}")
    assert queue.client.zcard("vcons") == 5
    for uuid in uuids[1:3]:  # It has expired, and what is known of it in the index, too.
        queue.client.delete(f"vcon:{uuid}", f"conserver:indexed:{uuid}")
    assert http.get("/vcon", params={"size": 3, "page": 1}).json() == uuids[:2:-1]
    assert http.get("/vcon", params={"size": 3, "page": 2}).json() == []
    assert queue.client.zcard("vcons") == 3


def test_3_what_is_in_a_storage_only_is_listed_until_its_time(
    http: httpx.Client, queue: Queue
) -> None:
    uuid = post(http)
    queue.client.delete(f"vcon:{uuid}")
    assert http.get("/vcon").json() == [uuid]
    assert 0 < queue.client.ttl(f"conserver:indexed:{uuid}") <= 86_400


def test_3_a_list_that_nobody_reads_does_not_grow_for_ever(
    http: httpx.Client, queue: Queue
) -> None:
    queue.client.zadd("vcons", {some_uuid(): number for number in range(200)})
    for _ in range(100):
        post(http, UUID)
    assert queue.client.zcard("vcons") < 100


@pytest.mark.parametrize(
    "query", [{"page": 0}, {"page": -1}, {"size": 0}, {"size": -1}, {"size": 1001}, {"page": "x"}]
)
def test_4_pages_and_sizes_have_bounds(http: httpx.Client, query: dict[str, Any]) -> None:
    assert http.get("/vcon", params=query).status_code == 422


def test_5_search_is_a_true_and(http: httpx.Client) -> None:
    both = post(http, **party(tel="+19144345359", name="Ada"))
    only = post(http, **party(tel="+19144345359", name="Ben"))
    for query, found in (
        ({"tel": "+19144345359"}, sorted([both, only])),
        ({"tel": "+19144345359", "name": "Ada"}, [both]),
        ({"tel": "+19144345359", "name": "Nobody"}, []),
        ({"tel": "+19144345359", "name": "Ada", "mailto": "x@y"}, []),
        ({"name": "Nobody"}, []),
        ({"name": "ada"}, []),
    ):
        answer = http.get("/vcons/search", params=query)
        assert (query, answer.status_code, answer.json()) == (query, 200, found)


def test_6_each_entry_of_the_index_has_its_own_end(http: httpx.Client, queue: Queue) -> None:
    old, new = post(http, **party(name="Ada")), post(http, **party(name="Ada"))
    now_s = time.time()
    queue.client.zadd("conserver:index:name:Ada", {old: now_s - 1})
    assert http.get("/vcons/search", params={"name": "Ada"}).json() == [new]
    post(http, new, **party(name="Ada"))
    assert queue.client.zrange("conserver:index:name:Ada", 0, -1) == [new.encode()]


def test_6_what_is_deleted_or_replaced_is_not_found(http: httpx.Client, queue: Queue) -> None:
    gone, changed = post(http, **party(name="Ada")), post(http, **party(name="Ada"))
    http.delete(f"/vcon/{gone}")
    post(http, changed, **party(name="Eva"))
    assert http.get("/vcons/search", params={"name": "Ada"}).json() == []
    assert http.get("/vcons/search", params={"name": "Eva"}).json() == [changed]
    assert not queue.client.exists("conserver:index:name:Ada")


def test_6_what_vcon_server_has_indexed_is_found_too(http: httpx.Client, queue: Queue) -> None:
    queue.client.sadd("tel:+19144345359", UUID, some_uuid())
    queue.store(UUID)
    assert http.get("/vcons/search", params={"tel": "+19144345359"}).json() == [UUID]
    assert queue.client.smembers("tel:+19144345359") == {UUID.encode()}, "the stale one has left"


def test_6_the_index_can_be_off(serve: Callable[..., Api], queue: Queue) -> None:
    with client(serve(VCON_INDEX_EXPIRY="0")) as http:
        post(http, UUID)
        assert http.get("/vcon").json() == []
        assert http.get("/vcons/search", params={"name": "Ada Berg"}).json() == []
    assert [key for key in queue.everything() if key != b"conserver:lists"] == [
        f"vcon:{UUID}".encode()
    ]


def test_7_several_documents_need_uuids(http: httpx.Client) -> None:
    assert http.get("/vcons").status_code == 422
    query = {"vcon_uuids": [some_uuid() for _ in range(300)]}
    assert http.get("/vcons", params=query).json() == [None] * 300
    assert http.get("/vcons", params={"vcon_uuids": ["", "../x", "~"]}).json() == [None] * 3


def test_8_egress_is_first_in_first_out(http: httpx.Client, queue: Queue) -> None:
    queue.push("out", "a", "b", "c")
    assert http.get("/vcon/egress", params=OUT).json() == ["a"]
    assert http.get("/vcon/egress", params={**OUT, "limit": 2}).json() == ["b", "c"]
    for limit in (0, -1, 10_001):
        assert http.get("/vcon/egress", params={**OUT, "limit": limit}).status_code == 422


def test_9_ingress_of_nothing_is_done_and_what_is_missing_is_counted(
    http: httpx.Client, queue: Queue
) -> None:
    assert http.post("/vcon/ingress", params=CALLS, json=[]).status_code == 204
    answer = http.post("/vcon/ingress", params=CALLS, json=[some_uuid(), some_uuid()])
    assert (answer.status_code, answer.headers["x-conserver-skipped"]) == (204, "2")
    assert queue.waiting("calls") == []


HOSTILE = [
    "",
    "unknown",
    "calls ",
    "calls\n",
    "Calls",
    "vcons",
    "vcon:" + UUID,
    "tel:+1",
    "DLQ:other",
    "conserver:audit",
    "conserver:returned:calls",
    "conserver:control",
    "context:calls:" + UUID,
    "../calls",
    "*",
    "\x00",
    "c" * 5000,
]


@pytest.mark.parametrize("any_list", ["0", "1"])
@pytest.mark.parametrize("name", HOSTILE, ids=lambda name: repr(name)[:30])
def test_10_only_lists_of_the_configuration(
    serve: Callable[..., Api], queue: Queue, name: str, any_list: str
) -> None:
    """With CONSERVER_API_ANY_LIST others, too, but never a key that is something else."""
    queue.store(UUID)
    before = queue.everything()
    ours = name.startswith(("conserver:", "DLQ:", "vcon:", "context:", "tel:", "vcons"))
    refused = any_list == "0" or not name or "\n" in name or ours
    with client(serve(CONSERVER_API_ANY_LIST=any_list)) as http:
        for method, path, query, body in (
            ("POST", "/vcon", {"ingress_lists": ["calls", name]}, json.dumps(example())),
            ("POST", "/vcon/ingress", {"ingress_list": name}, f'["{UUID}"]'),
            ("GET", "/vcon/egress", {"egress_list": name}, ""),
            ("GET", "/dlq", {"ingress_list": name}, ""),
            ("POST", "/dlq/reprocess", {"ingress_list": name}, ""),
        ):
            answer = http.request(method, path, params=query, content=body)
            assert answer.status_code < 500
            assert (path, answer.status_code == 422) == (path, refused), answer.text
    if refused:
        assert queue.everything() == before


def test_10_a_list_that_a_chain_takes_from_is_not_popped(
    serve: Callable[..., Api], queue: Queue
) -> None:
    queue.push("calls", "u1#job")
    for any_list in ("0", "1"):
        with client(serve(CONSERVER_API_ANY_LIST=any_list)) as http:
            answer = http.get("/vcon/egress", params={"egress_list": "calls"})
            assert (answer.status_code, "would be lost" in answer.text) == (422, True)
    assert queue.waiting("calls") == [b"u1#job"]


def test_10_names_with_dots_and_blanks(serve: Callable[..., Api], queue: Queue) -> None:
    chains = {"dots": {"ingress_lists": ["team.calls.v2", "a list"], "egress_lists": ["o.ut"]}}
    with client(serve(config={"chains": chains})) as http:
        for name in ("team.calls.v2", "a list"):
            answer = http.post("/vcon", params={"ingress_lists": name}, json=example())
            assert answer.status_code == 201
            assert http.get("/stats/queue", params={"list_name": name}).json()["depth"] == 1
            assert queue.waiting(name) == [UUID.encode()]


@pytest.mark.parametrize("second", ["hash", "full"])
def test_10_of_several_lists_all_get_it_or_none(
    serve: Callable[..., Api], queue: Queue, second: str
) -> None:
    if second == "hash":
        queue.make_key("other", "hash")
    else:
        queue.push("other", "1", "2")
    with client(serve(CONSERVER_LIST_CAP="2")) as http:
        query = {"ingress_lists": ["calls", "other"]}
        for document in (example(), example(subject="x" * 100_000)):
            answer = http.post("/vcon", params=query, json=document)
            assert answer.status_code == (500 if second == "hash" else 503)
    assert queue.waiting("calls") == []
    assert not queue.client.exists(f"vcon:{UUID}")
    assert not list(queue.client.scan_iter("conserver:incoming:*"))


def dead(queue: Queue, count: int) -> list[str]:
    """Dead letters on `calls`, the oldest first."""
    uuids = [some_uuid() for _ in range(count)]
    queue.supply("calls", *uuids)
    worker = Consumer(queue, lists=("calls",))
    worker.dead_letter(*worker.take(count), why="failed")
    return uuids


def test_11_reprocess_keeps_what_is_done_and_is_one_step_each(
    http: httpx.Client, queue: Queue
) -> None:
    first, second = dead(queue, 2)
    answer = http.post("/dlq/reprocess", params={**CALLS, "count": 1})
    assert (answer.status_code, answer.text) == (200, "1")
    assert [one.payload.decode() for one in queue.returned("calls")] == [first]
    assert queue.dead("calls") == [second.encode()]


def test_11_letters_of_vcon_server_are_reprocessed_too(http: httpx.Client, queue: Queue) -> None:
    queue.client.sadd("conserver:lists", "calls")
    queue.push("DLQ:calls", UUID)
    assert http.post("/dlq/reprocess", params=CALLS).json() == 1
    assert queue.waiting("calls") == [UUID.encode()]
    assert http.post("/dlq/reprocess", params=CALLS).json() == 0


def test_12_dead_letters_come_in_parts(http: httpx.Client, queue: Queue) -> None:
    uuids = dead(queue, 5)
    answer = http.get("/dlq", params={**CALLS, "limit": 2, "offset": 1})
    assert answer.json() == uuids[1:3]
    assert answer.headers["x-total-count"] == "5"
    assert http.get("/dlq", params={**CALLS, "limit": 10_001}).status_code == 422


def test_12_a_dead_letter_that_was_pushed_whole_shows_its_uuid(
    http: httpx.Client, queue: Queue
) -> None:
    queue.push("DLQ:calls", json.dumps(example()), "not a uuid at all")
    assert http.get("/dlq", params=CALLS).json() == [UUID, "not a uuid at all"]


def test_13_a_storage_that_cannot_delete_is_named(serve: Callable[..., Api], queue: Queue) -> None:
    away = {"module": "storage.postgres", "options": {"host": "127.0.0.1", "port": 1}}
    with client(serve(config={"storages": {"away": away}})) as http:
        post(http, UUID)
        answer = http.delete(f"/vcon/{UUID}")
        assert answer.status_code == 502
        assert answer.json()["detail"].endswith("failed: away")
        assert http.get(f"/vcon/{UUID}").status_code == 502, "nobody knows that it is nowhere"
        answer = http.get("/vcons", params={"vcon_uuids": UUID})
        assert (answer.status_code, "away" in answer.json()["detail"]) == (502, True)
        answer = http.post("/vcon/ingress", params=CALLS, json=[UUID])
        assert (answer.status_code, "away" in answer.json()["detail"]) == (503, True)
    assert queue.client.zcard("vcons") == 0


SECRET = {
    "storages": {
        "db": {"module": "storage.postgres", "options": {"host": "h", "password": "pass-word-1"}},
    }
}


def test_14_the_configuration_is_shown_without_secrets(serve: Callable[..., Api]) -> None:
    with client(serve(config=SECRET)) as http:
        answer = http.get("/config")
        assert answer.json()["storages"]["db"]["options"] == {"host": "h", "password": "***"}
        assert "calls" in answer.json()["chains"]["main"]["ingress_lists"]
        assert "pass-word-1" not in answer.text


def test_14_the_configuration_is_not_written(serve: Callable[..., Api], tmp_path: Path) -> None:
    with client(serve()) as http:
        before = (tmp_path / "config.yml").read_text()
        answer = http.post("/config", json=http.get("/config").json())
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET")
        assert "CONSERVER_API_CONFIG_WRITES" in answer.json()["detail"]
    assert (tmp_path / "config.yml").read_text() == before


def test_14_if_it_is_allowed_a_good_configuration_is_written(
    serve: Callable[..., Api], tmp_path: Path, queue: Queue
) -> None:
    file = tmp_path / "config.yml"
    with client(serve(config=SECRET, CONSERVER_API_CONFIG_WRITES="1")) as http:
        file.chmod(0o640)
        before = file.read_text()
        given = http.get("/config").json()
        given["chains"]["second"]["ingress_lists"] = ["other", "new"]
        answer = http.post("/config", json=given)
        assert (answer.status_code, answer.content) == (204, b""), answer.text
    written = yaml.safe_load(file.read_text())
    assert written["chains"]["second"]["ingress_lists"] == ["other", "new"]
    assert written["storages"]["db"]["options"]["password"] == "pass-word-1"
    assert (tmp_path / "config.yml.before").read_text() == before
    assert file.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in tmp_path.glob(".config*")] == []
    assert b'"action":"configure"' in queue.client.lindex("conserver:audit", -1)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"links": {"tag": {"module": "links.tagg"}}}, "links.tagg"),
        ({"chains": {"main": {"links": ["nothing"]}}}, "nothing"),
        ({"links": {"tag": {"module": "links.tag", "options": {"tgas": []}}}}, "tgas"),
        ({"links": {"x": {"module": "links.tag", "options": {"password": "***"}}}}, "no secret"),
        ({"storages": []}, "storages"),
    ],
)
def test_14_a_wrong_configuration_changes_nothing(
    serve: Callable[..., Api], tmp_path: Path, change: dict[str, Any], where: str
) -> None:
    with client(serve(CONSERVER_API_CONFIG_WRITES="1")) as http:
        before = (tmp_path / "config.yml").read_text()
        answer = http.post("/config", json={**http.get("/config").json(), **change})
        assert (answer.status_code, where in answer.json()["detail"]) == (422, True), answer.text
        assert http.post("/config", json=[1]).status_code == 422
    assert (tmp_path / "config.yml").read_text() == before
    assert sorted(path.name for path in tmp_path.glob("*config*")) == ["config.yml"]


def test_15_all_documents_are_indexed_step_by_step(http: httpx.Client, queue: Queue) -> None:
    uuids = [some_uuid() for _ in range(1200)]
    with queue.client.pipeline() as pipe:
        for uuid in uuids:
            pipe.set(f"vcon:{uuid}", json.dumps(example(uuid)))
        pipe.execute()
    queue.client.set("vcon:odd", b"no document")
    queue.make_key("vcon:odder", "hash")
    queue.client.set("conserver:indexing", 1)  # Another one is at it.
    refused = http.get("/index_vcons")
    assert (refused.status_code, "already" in refused.json()["detail"]) == (409, True)
    assert http.get("/vcons/search", params={"name": "Ada Berg"}).json() == []
    queue.client.delete("conserver:indexing")
    assert http.get("/index_vcons", timeout=60).json() == 1202
    assert not queue.client.exists("conserver:indexing")
    assert http.get("/vcons/search", params={"name": "Ada Berg"}).json() == sorted(uuids)


def test_17_a_document_does_not_expire_while_it_waits(http: httpx.Client, queue: Queue) -> None:
    waiting, alone = some_uuid(), some_uuid()
    http.post("/vcon", params={"ingress_lists": "calls"}, json=example(waiting))
    http.post("/vcon", json=example(alone))
    assert queue.client.ttl(f"vcon:{waiting}") == -1
    assert queue.client.ttl(f"vcon:{alone}") > 0
    http.post("/vcon", json=example(waiting, subject="new"))
    assert queue.client.ttl(f"vcon:{waiting}") == -1
    http.post("/vcon/ingress", params=CALLS, json=[alone])
    assert queue.client.ttl(f"vcon:{alone}") == -1


def test_17_a_document_that_is_worked_on_stays_as_it_is_when_it_is_pushed_again(
    http: httpx.Client, queue: Queue
) -> None:
    queue.supply("calls", UUID)
    worker = Consumer(queue, lists=("calls",))
    item = worker.one()
    before = queue.revision(UUID)
    http.post("/vcon/ingress", params=CALLS, json=[UUID])
    assert queue.revision(UUID) == before
    assert abs(queue.expires_ms(UUID) - FAR_MS) < 2000
    assert worker.settle(item).kind == "settled"
    assert queue.waiting("calls") == [UUID.encode()]


def test_18_the_bytes_are_kept(http: httpx.Client) -> None:
    raw = b'{ "uuid":"%b","vcon":"0.0.1",\n"n":1e2, "created_at":"2026-01-01T00:00:00Z" }'
    raw = raw.replace(b"%b", UUID.encode())
    assert http.post("/vcon", content=raw).content == raw
    assert http.get(f"/vcon/{UUID}").content == raw
    assert http.get("/vcons", params={"vcon_uuids": [UUID]}).content == b"[" + raw + b"]"


def test_18_several_documents_have_a_bound(serve: Callable[..., Api]) -> None:
    with client(serve(CONSERVER_MAX_DOCUMENT_BYTES="3000")) as http:
        post(http, UUID)
        answer = http.get("/vcons", params={"vcon_uuids": [UUID] * 9})
        assert (answer.status_code, "fewer" in answer.json()["detail"]) == (413, True)
        assert http.post("/vcon", json=example(subject="x" * 3000)).status_code == 413


def test_20_documents_are_strings_or_redisjson(http: httpx.Client, queue: Queue) -> None:
    queue.client.set(f"vcon:{UUID}", json.dumps(example()))
    assert http.get(f"/vcon/{UUID}").json() == example()
    assert http.post("/vcon/ingress", params=CALLS, json=[UUID]).headers["x-conserver-skipped"] == (
        "0"
    )


def test_21_depths_of_other_keys_need_a_token(serve: Callable[..., Api], queue: Queue) -> None:
    queue.push("secret", "x")
    for name, status in (("calls", 200), ("out", 200), ("DLQ:other", 200), ("secret", 403)):
        with client(serve(), "") as http:
            assert http.get("/stats/queue", params={"list_name": name}).status_code == status
    with client(serve(CONSERVER_API_PUBLIC_STATS="0"), "") as http:
        assert http.get("/stats/queue", params={"list_name": "calls"}).status_code == 403
        headers = {"x-conserver-api-token": "text-read"}
        query = {"list_name": "calls"}
        assert http.get("/stats/queue", params=query, headers=headers).status_code == 200
    with client(serve(CONSERVER_API_ANY_LIST="1")) as http:
        assert http.get("/stats/queue", params={"list_name": "secret"}).json()["depth"] == 1


def test_22_other_origins_get_nothing_unless_they_are_named(serve: Callable[..., Api]) -> None:
    with client(serve()) as http:
        answer = http.get("/vcon", headers={"Origin": "https://a.example"})
        assert "access-control-allow-origin" not in answer.headers
    with client(serve(CONSERVER_API_CORS_ORIGINS="https://a.example")) as http:
        answer = http.get("/vcon", headers={"Origin": "https://a.example"})
        assert answer.headers["access-control-allow-origin"] == "https://a.example"
        assert "access-control-allow-credentials" not in answer.headers


def test_23_health_is_that_of_the_daemon(http: httpx.Client, queue: Queue) -> None:
    answer = http.get("/health")
    assert (answer.status_code, answer.json()["status"]) == (503, "unhealthy"), "nobody works"
    beating(queue)
    answer = http.get("/health")
    assert (answer.status_code, answer.json()["status"]) == (200, "healthy")
    assert answer.json()["version"] == http.get("/version").json()


def test_24_dead_letters_of_storages_are_no_list(http: httpx.Client) -> None:
    for path in ("/dlq", "/dlq/reprocess"):
        method = "GET" if path == "/dlq" else "POST"
        answer = http.request(method, path, params={"ingress_list": "storage:s3"})
        assert answer.status_code == 422


def test_a_redis_that_is_full_takes_nothing(serve: Callable[..., Api], private: Private) -> None:
    server = private(Redis())
    with client(serve(url=server.url)) as http, redis.Redis.from_url(server.url) as operator:
        post(http, UUID)
        operator.config_set("maxmemory-policy", "noeviction")
        operator.config_set("maxmemory", 1)
        for query in ({}, {"ingress_lists": ["calls"]}, {"ingress_lists": ["calls", "other"]}):
            answer = http.post("/vcon", params=query, json=example(some_uuid()))
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
            assert "Redis is full" in answer.json()["detail"]
        assert http.get(f"/vcon/{UUID}").status_code == 200


def test_a_redis_that_is_away_is_told_in_vcon_servers_words(
    serve: Callable[..., Api], redis_url: str
) -> None:
    port = int(redis_url.rpartition(":")[2].partition("/")[0])
    with TcpProxy(port) as proxy, client(serve(url=proxy.url(redis_url))) as http:
        proxy.refuse()
        answer = http.post("/vcon", json=example())
        assert (answer.status_code, answer.json()) == (500, {"detail": "Failed to store vCon"})
        answer = http.get("/vcon")
        assert (answer.status_code, answer.json()["detail"]) == (500, "Internal Server Error")
        assert "127.0.0.1" not in answer.text


def test_redisjson_documents_of_producers_are_read(
    serve: Callable[..., Api], json_redis_url: str
) -> None:
    with redis.Redis.from_url(json_redis_url) as producer:
        producer.execute_command("JSON.SET", f"vcon:{UUID}", "$", json.dumps(example()))
        with client(serve(url=json_redis_url)) as http:
            assert http.get(f"/vcon/{UUID}").json() == example()
            assert http.get("/vcons", params={"vcon_uuids": UUID}).json() == [example()]
            assert http.get("/index_vcons").json() == 1
            assert http.get("/vcons/search", params={"name": "Ada Berg"}).json() == [UUID]
