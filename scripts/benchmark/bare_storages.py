"""The bare storage clients: the same writes as ours, in bulk, with nothing around them.

Three ways for each storage. "plain" is the client library as its manual shows it: psycopg's
executemany, boto3 (tuned: checksums only where required, no retries, one kept-alive connection),
helpers.bulk with documents as dicts. "lean" is the least that the library allows: one statement
over arrays, bulk lines of prepared bytes. "ours" is storage/<name>.py called directly: what it
costs without a daemon around it.

Documents come as the daemon has them: their bytes, and parsed. Tables and indices are made before
by our modules, so that all write the same rows.
"""

from __future__ import annotations

import importlib
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any, cast

import orjson

from benchmark import loads
from storage.contract import Document, Stored

BATCH = 100
_COLUMNS = "id, vcon, uuid, created_at, updated_at, subject, vcon_json, revision"
_CONFLICT = """ON CONFLICT (id) DO UPDATE SET vcon = excluded.vcon, uuid = excluded.uuid,
    created_at = excluded.created_at, updated_at = excluded.updated_at, subject = excluded.subject,
    vcon_json = excluded.vcon_json, revision = excluded.revision
WHERE kept.revision IS NULL OR kept.revision <= excluded.revision"""

Save = Callable[[Sequence[Document]], None]


def prepared(order: dict[str, Any]) -> Callable[[], list[float] | None]:
    """The loop that an order asks for: {"loop": "postgres", "way": "lean", "options": {...}, ...}.

    With "pause_s" it writes one document at a time and answers how long each took, in s.
    """
    documents = _documents(order["items"], order["body_bytes"])
    ours = _ours(order["loop"], order["options"])
    makers = {
        ("postgres", "plain"): _executemany,
        ("postgres", "lean"): _unnest,
        ("s3", "plain"): _boto3,
        ("elasticsearch", "plain"): _helpers_bulk,
        ("elasticsearch", "lean"): _bulk,
    }
    make = makers.get((order["loop"], order["way"]))
    save = make(order["options"]) if make else ours
    pause_s = order.get("pause_s")
    if pause_s is not None:
        return lambda: _each(save, documents, pause_s)
    batch = BATCH if order["body_bytes"] < 100_000 else 4
    return lambda: _in_batches(save, documents, batch)


def _in_batches(save: Save, documents: list[Document], batch: int) -> None:
    for first in range(0, len(documents), batch):
        save(documents[first : first + batch])


def _each(save: Save, documents: list[Document], pause_s: float) -> list[float]:
    took_s = []
    for document in documents:
        time.sleep(pause_s)  # the system is idle before each of them
        began_s = time.perf_counter()
        save([document])
        took_s.append(time.perf_counter() - began_s)
    return took_s


