"""storage.s3 on a real S3 (versitygw), and on stand-ins for what that one never does."""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from storage.contract import Document, Outcome, Rejected, Stored, Unavailable
from storage.s3 import Options, Storage
from storage.s3_session import resolved
from tests.clients import S3Access
from tests.contract.places import document, one, opening
from tests.helpers import TcpProxy
from tests.standins import Answer, ObjectStore, Request, Standin

Open = Callable[..., Storage]


@pytest.fixture
def client(s3: S3Access, s3_bucket: str) -> Iterator[Any]:
    """A boto3 client, with the test's bucket made."""
    with closing(s3.client()) as made:
        made.create_bucket(Bucket=s3_bucket)
        yield made


@pytest.fixture
def opened(s3: S3Access, s3_bucket: str, client: Any) -> Iterator[Open]:
    """Makes open storages on the test's bucket."""

    def make(**options: Any) -> Storage:
        given = {
            "endpoint_url": s3.endpoint,
            "aws_access_key_id": s3.key,
            "aws_secret_access_key": s3.secret,
            "aws_region": s3.region,
            "aws_bucket": s3_bucket,
            "timeout_s": 30,
            **options,
        }
        return Storage("s3", Options.model_validate(given))

    with opening(make) as opened:
        yield opened


def standing_in(server: Standin, **options: Any) -> Storage:
    """A storage that is not open yet, on a stand-in."""
    given = {
        "endpoint_url": server.url,
        "aws_access_key_id": "key",
        "aws_secret_access_key": "secret",
        "aws_bucket": "bucket",
        "timeout_s": 30,
        **options,
    }
    return Storage("s3", Options.model_validate(given))


def read(client: Any, bucket: str, key: str) -> bytes:
    content: bytes = client.get_object(Bucket=bucket, Key=key)["Body"].read()
    return content


def keys(client: Any, bucket: str) -> set[str]:
    listed = client.list_objects_v2(Bucket=bucket).get("Contents", [])
    return {item["Key"] for item in listed} - {"conserver-probe"}


def test_the_keys_are_those_of_vcon_server(opened: Open, client: Any, s3_bucket: str) -> None:
    # The day is the producer's, not UTC's, as vcon-server has it.
    given = document(17, created_at="2025-03-04T00:30:00+02:00")
    outcome = one(opened(), given)
    key = f"2025/03/04/{given.uuid}.vcon"
    lookup = f"lookup/{given.uuid}.txt"
    assert keys(client, s3_bucket) == {key, lookup}
    assert read(client, s3_bucket, key) == given.body
    assert read(client, s3_bucket, lookup) == b"2025/03/04"
    head = client.head_object(Bucket=s3_bucket, Key=key)
    assert head["Metadata"] == {"revision": "17"}
    assert head["ContentType"] == "application/vcon"
    assert isinstance(outcome, Stored)
    assert outcome.etag == head["ETag"]


@pytest.mark.parametrize("path", ["a/b", "/a/b/", "with space + plus & ünïcode"])
def test_a_prefix(opened: Open, client: Any, s3_bucket: str, path: str) -> None:
    storage = opened(s3_path=path)
    given = document()
    assert isinstance(one(storage, given), Stored)
    assert storage.get(given.uuid) == given.body
    found = client.list_objects_v2(Bucket=s3_bucket, Prefix=path.strip("/") + "/2025")["Contents"]
    assert found[0]["Key"] == f"{path.strip('/')}/2025/03/04/{given.uuid}.vcon"


def test_without_a_date_there_is_no_folder(opened: Open, client: Any, s3_bucket: str) -> None:
    given = document(created_at=None)
    storage = opened()
    assert isinstance(one(storage, given), Stored)
    assert keys(client, s3_bucket) == {f"{given.uuid}.vcon", f"lookup/{given.uuid}.txt"}
    assert storage.get(given.uuid) == given.body


