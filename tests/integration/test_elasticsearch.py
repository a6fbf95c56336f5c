"""storage.elasticsearch on a real Elasticsearch: what can be found, and what is left out; and on
stand-ins for the answers that a healthy node never gives."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from elasticsearch import Elasticsearch as Client
from servers import Elasticsearch

from storage.contract import Document, Rejected, Stored, Unavailable
from storage.elasticsearch import Options, Storage
from storage.elasticsearch_index import MAPPING, MAPPING_VERSION
from tests import vcons
from tests.contract.places import document, one, opening
from tests.helpers import eventually
from tests.standins import Answer, Request, Standin

Open = Callable[..., Storage]
ILLEGAL = "illegal_argument_exception"
_PRODUCT = {"x-elastic-product": "Elasticsearch", "content-type": "application/json"}


@pytest.fixture
def client(elasticsearch_url: str) -> Iterator[Client]:
    """The official client, to look at what is there."""
    with closing(Client(elasticsearch_url)) as made:
        yield made


@pytest.fixture
def opened(elasticsearch_url: str, elasticsearch_index: str) -> Iterator[Open]:
    """Makes open storages on the test's index."""

    def make(**options: Any) -> Storage:
        given = {
            "url": elasticsearch_url,
            "index": elasticsearch_index,
            "index_settings": {"number_of_replicas": 0},
            "timeout_s": 20,
            **options,
        }
        return Storage("elasticsearch", Options.model_validate(given))

    with opening(make) as opened:
        yield opened


def standing_in(server: Standin, **options: Any) -> Storage:
    given = {"url": server.url, "index": "vcons", "timeout_s": 30, **options}
    return Storage("elasticsearch", Options.model_validate(given))


def found(client: Client, index: str, query: dict[str, Any]) -> set[str]:
    """The uuids that a query finds."""
    client.indices.refresh(index=index)
    answer = client.search(index=index, query=query, source_includes=["uuid"])
    return {hit["_source"]["uuid"] for hit in answer["hits"]["hits"]}


CALL = document(
    subject="Reclamation of a parcel",
    created_at="2025-06-01T23:30:00-05:00",
    parties=[
        {"name": "Ada Berg", "tel": "+12025550111", "role": "customer"},
        {"name": "Ben Oduya", "mailto": "ben@example.com", "role": "agent", "org": "Parcels"},
    ],
    dialog=[
        {"type": "recording", "start": "2025-06-01T23:30:00-05:00", "duration": 60.5},
        {"type": "text", "start": "2025-06-02T05:00:00Z", "duration": 3, "body": "see attachment"},
    ],
    analysis=[
        {
            "type": "wtf_transcription",
            "vendor": "whisper",
            "encoding": "json",
            "body": {"transcript": {"text": "where is my parcel"}, "segments": []},
        },
        {"type": "summary", "vendor": "llm", "encoding": "json", "body": '{"mood": "annoyed"}'},
    ],
    attachments=[{"purpose": "tags", "encoding": "json", "body": ["reason:delivery"]}],
)


@pytest.mark.parametrize(
    "query",
    [
        {"match": {"subject": "reclamation"}},
        {"term": {"subject.keyword": "Reclamation of a parcel"}},
        {"term": {"parties.tel": "+12025550111"}},
        {"term": {"parties.mailto": "ben@example.com"}},
        {"match": {"parties.name": "ada"}},
        {"term": {"parties.role": "customer"}},
        {"match_phrase": {"transcript": "where is my parcel"}},
        {"match": {"messages": "attachment"}},
        {"match": {"notes": "annoyed"}},
        {"term": {"tags": "reason:delivery"}},
        {"term": {"dialog_types": "text"}},
        {"term": {"analysis_types": "summary"}},
        {"term": {"vendors": "whisper"}},
        {"term": {"attachments": "tags"}},
        {"term": {"form": "unsigned"}},
        {"term": {"complete": True}},
        {"range": {"created_at": {"gte": "2025-06-02T04:30:00Z", "lte": "2025-06-02T04:30:00Z"}}},
        {"range": {"started_at": {"gte": "2025-06-02", "lt": "2025-06-02T05:00:00Z"}}},
        {"range": {"ended_at": {"gte": "2025-06-02T05:00:03Z"}}},
        {"range": {"duration_s": {"gte": 63.5, "lte": 63.5}}},
        {"simple_query_string": {"query": '"my parcel" + berg'}},
    ],
    ids=json.dumps,
)
def test_what_a_vcon_is_found_by(
    opened: Open, client: Client, elasticsearch_index: str, query: dict[str, Any]
) -> None:
    other = document(subject="nothing of the kind", attachments=[{"purpose": "empty"}])
    outcomes = opened().save_many([CALL, other])
    assert outcomes == [Stored(), Stored()]
    hits = found(client, elasticsearch_index, query)
    assert CALL.uuid in hits
    if "form" not in json.dumps(query) and "complete" not in json.dumps(query):
        assert hits == {CALL.uuid}


