"""fetch.py against a real HTTP server: limits, hashes, redirects, and where nothing is fetched."""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from conserver.errors import Cancelled, Rejected, Retry
from conserver.outbound.addresses import is_public
from conserver.outbound.faults import FailedAttemptError
from conserver.outbound.fetch import FetchOptions, content, fetch
from conserver.testing.http_server import Reply, serving
from conserver.vcon.document import encode_body
from tests.helpers import free_port
from tests.unit.links.stage import Context

CONTENT = b"RIFF some audio"


def get(url: str, context: Context | None = None, **options: Any) -> bytes:
    """Fetch with private addresses allowed: the test's server is on loopback."""
    settings = FetchOptions(allow_private_addresses=True, **options)
    return fetch(url, settings, context or Context())


def test_content_comes_whole() -> None:
    with serving(Reply(200, CONTENT)) as server:
        assert get(server.url + "/a%20b/ü?q=ä b#part") == CONTENT
        assert server.requests[0].path == "/a%20b/%C3%BC?q=%C3%A4%20b"
        assert server.requests[0].headers["accept-encoding"] == "identity"
        assert server.requests[0].headers["host"] == f"127.0.0.1:{server.port}"


def test_credentials_in_the_url_become_a_header() -> None:
    with serving(Reply(200, CONTENT)) as server:
        get(server.url.replace("://", "://us%40er:p%3Aw@"))
        account = base64.b64encode(b"us@er:p:w").decode()
        assert server.requests[0].headers["authorization"] == f"Basic {account}"


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/hostname",
        "FILE:///etc/hostname",
        "ftp://example.com/a",
        "data:text/plain,x",
        "//example.com/a",
        "/etc/hostname",
        "http:///a",
        "http://[::1/",
        "http://example.com:99999/",
        "http://exam\0ple.com/",
        "http://exam ple.com/",
    ],
)
def test_only_http_urls_are_fetched(url: str) -> None:
    with pytest.raises(Rejected):
        get(url)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.9.9.9",
        "localhost",
        "0.0.0.0",
        "0",
        "2130706433",
        "127.0.0.1.",
        "LocalHost.",
        "any.localhost",
        "0x7f.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "169.254.169.254",
        "192.0.0.192",
        "224.0.0.1",
        "[::1]",
        "[::]",
        "[fe80::1]",
        "[fd00::1]",
        "[::ffff:127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
    ],
)
def test_our_own_networks_are_not_fetched_from(host: str) -> None:
    """In every way to write such an address; nothing is even connected to."""
    with pytest.raises(Rejected, match="our own networks"):
        fetch(f"http://{host}:1/", FetchOptions(), Context())


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_the_open_internet_is_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


def test_a_server_on_loopback_is_not_reached() -> None:
    with serving(Reply(200, CONTENT)) as server:
        with pytest.raises(Rejected, match="our own networks"):
            fetch(server.url, FetchOptions(), Context())
        assert server.connections == 0


def test_redirects_are_followed_up_to_a_limit() -> None:
    hop = Reply(302, b"", {"Location": "/next"})
    with serving(hop, hop, Reply(200, CONTENT)) as server:
        assert get(server.url) == CONTENT
        assert [request.path for request in server.requests] == ["/", "/next", "/next"]
    with serving(hop) as server, pytest.raises(FailedAttemptError, match="more than 2 redirects"):
        get(server.url, max_redirects=2)


@pytest.mark.parametrize("target", ["file:///etc/hostname", "ftp://x/", "http://[::1/"])
def test_a_redirect_is_checked_like_the_url_itself(target: str) -> None:
    with serving(Reply(302, b"", {"Location": target})) as server, pytest.raises(Rejected):
        get(server.url)


def test_a_redirect_leaves_credentials_behind() -> None:
    hop = Reply(302, b"", {"Location": "{url}/else"})
    with serving(hop, Reply(200, CONTENT)) as server:
        get(server.url.replace("://", "://user:secret@"))
        assert "authorization" in server.requests[0].headers
        assert "authorization" not in server.requests[1].headers


def test_size_is_limited_by_promise_and_by_fact() -> None:
    with serving(Reply(200, b"x" * 1000)) as server:
        assert len(get(server.url, max_bytes=1000)) == 1000
        with pytest.raises(Rejected, match="larger than 999 bytes"):
            get(server.url, max_bytes=999)
    body = b"".join(b"400\r\n" + b"x" * 1024 + b"\r\n" for _ in range(9)) + b"0\r\n\r\n"
    with serving(Reply(200, body, {"transfer-encoding": "chunked"})) as server:
        assert len(get(server.url)) == 9216
        with pytest.raises(Rejected, match="larger than 5000 bytes"):
            get(server.url, max_bytes=5000)