def _documents(count: int, body_bytes: int) -> list[Document]:
    documents = []
    for _ in range(count):
        identity = str(uuid.uuid4())
        body = orjson.dumps(loads.document(body_bytes, identity))
        documents.append(Document(identity, body, time.time_ns() // 1000, None, orjson.loads(body)))
    return sorted(documents, key=lambda document: document.uuid)


def _ours(name: str, options: dict[str, Any]) -> Save:
    module = importlib.import_module(f"storage.{name}")
    given = module.Options(**options)
    module.prepare(given)
    storage = module.Storage(name, given)
    storage.open()

    def save(documents: Sequence[Document]) -> None:
        outcomes = storage.save_many(documents)
        assert all(isinstance(outcome, Stored) for outcome in outcomes), outcomes

    return save


# ---- PostgreSQL ----------------------------------------------------------------------------------


def _executemany(options: dict[str, Any]) -> Save:
    import psycopg

    connection = psycopg.connect(options["url"])
    statement = f"""INSERT INTO vcons AS kept ({_COLUMNS})
        VALUES (%s, %s, %s, %s, now() AT TIME ZONE 'utc', %s, %s, %s) {_CONFLICT}"""

    def save(documents: Sequence[Document]) -> None:
        with connection.cursor() as cursor:
            cursor.executemany(statement.encode(), [_row(document) for document in documents])
        connection.commit()

    return save


def _row(document: Document) -> tuple[Any, ...]:
    data, identity = document.data, document.uuid
    said = (data["vcon"], identity, data["created_at"], data["subject"])
    return identity, *said, document.body.decode(), document.revision


def _unnest(options: dict[str, Any]) -> Save:
    import psycopg

    connection = psycopg.connect(options["url"], autocommit=True)
    statement = f"""INSERT INTO vcons AS kept ({_COLUMNS})
        SELECT id, vcon, id, created_at, now() AT TIME ZONE 'utc', subject, body, revision
        FROM unnest(%s::uuid[], %s::text[], %s::timestamp[], %s::text[], %s::jsonb[], %s::bigint[])
            AS given (id, vcon, created_at, subject, body, revision) {_CONFLICT}"""

    def save(documents: Sequence[Document]) -> None:
        rows = [_row(document) for document in documents]
        identities, versions, _, created, subjects, bodies, revisions = map(
            list, zip(*rows, strict=True)
        )
        values = (identities, versions, created, subjects, bodies, revisions)
        connection.execute(statement.encode(), values, prepare=True)

    return save


# ---- S3 ------------------------------------------------------------------------------------------


def _boto3(options: dict[str, Any]) -> Save:
    import boto3
    from botocore.config import Config

    client = boto3.client(
        "s3",
        endpoint_url=options["endpoint_url"],
        region_name="us-east-1",
        aws_access_key_id=options["aws_access_key_id"],
        aws_secret_access_key=options["aws_secret_access_key"],
        config=Config(
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            retries={"total_max_attempts": 1},
            s3={"addressing_style": "path"},
            parameter_validation=False,
        ),
    )
    bucket = options["aws_bucket"]

    def save(documents: Sequence[Document]) -> None:
        for document in documents:
            folder = document.data["created_at"][:10].replace("-", "/")
            client.put_object(
                Bucket=bucket,
                Key=f"{folder}/{document.uuid}.vcon",
                Body=document.body,
                ContentType="application/vcon",
                Metadata={"revision": str(document.revision)},
                IfNoneMatch="*",
            )
            client.put_object(
                Bucket=bucket,
                Key=f"lookup/{document.uuid}.txt",
                Body=folder.encode(),
                IfNoneMatch="*",
            )

    return save


# ---- Elasticsearch -------------------------------------------------------------------------------


def _helpers_bulk(options: dict[str, Any]) -> Save:
    import elasticsearch
    from elasticsearch.helpers import bulk

    client = elasticsearch.Elasticsearch(options["url"])

    def save(documents: Sequence[Document]) -> None:
        actions = [
            {
                "_id": document.uuid,
                "version": document.revision,
                "version_type": "external_gte",
                "_source": _searched(document) | {"vcon": document.data},
            }
            for document in documents
        ]
        bulk(client, actions, index=options["index"], chunk_size=len(actions))

    return save


def _bulk(options: dict[str, Any]) -> Save:
    import elasticsearch

    client = elasticsearch.Elasticsearch(options["url"])

    def save(documents: Sequence[Document]) -> None:
        lines: list[bytes] = []
        for document in documents:
            version = {"version": document.revision, "version_type": "external_gte"}
            lines.append(orjson.dumps({"index": {"_id": document.uuid, **version}}))
            fields = orjson.dumps(_searched(document))
            lines.append(b'%b,"vcon":%b}' % (fields[:-1], document.body))
        # Bytes are taken as they are, which its types do not say.
        client.bulk(
            index=options["index"],
            operations=cast("Any", lines),
            filter_path="items.*.status,errors",
        )

    return save


def _searched(document: Document) -> dict[str, Any]:
    """What our module takes out of this vCon, without looking for it."""
    data = document.data
    dialog = data["dialog"][0]
    return {
        "uuid": document.uuid,
        "form": "unsigned",
        "complete": True,
        "subject": data["subject"],
        "created_at": data["created_at"],
        "started_at": dialog["start"],
        "ended_at": dialog["start"],
        "duration_s": dialog["duration"],
        "parties": data["parties"],
        "dialog_types": ["text"],
        "analysis_types": ["summary"],
        "vendors": ["bench"],
        "messages": dialog["body"],
        "notes": "x",
    }