def test_an_object_of_vcon_server_is_read_and_replaced(
    opened: Open, client: Any, s3_bucket: str
) -> None:
    old, new = document(0, subject="old"), document(0, subject="new")
    new.uuid = old.uuid
    client.put_object(Bucket=s3_bucket, Key=f"2025/03/04/{old.uuid}.vcon", Body=old.body)
    client.put_object(Bucket=s3_bucket, Key=f"lookup/{old.uuid}.txt", Body=b"2025/03/04")
    storage = opened()
    assert storage.get(old.uuid) == old.body
    assert isinstance(one(storage, new), Stored)
    assert storage.get(old.uuid) == new.body


def test_a_lookup_that_a_crash_left_unwritten_is_written_by_the_repetition(
    opened: Open, client: Any, s3_bucket: str
) -> None:
    given = document(5)
    storage = opened()
    one(storage, given)
    client.delete_object(Bucket=s3_bucket, Key=f"lookup/{given.uuid}.txt")
    assert storage.get(given.uuid) is None
    assert isinstance(one(storage, given), Stored)
    assert storage.get(given.uuid) == given.body


def test_a_vcon_whose_date_changes_is_found_in_its_newest_revision(opened: Open) -> None:
    old = document(5, created_at="2024-01-01T00:00:00Z")
    new = document(7, old.uuid, created_at="2025-12-31T00:00:00Z")
    late = document(6, old.uuid, created_at="2024-01-01T00:00:00Z")
    latest = document(8, old.uuid, created_at="2023-05-05T00:00:00Z")
    storage = opened()
    one(storage, old)
    assert isinstance(one(storage, new), Stored)
    assert storage.get(old.uuid) == new.body
    assert one(storage, late) == Stored(superseded=True)
    assert storage.get(old.uuid) == new.body
    assert isinstance(one(storage, latest), Stored)
    assert storage.get(old.uuid) == latest.body


def test_further_headers_are_sent_with_every_vcon(
    opened: Open, client: Any, s3_bucket: str
) -> None:
    headers = {"Content-Type": "application/json", "x-amz-meta-owner": "  the  archive "}
    given = document()
    assert isinstance(one(opened(object_headers=headers), given), Stored)
    head = client.head_object(Bucket=s3_bucket, Key=f"2025/03/04/{given.uuid}.vcon")
    assert head["ContentType"] == "application/json"
    assert head["Metadata"]["revision"] == "1"
    assert head["Metadata"]["owner"].split() == ["the", "archive"]


def test_a_wrong_secret_or_bucket_is_told_at_open(opened: Open) -> None:
    with pytest.raises(PermissionError, match="SignatureDoesNotMatch"):
        opened(aws_secret_access_key="wrong")
    with pytest.raises(FileNotFoundError, match="no bucket nowhere-to-be-found"):
        opened(aws_bucket="nowhere-to-be-found")


def test_the_key_can_come_from_the_environment(
    opened: Open, s3: S3Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.secret)
    storage = opened(aws_access_key_id=None, aws_secret_access_key=None)
    assert isinstance(one(storage, document()), Stored)


def test_without_any_key_it_says_so(opened: Open) -> None:
    with pytest.raises(PermissionError, match="no AWS credentials"):
        opened(aws_access_key_id=None, aws_secret_access_key=None)


def test_connections_closed_while_idle_cost_nothing(opened: Open, s3: S3Access) -> None:
    """Every request may be repeated, so that a stale connection is not even noticed."""
    port = int(s3.endpoint.rpartition(":")[2])
    with TcpProxy(port) as proxy:
        storage = opened(endpoint_url=proxy.url(s3.endpoint))
        for _ in range(3):
            outcomes = storage.save_many([document(number=number) for number in range(8)])
            assert all(isinstance(outcome, Stored) for outcome in outcomes)
            proxy.cut_all()