def test_time_is_limited_as_a_whole() -> None:
    with serving(Reply(200, b"x" * 500, drip_s=0.05)) as server:
        for context, options in ((Context(), {"timeout_s": 0.3}), (Context(left_s=0.3), {})):
            began_s = time.monotonic()
            with pytest.raises(Retry):
                get(server.url, context, **options)
            assert time.monotonic() - began_s < 20


def test_a_cancelled_item_stops_its_download() -> None:
    with serving(Reply(200, b"x" * 500, drip_s=0.05)) as server, pytest.raises(Cancelled):
        get(server.url, Context(cancel_after=1))


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (202, Retry),
        (204, FailedAttemptError),
        (401, FailedAttemptError),
        (403, FailedAttemptError),
        (404, FailedAttemptError),
        (410, Rejected),
        (500, Retry),
    ],
)
def test_what_may_pass_with_time_is_not_final(status: int, kind: type[Exception]) -> None:
    """later-1, later-2: an upload that is late, a link that is not valid yet, a file in the making;
    the body of a 202 is not the content."""
    reply = Reply(status, headers={"retry-after": "7"})
    with serving(reply) as server, pytest.raises(kind, match=f"HTTP {status}") as caught:
        get(server.url + "/a?token=secret")
    assert "secret" not in str(caught.value)
    assert getattr(caught.value, "after_s", 7) == 7


def test_no_connection_and_half_an_answer_are_trouble() -> None:
    with pytest.raises(Retry, match="ConnectError"):
        get(f"http://127.0.0.1:{free_port()}/")
    with pytest.raises(Retry, match="ConnectError"):
        get("http://no-such-host.invalid/")
    with serving(Reply(200, b"0123456789", cut=True)) as server, pytest.raises(Retry):
        get(server.url)


def test_the_promised_hash_is_kept_or_refused() -> None:
    good = encode_body(hashlib.sha512(CONTENT).digest())
    weak = encode_body(hashlib.sha256(CONTENT).digest())
    options = FetchOptions(allow_private_addresses=True)
    with serving(Reply(200, CONTENT)) as server:
        url = server.url
        for item in (
            {"url": url},
            {"url": url, "content_hash": f"sha512-{good}"},
            {"url": url, "content_hash": [f"sha256-{weak}", f"sha512-{good}"]},
            {"url": url, "alg": "SHA-512", "signature": good},
        ):
            assert content(item, options, Context()) == CONTENT
        for item in (
            {"url": url, "content_hash": f"sha512-{good[:-4]}AAAA"},
            {"url": url, "content_hash": [f"sha512-{good}", f"sha256-{weak[:-4]}AAAA"]},
            {"url": url, "alg": "SHA-256", "signature": f"{weak[:-4]}AAAA"},
        ):
            # Not final: the upload may not be finished.
            with pytest.raises(FailedAttemptError, match="does not have its sha"):
                content(item, options, Context())
    with (
        serving(Reply(200, b"")) as server,
        pytest.raises(FailedAttemptError, match=r"is empty \(0 bytes\)"),
    ):
        content({"url": server.url}, options, Context())


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Key and certificate of "localhost" in one file, signed by itself."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl, which makes the certificate, is not installed")
    path = tmp_path_factory.mktemp("tls") / "localhost.pem"
    command = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(path), "-out", "-"]
    made = subprocess.run(
        [openssl, *command.split(), *names], check=True, capture_output=True, text=True
    )
    path.write_text(path.read_text() + made.stdout)
    return path


def test_certificates_are_verified_for_the_name_not_the_address(certificate: Path) -> None:
    """The connection goes to a checked address; the certificate is still the host's."""
    with serving(Reply(200, CONTENT), certificate=certificate) as server:
        assert get(server.url, ca_file=str(certificate)) == CONTENT
        with pytest.raises(Retry, match="CERTIFICATE_VERIFY_FAILED"):
            get(server.url)
        with pytest.raises(Retry, match="CERTIFICATE_VERIFY_FAILED"):
            get(server.url.replace("localhost", "127.0.0.1"), ca_file=str(certificate))
        assert len(server.requests) == 1


def test_inline_content_needs_no_fetch() -> None:
    options = FetchOptions()
    assert content({"body": "AQID", "encoding": "base64url"}, options, Context()) == b"\1\2\3"
    assert content({"body": "é", "encoding": "none"}, options, Context()) == "é".encode()
    assert content({}, options, Context()) is None
    assert content({"url": ""}, options, Context()) is None