def test_what_is_in_a_vcon_besides_is_kept_but_found_by_nobody(
    opened: Open, client: Client, elasticsearch_index: str
) -> None:
    """Unknown members of any kind change no mapping, and make no document fail."""
    storage = opened()
    for seed in range(3):
        data = vcons.make("unknown_members", seed, secret=f"xyzzy{seed}", odd={"a": seed})
        assert one(storage, Document(data["uuid"], json.dumps(data).encode(), 1)) == Stored()
    assert one(storage, document(odd="now a string", secret=[{}])) == Stored()
    assert found(client, elasticsearch_index, {"query_string": {"query": "xyzzy1"}}) == set()
    mapping = client.indices.get_mapping(index=elasticsearch_index)[elasticsearch_index]
    assert mapping["mappings"]["properties"].keys() == MAPPING["properties"].keys()


def test_a_recording_is_left_out_and_the_copy_says_so(
    opened: Open, client: Client, elasticsearch_index: str
) -> None:
    given = document(
        dialog=[
            {"type": "recording", "body": "A" * 100_000, "encoding": "base64url", "x-a": 1},
            {"type": "text", "body": "a short message"},
        ],
        attachments=[{"purpose": "scan", "body": "B" * 100_000, "encoding": "base64url"}],
    )
    storage = opened()
    assert one(storage, given) == Stored()
    assert storage.get(given.uuid) is None
    answer = client.get(index=elasticsearch_index, id=given.uuid)["_source"]
    assert answer["complete"] is False
    assert answer["vcon"]["dialog"][0] == {"type": "recording", "encoding": "base64url", "x-a": 1}
    assert answer["vcon"]["dialog"][1]["body"] == "a short message"
    assert "body" not in answer["vcon"]["attachments"][0]
    # The document that others hold as well is untouched.
    assert given.data["dialog"][0]["body"] == "A" * 100_000
    # Told to, it keeps everything.
    storage = opened(max_body_bytes=1_000_000)
    assert one(storage, given) == Stored()
    body = storage.get(given.uuid)
    assert body is not None
    assert json.loads(body) == given.data


def test_a_vcon_too_large_to_keep_is_found_all_the_same(
    opened: Open, client: Client, elasticsearch_index: str
) -> None:
    words = "parcel " + "word " * 4000
    given = document(analysis=[{"type": "transcript", "body": words}])
    storage = opened(max_vcon_bytes=10_000)
    assert one(storage, given) == Stored()
    assert storage.get(given.uuid) is None
    assert found(client, elasticsearch_index, {"match": {"transcript": "parcel"}}) == {given.uuid}


def test_an_index_deleted_under_us_comes_back_with_its_mapping(
    opened: Open, client: Client, elasticsearch_index: str
) -> None:
    storage = opened()
    client.indices.delete(index=elasticsearch_index)
    assert one(storage, CALL) == Stored()
    query = {"match": {"transcript": "parcel"}}
    assert found(client, elasticsearch_index, query) == {CALL.uuid}
    mapping = client.indices.get_mapping(index=elasticsearch_index)[elasticsearch_index]
    assert mapping["mappings"]["dynamic"] == "false"


def test_an_older_index_is_given_the_fields_it_lacks(
    opened: Open, client: Client, elasticsearch_index: str
) -> None:
    client.indices.create(index=elasticsearch_index, mappings={"properties": {}})
    opened()
    mapping = client.indices.get_mapping(index=elasticsearch_index)[elasticsearch_index]
    assert mapping["mappings"]["properties"].keys() == MAPPING["properties"].keys()
    assert mapping["mappings"]["_meta"] == {"conserver": MAPPING_VERSION}