def test_requests_per_document() -> None:
    """Two for a new vCon, one for a later revision whose ETag is known, connections kept."""
    with Standin(ObjectStore(conditional=True)) as server, closing(standing_in(server)) as storage:
        storage.open()
        server.requests.clear()
        given = [document(1, number=number) for number in range(16)]
        outcomes = storage.save_many(given)
        assert [request.method for request in server.requests] == ["PUT"] * 32
        server.requests.clear()
        later = [
            Document(one.uuid, one.body, 2, outcome.etag)
            for one, outcome in zip(given, outcomes, strict=True)
            if isinstance(outcome, Stored)
        ]
        assert all(isinstance(outcome, Stored) for outcome in storage.save_many(later))
        assert [request.method for request in server.requests] == ["PUT"] * 16


def test_an_endpoint_without_conditions_is_found_out(caplog: pytest.LogCaptureFixture) -> None:
    """There it looks before it writes, and says that this is weaker."""
    with Standin(ObjectStore(conditional=False)) as server, closing(standing_in(server)) as storage:
        storage.open()
        assert "ignores conditional writes" in caplog.text
        new, old = document(2, subject="new"), document(1, subject="old")
        old.uuid = new.uuid
        assert isinstance(one(storage, new), Stored)
        assert one(storage, old) == Stored(superseded=True)
        assert storage.get(new.uuid) == new.body
        newer = document(3, new.uuid, subject="newer", created_at="2026-01-01")
        newer.etag = "of no use here"
        assert isinstance(one(storage, newer), Stored)
        assert storage.get(new.uuid) == newer.body
        assert storage.delete(new.uuid)
        assert storage.get(new.uuid) is None


def fault(status: int, code: str, headers: dict[str, str] | None = None) -> Answer:
    text = f"<Error><Code>{code}</Code><Message>as told</Message></Error>"
    return Answer(status, text.encode(), headers or {})


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (fault(503, "SlowDown", {"retry-after": "7"}), Unavailable("SlowDown: as told", 7.0)),
        (fault(500, "InternalError"), Unavailable("InternalError: as told")),
        (fault(403, "AccessDenied"), Unavailable("AccessDenied: as told")),
        (fault(403, "RequestTimeTooSkewed"), Unavailable("RequestTimeTooSkewed: as told")),
        (fault(404, "NoSuchBucket"), Unavailable("NoSuchBucket: as told")),
        (fault(400, "ExpiredToken"), Unavailable("ExpiredToken: as told")),
        (fault(507, ""), Unavailable("as told")),
        (fault(400, "EntityTooLarge"), Rejected("EntityTooLarge: as told")),
        (fault(413, ""), Rejected("as told")),
        (Answer(409), Unavailable("other writers keep changing the object")),
    ],
)
def test_what_the_endpoint_says(answer: Answer, expected: Outcome) -> None:
    store = ObjectStore(conditional=True)
    bad, good = document(), document()

    def told(request: Request) -> Answer:
        return answer if request.method == "PUT" and bad.uuid in request.path else store(request)

    with Standin(told) as server, closing(standing_in(server)) as storage:
        storage.open()
        outcomes = storage.save_many([bad, good])
    assert outcomes[0] == expected
    assert isinstance(outcomes[1], Stored)


def test_an_object_deleted_under_a_remembered_etag_is_written_anew() -> None:
    """AWS says 404 to If-Match on nothing."""
    store = ObjectStore(conditional=True)
    given = document(2)
    given.etag = '"of an object that is gone"'

    def told(request: Request) -> Answer:
        gone = request.method == "PUT" and request.headers.get("if-match") == given.etag
        return fault(404, "NoSuchKey") if gone else store(request)

    with Standin(told) as server, closing(standing_in(server)) as storage:
        storage.open()
        assert isinstance(one(storage, given), Stored)
        assert storage.get(given.uuid) == given.body


def test_the_region_is_the_one_that_the_bucket_names() -> None:
    store = ObjectStore(conditional=True)

    def told(request: Request) -> Answer:
        answer = store(request)
        return Answer(
            answer.status, answer.body, {**answer.headers, "x-amz-bucket-region": "mars-1"}
        )

    with Standin(told) as server, closing(standing_in(server)) as storage:
        storage.open()
        assert isinstance(one(storage, document()), Stored)
        assert "/mars-1/s3/aws4_request" in server.requests[-1].headers["authorization"]