def test_an_index_of_somebody_else_is_refused_at_open(
    opened: Open, client: Client, elasticsearch_index: str
) -> None:
    mappings = {"properties": {"created_at": {"type": "integer"}}}
    client.indices.create(index=elasticsearch_index, mappings=mappings)
    with pytest.raises(ValueError, match="does not take our fields"):
        opened()


def test_an_alias_will_do(opened: Open, client: Client, elasticsearch_index: str) -> None:
    client.indices.create(
        index=elasticsearch_index, aliases={f"{elasticsearch_index}-alias": {}}, mappings=MAPPING
    )
    storage = opened(index=f"{elasticsearch_index}-alias")  # it makes no template: it is there
    storage.ready()
    assert one(storage, CALL) == Stored()
    assert storage.get(CALL.uuid) is not None


@pytest.mark.parametrize("how", ["write", "read_only", "read_only_allow_delete", "closed"])
def test_an_index_that_takes_no_writes_is_unavailable(
    opened: Open, client: Client, elasticsearch_index: str, how: str
) -> None:
    """A full disk makes Elasticsearch block its indices; an operator may close one."""
    storage = opened()
    if how == "closed":
        client.indices.close(index=elasticsearch_index)
    else:
        setting = {f"index.blocks.{how}": True}
        client.indices.put_settings(index=elasticsearch_index, settings=setting)
    outcomes = storage.save_many([document(), document()])
    assert all(isinstance(outcome, Unavailable) for outcome in outcomes), outcomes
    if how == "closed":
        client.indices.open(index=elasticsearch_index)
    else:
        setting = {f"index.blocks.{how}": False}
        client.indices.put_settings(index=elasticsearch_index, settings=setting)
    assert eventually(lambda: storage.save_many([document()]) == [Stored()])


def test_nodes_can_be_sniffed_for(opened: Open) -> None:
    """The only node there is says its own address."""
    storage = opened(sniff_on_start=True, sniff_before_requests=True, min_delay_between_sniffing=0)
    for _ in range(3):
        assert one(storage, document()) == Stored()


def test_replicas_that_are_away_do_not_matter(opened: Open) -> None:
    storage = opened(index_settings={"number_of_replicas": 1})
    storage.ready()
    assert one(storage, document()) == Stored()


@pytest.mark.slow
@pytest.mark.timeout(600)  # it starts an Elasticsearch of its own
def test_user_and_password(elasticsearch_with_password: Elasticsearch) -> None:
    server = elasticsearch_with_password
    account = {"username": "elastic", "password": server.password}
    options = {"url": server.url, "index_settings": {"number_of_replicas": 0}}
    storage = Storage("elasticsearch", Options.model_validate({**options, **account}))
    with closing(storage):
        storage.open()
        storage.ready()
        given = document()
        assert one(storage, given) == Stored()
        assert storage.get(given.uuid) is not None
    wrong = Options.model_validate({**options, **account, "password": "wrong"})
    with pytest.raises(PermissionError, match=r"refuses the login.*security_exception"):
        Storage("elasticsearch", wrong).open()


def bulk_only(answer: Callable[[Request], Answer]) -> Callable[[Request], Answer]:
    """An Elasticsearch whose index is there, and whose _bulk answers as told."""

    def told(request: Request) -> Answer:
        if "/_bulk" in request.path:
            answered = answer(request)
            return Answer(answered.status, answered.body, {**_PRODUCT, **answered.headers})
        meta = {"vcons": {"mappings": {"_meta": {"conserver": MAPPING_VERSION}}}}
        return Answer(200, json.dumps(meta).encode(), _PRODUCT)

    return told


def items(*found: dict[str, Any]) -> Answer:
    return Answer(200, json.dumps({"items": [{"index": item} for item in found]}).encode())


def illegal(reason: str) -> dict[str, Any]:
    return {"status": 400, "error": {"type": ILLEGAL, "reason": reason}}


def sent(request: Request) -> list[dict[str, Any]]:
    return [json.loads(line) for line in request.body.splitlines()]


def test_a_batch_is_one_request_and_every_item_has_its_answer() -> None:
    def answer(request: Request) -> Answer:
        return items(
            {"status": 201},
            {"status": 409, "error": {"type": "version_conflict_engine_exception"}},
            {"status": 400, "error": {"type": "document_parsing_exception", "reason": "no"}},
            {"status": 429, "error": {"type": "es_rejected_execution_exception", "reason": "full"}},
            {"status": 503, "error": {"type": "unavailable_shards_exception", "reason": "away"}},
            {"status": 400, "error": {"type": "something_new_exception", "reason": "?"}},
            {"status": 200},
            illegal("Document contains at least one immense term in field"),
            illegal("pipeline with id [ours] does not exist"),
            illegal("no write index is defined for alias [vcons]"),
        )

    with Standin(bulk_only(answer)) as server, closing(standing_in(server)) as storage:
        storage.open()
        server.requests.clear()
        outcomes = storage.save_many([document(5, number=number) for number in range(10)])
        assert outcomes == [
            Stored(),
            Stored(superseded=True),
            Rejected("document_parsing_exception: no"),
            Unavailable("es_rejected_execution_exception: full"),
            Unavailable("unavailable_shards_exception: away"),
            Unavailable("something_new_exception: ?"),
            Stored(),
            Rejected(f"{ILLEGAL}: Document contains at least one immense term in field"),
            Unavailable(f"{ILLEGAL}: pipeline with id [ours] does not exist"),
            Unavailable(f"{ILLEGAL}: no write index is defined for alias [vcons]"),
        ]
        (request,) = server.requests
        head = sent(request)[0]["index"]
        assert head["version"] == 5
        assert head["version_type"] == "external_gte"


def test_an_overloaded_server_says_when() -> None:
    def answer(request: Request) -> Answer:
        return Answer(429, b'{"error": {"type": "too_busy"}}', {"retry-after": "12"})

    with Standin(bulk_only(answer)) as server, closing(standing_in(server)) as storage:
        storage.open()
        outcomes = storage.save_many([document(), document()])
        assert [outcome.after_s for outcome in outcomes if isinstance(outcome, Unavailable)] == [
            12,
            12,
        ]
        assert server.count("PUT") == 1


def test_a_request_that_is_too_large_is_halved() -> None:
    def answer(request: Request) -> Answer:
        if b"huge" in request.body:
            return Answer(413)
        return items(*[{"status": 201}] * (len(sent(request)) // 2))

    with Standin(bulk_only(answer)) as server, closing(standing_in(server)) as storage:
        storage.open()
        batch = [document(subject="huge" if number == 5 else "small") for number in range(8)]
        outcomes = storage.save_many(batch)
        assert isinstance(outcomes.pop(5), Rejected)
        assert outcomes == [Stored()] * 7


def test_many_bytes_are_several_requests() -> None:
    def answer(request: Request) -> Answer:
        assert len(request.body) <= 10_000_000
        return items(*[{"status": 201}] * (len(sent(request)) // 2))

    with Standin(bulk_only(answer)) as server, closing(standing_in(server)) as storage:
        storage.open()
        batch = [document(analysis=[{"body": "x" * 3_000_000}]) for _ in range(7)]
        assert storage.save_many(batch) == [Stored()] * 7
        # Each is about 4 MB: its first megabyte is found by its words as well.
        assert server.count("PUT") == 4


@pytest.mark.parametrize("status", [401, 403, 404, 500, 502, 504])
def test_any_other_answer_says_nothing_of_the_documents(status: int) -> None:
    answer = Answer(status, b'{"error": {"type": "some_exception", "reason": "r"}}')
    with Standin(bulk_only(lambda _: answer)) as server, closing(standing_in(server)) as storage:
        storage.open()
        with pytest.raises(Exception, match="some_exception"):
            storage.save_many([document()])


def test_an_api_key_is_sent() -> None:
    with Standin(bulk_only(lambda _: items({"status": 201}))) as server:
        with closing(standing_in(server, api_key="encoded==")) as storage:
            storage.open()
            storage.save_many([document()])
        assert server.requests[-1].headers["authorization"] == "ApiKey encoded=="


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"url": "http://a", "cloud_id": "b"},
        {"url": "http://a", "username": "b"},
        {"cloud_id": "name:%%%"},
        {"url": "http://a", "max_body_bytes": -1},
        {"url": "http://a", "indx": "b"},
    ],
    ids=json.dumps,
)
def test_options_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        Options.model_validate(options)