def test_a_temporary_key_sends_its_token() -> None:
    with Standin(ObjectStore(conditional=True)) as server:
        with closing(standing_in(server, aws_session_token="temporary")) as storage:
            storage.open()
            one(storage, document())
        sent = server.requests[-1].headers
    assert sent["x-amz-security-token"] == "temporary"
    assert "x-amz-security-token" in sent["authorization"]


AP = "arn:aws:s3:us-west-2:123456789012:accesspoint/ours"
DUALSTACK, FIPS = {"AWS_USE_DUALSTACK_ENDPOINT": "true"}, {"AWS_USE_FIPS_ENDPOINT": "true"}


@pytest.mark.parametrize(
    ("options", "variables", "url", "region"),
    [
        ({}, {}, "https://calls.s3.amazonaws.com", "us-east-1"),
        ({"aws_region": "eu-west-1"}, {}, "https://calls.s3.eu-west-1.amazonaws.com", "eu-west-1"),
        (
            {"aws_region": "cn-north-1"},
            {},
            "https://calls.s3.cn-north-1.amazonaws.com.cn",
            "cn-north-1",
        ),
        (
            {"aws_bucket": "calls.eu", "aws_region": "eu-west-1"},
            {},
            "https://s3.eu-west-1.amazonaws.com/calls.eu",
            "eu-west-1",
        ),
        (
            {},
            {"AWS_DEFAULT_REGION": "eu-west-1"},
            "https://calls.s3.eu-west-1.amazonaws.com",
            "eu-west-1",
        ),
        (
            {"aws_region": "eu-west-1"},
            DUALSTACK,
            "https://calls.s3.dualstack.eu-west-1.amazonaws.com",
            "eu-west-1",
        ),
        (
            {"aws_region": "us-east-2"},
            FIPS,
            "https://calls.s3-fips.us-east-2.amazonaws.com",
            "us-east-2",
        ),
        ({}, {"AWS_ENDPOINT_URL": "http://s3:7070/"}, "http://s3:7070/calls", "us-east-1"),
        ({}, {"AWS_ENDPOINT_URL_S3": "http://s3:7070"}, "http://s3:7070/calls", "us-east-1"),
        (
            {"endpoint_url": "http://s3:7070/"},
            {"AWS_DEFAULT_REGION": "garage", "AWS_ENDPOINT_URL_S3": "http://elsewhere"},
            "http://s3:7070/calls",
            "garage",
        ),
        (
            {"aws_bucket": AP, "aws_region": "us-west-2"},
            {},
            "https://ours-123456789012.s3-accesspoint.us-west-2.amazonaws.com",
            "us-west-2",
        ),
    ],
)
def test_where_a_bucket_is(
    options: dict[str, Any],
    variables: dict[str, str],
    url: str,
    region: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the options leave open is what boto3 makes of the environment."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    key = {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}
    found = resolved(Options.model_validate({"aws_bucket": "calls", **key, **options}))
    assert (found.url, found.region, found.service) == (url, region, "s3")


def test_a_profile_names_key_region_endpoint_and_certificates(
    s3: S3Access,
    s3_bucket: str,
    client: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = tmp_path / "config"
    config.write_text(
        f"[profile ours]\naws_access_key_id={s3.key}\naws_secret_access_key={s3.secret}\n"
        f"region={s3.region}\nendpoint_url={s3.endpoint}\nca_bundle=/some/ca.pem\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    options = Options.model_validate({"aws_bucket": s3_bucket, "aws_profile": "ours"})
    assert resolved(options).ca_file == "/some/ca.pem"
    with closing(Storage("s3", options)) as storage:
        storage.open()
        assert isinstance(one(storage, document()), Stored)
    absent = Options.model_validate({"aws_bucket": s3_bucket, "aws_profile": "theirs"})
    with pytest.raises(ValueError, match="theirs"):
        Storage("s3", absent).open()


def test_temporary_keys_are_renewed_by_botocore(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program of a profile gives keys; an expired one is asked for again, without reopening."""
    count = tmp_path / "count"
    program = tmp_path / "program"
    program.write_text(
        "#!/bin/sh\n"
        f'echo x >> "{count}"\n'
        f'n=$(wc -l < "{count}")\n'
        "# The first is due at once, those that follow are not.\n"
        '[ "$n" -gt 1 ] && year=2100 || year=2020\n'
        "printf '"
        '{"Version": 1, "AccessKeyId": "key%s", "SecretAccessKey": "s", "SessionToken": "t%s",'
        ' "Expiration": "%s-01-01T00:00:00Z"}'
        '\' "$n" "$n" "$year"\n'
    )
    program.chmod(0o755)
    config = tmp_path / "config"
    config.write_text(f"[default]\ncredential_process = {program}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    with Standin(ObjectStore(conditional=True)) as server:
        given = {"endpoint_url": server.url, "aws_bucket": "bucket", "aws_region": "us-east-1"}
        with closing(Storage("s3", Options.model_validate(given))) as storage:
            storage.open()
            assert isinstance(one(storage, document()), Stored)
        sent = server.requests[-1].headers
    assert sent["x-amz-security-token"] == "t2"
    assert "Credential=key2/" in sent["authorization"]


@pytest.mark.parametrize(
    ("bucket", "said"),
    [
        ("calls--usw2-az1--x-s3", "directory buckets"),
        ("arn:aws:s3::123456789012:accesspoint/mfzwi23gnjvgw.mrap", "crt"),
    ],
)
def test_what_is_not_supported_is_told_at_open(bucket: str, said: str) -> None:
    given = {"aws_bucket": bucket, "aws_access_key_id": "key", "aws_secret_access_key": "secret"}
    with pytest.raises(ValueError, match=said):
        Storage("s3", Options.model_validate(given)).open()


@pytest.mark.parametrize("status", [400, 403, 501])
def test_an_endpoint_that_refuses_checksums_is_found_out(
    status: int, caplog: pytest.LogCaptureFixture
) -> None:
    store = ObjectStore(conditional=True)

    def told(request: Request) -> Answer:
        if "x-amz-checksum-sha256" in request.headers:
            return fault(status, "InvalidArgument")
        return store(request)

    with Standin(told) as server, closing(standing_in(server)) as storage:
        storage.open()
        assert "refuses x-amz-checksum-sha256" in caplog.text
        given = document()
        assert isinstance(one(storage, given), Stored)
        assert storage.get(given.uuid) == given.body


def test_an_endpoint_that_is_busy_at_open_keeps_its_checksums() -> None:
    with (
        Standin(
            lambda request: fault(503, "SlowDown") if request.method == "PUT" else Answer()
        ) as server,
        pytest.raises(ConnectionError, match="SlowDown"),
    ):
        standing_in(server).open()
    assert server.count("PUT") == 1


def test_a_certificate_is_verified(tmp_path: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", key,
         "-out", certificate, "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True, timeout=110,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with Standin(ObjectStore(conditional=True), tls=context) as server:
        with closing(standing_in(server, ca_certs=str(certificate))) as storage:
            storage.open()
            given = document()
            assert isinstance(one(storage, given), Stored)
            assert storage.get(given.uuid) == given.body
        with pytest.raises(ssl.SSLCertVerificationError):
            standing_in(server).open()


def test_secrets_are_not_shown() -> None:
    options = Options.model_validate(
        {"aws_bucket": "abc", "aws_access_key_id": "key", "aws_secret_access_key": "s3cret"}
    )
    assert "s3cret" not in repr(options)
    assert json.dumps(options.model_dump(mode="json")).count("s3cret") == 0
