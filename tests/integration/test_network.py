"""One environment means the same to every client: links and storages, through real small proxies.

Each client is asked to reach a server by a name that only the proxies know, so that what arrives
came through one; and by names of this machine, so that what the proxies do not see went past them.
"""

from __future__ import annotations

import gc
import json
import shutil
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from conserver.errors import Rejected, Retry
from conserver.links import diet
from conserver.outbound import chat, endpoint, fetch, send
from conserver.vcon.document import Vcon
from storage import elasticsearch, network, s3, webhook
from storage.contract import Stored, Unavailable
from storage.network import NetworkSettingsError
from tests.contract.places import document
from tests.helpers import free_port
from tests.proxies import HttpProxy, Proxy, SocksProxy
from tests.standins import Answer, ObjectStore, Request, Standin
from tests.unit.links.stage import Context

FAR = "server.test"
"""A name that only the proxies know."""
LOGIN = "us er:p@ss:w/rd"
ENCODED_LOGIN = "us%20er:p%40ss%3Aw%2Frd"
VARIABLES = ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy")
KEY = {"aws_access_key_id": "key", "aws_secret_access_key": "secret", "aws_region": "us-east-1"}
Reach = Callable[[str], None]


class Unreachable(Exception):
    """What each client says in its own way: not now; its text is what a person is told."""


def everything(request: Request) -> Answer:
    """A server that is all that the clients look for."""
    if request.path.startswith("/bucket/"):
        return Answer() if request.path == "/bucket/" else STORE(request)
    if "/_bulk" in request.path:
        return Answer(200, b'{"items": [{"index": {"status": 201}}]}', PRODUCT)
    if "/_mapping" in request.path:
        return Answer(200, b'{"i": {"mappings": {"_meta": {"conserver": 99}}}}', PRODUCT)
    said = {"choices": [{"message": {"content": "yes"}}]}
    return Answer(200, json.dumps(said).encode(), {"content-type": "application/json"})


STORE = ObjectStore(conditional=True)
PRODUCT = {"x-elastic-product": "Elasticsearch", "content-type": "application/json"}


def stored(kind: Any, options: dict[str, Any]) -> None:
    parsed = kind.Options.model_validate({"timeout_s": 30, **options})
    kind.prepare(parsed)
    storage = kind.Storage("it", parsed)
    with closing(storage):
        try:
            storage.open()
            (outcome,) = storage.save_many([document()])
        except OSError as error:
            raise Unreachable(str(error)) from error
    if isinstance(outcome, Unavailable):
        raise Unreachable(outcome.reason)
    assert isinstance(outcome, Stored)


def by_webhook_link(url: str) -> None:
    options = endpoint.CallOptions(attempts=1)
    endpoint.prepare([url])
    try:
        endpoint.post(url, b"{}", {}, options, Context())
    except Retry as error:
        raise Unreachable(str(error)) from error


def by_chat(url: str) -> None:
    options = chat.ChatOptions.model_validate({"base_url": url, "model": "m", "attempts": 1})
    try:
        assert chat.ask("", "?", options, Context()) == "yes"
    except Retry as error:
        raise Unreachable(str(error)) from error


def by_fetch(url: str) -> None:
    fetch.prepare()
    try:
        fetch.fetch(url, fetch.FetchOptions(allow_private_addresses=True), Context())
    except Retry as error:
        raise Unreachable(str(error)) from error


def by_callback(url: str) -> None:
    limits = send.Limits(connect_s=20, total_s=60, allow_private_addresses=True)
    try:
        assert send.send("POST", url, {}, b"{}", limits, Context()).status == 200
    except send.UnreachableError as error:
        raise Unreachable(str(error)) from error


def by_elasticsearch(url: str) -> None:
    stored(elasticsearch, {"url": url, "index": "i"})


def by_s3(url: str) -> None:
    stored(s3, {"endpoint_url": url, "aws_bucket": "bucket", **KEY})


def by_webhook_storage(url: str) -> None:
    stored(webhook, {"webhook-urls": [url]})


CLIENTS = {
    "webhook link": by_webhook_link,
    "chat": by_chat,
    "fetch": by_fetch,
    "callback": by_callback,
    "elasticsearch": by_elasticsearch,
    "s3": by_s3,
    "webhook storage": by_webhook_storage,
}


@pytest.fixture(params=list(CLIENTS))
def reach(request: pytest.FixtureRequest) -> Reach:
    """Reaches a URL as one of the clients does; raises Unreachable."""
    return CLIENTS[request.param]


@pytest.fixture(autouse=True)
def _no_client_is_kept() -> Iterator[None]:
    """Each test has proxies of its own, whose connections end with it."""
    yield
    endpoint.CLIENTS.close()
    fetch.POOLS.close()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for all names of this machine and the far one, with its key, in one file."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl, which makes the certificate, is not installed")
    path = tmp_path_factory.mktemp("tls") / "all.pem"
    names = f"subjectAltName=DNS:localhost,DNS:{FAR},IP:127.0.0.1,IP:::1"
    command = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test -out".split()
    subprocess.run(
        [openssl, *command, str(path), "-keyout", str(path) + ".key", "-addext", names],
        check=True,
        capture_output=True,
    )
    return path


@pytest.fixture(scope="session")
def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, str(certificate) + ".key")
    return context


@pytest.fixture
def server() -> Iterator[Standin]:
    with Standin(everything) as made:
        yield made


@pytest.fixture
def secure_server(tls: ssl.SSLContext) -> Iterator[Standin]:
    with Standin(everything, tls=tls) as made:
        yield made


@pytest.fixture
def trusting(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))


def proxy_of(kind: str, tls: ssl.SSLContext, login: str = "") -> Proxy:
    if kind == "socks5h":
        return SocksProxy(login)
    return HttpProxy(login, tls if kind == "https" else None)


def with_login(proxy: Proxy) -> str:
    return f"{proxy.scheme}://{ENCODED_LOGIN}@{proxy.address}"


# which variable names the proxy


@pytest.mark.parametrize("variable", VARIABLES)
@pytest.mark.usefixtures("trusting")
def test_every_variable_is_read(
    reach: Reach,
    variable: str,
    server: Standin,
    secure_server: Standin,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = secure_server if "s_proxy" in variable.lower() else server
    with HttpProxy() as proxy:
        monkeypatch.setenv(variable, proxy.url)
        reach(asked.at(FAR))
        assert {place.partition(":")[0] for place in proxy.asked} == {FAR}
    assert asked.requests


@pytest.mark.parametrize("kind", ["http", "https", "socks5h"])
@pytest.mark.parametrize("secure", [False, True], ids=["to http", "to https"])
@pytest.mark.usefixtures("trusting")
def test_every_kind_of_proxy_takes_a_login(
    reach: Reach,
    kind: str,
    secure: bool,
    server: Standin,
    secure_server: Standin,
    tls: ssl.SSLContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = secure_server if secure else server
    with proxy_of(kind, tls, LOGIN) as proxy:
        monkeypatch.setenv("ALL_PROXY", with_login(proxy))
        reach(asked.at(FAR))
        assert proxy.asked
    assert asked.requests
    assert not [one for one in asked.requests if "proxy-authorization" in one.headers and secure]


@pytest.mark.parametrize("kind", ["http", "socks5h"])
@pytest.mark.parametrize("secure", [False, True], ids=["to http", "to https"])
@pytest.mark.parametrize("given", ["", "wrong:s3cret@"], ids=["no login", "a wrong login"])
@pytest.mark.usefixtures("trusting")
# httpcore does not close what a SOCKS proxy has refused; it is collected here and not in another.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_proxy_that_does_not_let_us_in_is_named_and_not_final(
    reach: Reach,
    kind: str,
    secure: bool,
    given: str,
    server: Standin,
    secure_server: Standin,
    tls: ssl.SSLContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = secure_server if secure else server
    with proxy_of(kind, tls, LOGIN) as proxy:
        monkeypatch.setenv("ALL_PROXY", f"{proxy.scheme}://{given}{proxy.address}")
        with pytest.raises(Unreachable, match=rf"the proxy {proxy.address} of ALL_PROXY") as caught:
            reach(asked.at(FAR))
    assert not asked.requests
    assert "s3cret" not in str(caught.value)
    if kind == "http":
        assert "407" in str(caught.value)
    else:
        del caught
        gc.collect()


@pytest.mark.parametrize("scheme", ["http", "socks5"])
@pytest.mark.parametrize("secure", [False, True], ids=["to http", "to https"])
@pytest.mark.usefixtures("trusting")
def test_a_proxy_that_is_down_is_named_and_not_final(
    reach: Reach, scheme: str, secure: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = f"127.0.0.1:{free_port()}"
    monkeypatch.setenv("HTTPS_PROXY" if secure else "HTTP_PROXY", f"{scheme}://u:s3cret@{place}")
    with pytest.raises(Unreachable, match=rf"the proxy {place} of HTTPS?_PROXY") as caught:
        reach(f"http{'s' if secure else ''}://{FAR}:1/")
    assert "s3cret" not in str(caught.value)


# what is reached without it


@pytest.mark.parametrize(
    ("host", "excluded"),
    [
        ("localhost", "localhost"),
        ("localhost", "example.org, LOCALHOST"),
        ("localhost", ".localhost"),
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", "10.0.0.0/8,127.0.0.0/8"),
        ("127.0.0.1", "fe80::/10 [::1] 127.0.0.1"),
        ("localhost", "*"),
        ("localhost", "localhost:{port}"),
    ],
)
@pytest.mark.parametrize("scheme", ["http", "socks5h"])
def test_what_is_excluded_goes_past_the_proxy(
    reach: Reach,
    host: str,
    excluded: str,
    scheme: str,
    server: Standin,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing listens where the proxy is said to be."""
    monkeypatch.setenv("ALL_PROXY", f"{scheme}://127.0.0.1:{free_port()}")
    port = server.url.rpartition(":")[2]
    monkeypatch.setenv("NO_PROXY", excluded.replace("{port}", port))
    reach(server.at(host))
    assert server.requests


@pytest.mark.parametrize("excluded", ["", "localhost:1", "local", "xlocalhost", "10.0.0.0/8"])
def test_what_is_not_excluded_goes_through_it(
    reach: Reach, excluded: str, server: Standin, monkeypatch: pytest.MonkeyPatch
) -> None:
    with HttpProxy() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", excluded)
        reach(server.at("localhost"))
        assert proxy.asked


@pytest.mark.parametrize("excluded", ["localhost,fe80::/10", "[::1]", "[::1]:80,fd00::1", "a b:c"])
def test_no_proxy_at_all_and_exclusions_of_any_kind(
    reach: Reach, excluded: str, server: Standin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", excluded)
    reach(server.url)
    assert server.requests


def test_an_empty_value_in_lower_case_means_no_proxy(
    reach: Reach, server: Standin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("http_proxy", "")
    reach(server.url)
    assert server.requests


# addresses and names


@pytest.mark.usefixtures("trusting")
@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
@pytest.mark.parametrize("through", [False, True], ids=["directly", "through a proxy"])
def test_an_ipv6_address_is_reached(
    reach: Reach, secure: bool, through: bool, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        made = Standin(everything, tls=tls if secure else None, host="::1")
    except OSError:
        pytest.skip("there is no IPv6 on this machine")
    with made as server, HttpProxy() as proxy:
        if through:
            # The proxy connects every host to 127.0.0.1, so that it does not arrive.
            monkeypatch.setenv("ALL_PROXY", proxy.url)
            with pytest.raises(Unreachable):
                reach(server.url)
            assert [place for place in proxy.asked if "::1" in place]
        else:
            reach(server.url)
            assert server.requests


def test_a_name_without_address_is_told_and_not_final(reach: Reach) -> None:
    with pytest.raises(Unreachable, match=r"not known|no address|Name or service"):
        reach(f"http://{FAR}:1/")


# certificates


@pytest.mark.parametrize(
    "variable", ["SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"]
)
def test_every_variable_for_certificates_is_read(
    reach: Reach,
    variable: str,
    secure_server: Standin,
    certificate: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises((Unreachable, ssl.SSLError), match="CERTIFICATE_VERIFY_FAILED"):
        reach(secure_server.url)
    given = certificate
    if variable == "SSL_CERT_DIR":
        command = ["openssl", "x509", "-hash", "-noout", "-in", str(certificate)]
        name = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
        shutil.copy(certificate, tmp_path / f"{name}.0")
        given = tmp_path
    monkeypatch.setenv(variable, str(given))
    reach(secure_server.url)
    assert secure_server.requests


def test_aws_has_a_variable_of_its_own(
    secure_server: Standin, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere.pem")
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
    by_s3(secure_server.url)
    with pytest.raises(NetworkSettingsError, match="SSL_CERT_FILE"):
        by_webhook_storage(secure_server.url)


# what cannot be used is told before anything runs


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("HTTPS_PROXY", "http://u:s3cret@:80", "HTTPS_PROXY: is no URL of a proxy"),
        ("https_proxy", "http://u:s3c/ret@proxy:80", "https_proxy: is no URL of a proxy"),
        ("ALL_PROXY", "socks4://u:s3cret@proxy", "ALL_PROXY: proxies of the kind `socks4`"),
        ("HTTPS_PROXY", "http://proxy:99999", "HTTPS_PROXY: is no URL of a proxy"),
        ("SSL_CERT_FILE", "/nowhere.pem", "SSL_CERT_FILE: `/nowhere.pem` cannot be read"),
        ("SSL_CERT_DIR", "/nowhere", "SSL_CERT_DIR: `/nowhere` cannot be read"),
        ("REQUESTS_CA_BUNDLE", __file__, "REQUESTS_CA_BUNDLE: .*none in PEM"),
        ("CURL_CA_BUNDLE", "/nowhere.pem", "CURL_CA_BUNDLE"),
    ],
)
def test_a_variable_that_cannot_be_used_is_named(
    variable: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    url = f"https://{FAR}/"
    prepared: list[Callable[[], None]] = [
        lambda: endpoint.prepare([url]),
        fetch.prepare,
        lambda: s3.prepare(
            s3.Options.model_validate({"endpoint_url": url, "aws_bucket": "bucket", **KEY})
        ),
        lambda: webhook.prepare(webhook.Options.model_validate({"webhook-urls": [url]})),
        lambda: elasticsearch.prepare(elasticsearch.Options(url=url)),
    ]
    for prepare in prepared:
        with pytest.raises(NetworkSettingsError, match=said) as caught:
            prepare()
        assert "s3c" not in str(caught.value)


def test_what_is_excluded_needs_no_proxy_that_can_be_used(
    reach: Reach, server: Standin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "gopher://nowhere")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    if reach is by_fetch:
        fetch.fetch(server.url, fetch.FetchOptions(allow_private_addresses=True), Context())
    else:
        reach(server.url)
    assert server.requests


def test_a_package_that_a_socks_proxy_needs_is_named() -> None:
    environ = {"ALL_PROXY": "socks5h://proxy", "NO_PROXY": "inside.test"}
    network.check(["https://inside.test/"], socks_package="no_such_package", environ=environ)
    with pytest.raises(NetworkSettingsError, match=r"ALL_PROXY: .*`no_such_package`") as caught:
        network.check([f"https://{FAR}/"], socks_package="no_such_package", environ=environ)
    assert "conserver[socks]" in str(caught.value)


# what is fetched for a vCon


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "10.0.0.1", "[::1]", "0x7f.1"])
def test_our_own_networks_are_not_fetched_from_through_a_proxy(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with HttpProxy() as proxy:
        monkeypatch.setenv("ALL_PROXY", proxy.url)
        with pytest.raises(Rejected, match="our own networks"):
            fetch.fetch(f"http://{host}:1/", fetch.FetchOptions(), Context())
        assert not proxy.asked


def test_a_name_that_only_the_proxy_knows_is_fetched(
    server: Standin, monkeypatch: pytest.MonkeyPatch
) -> None:
    with HttpProxy() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        assert fetch.fetch(server.at(FAR), fetch.FetchOptions(), Context())


def test_a_body_that_goes_to_s3_takes_the_same_way(
    server: Standin, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = diet.Options.model_validate(
        {"remove_dialog_body": True, "s3_bucket": "bucket", "s3_endpoint_url": server.at(FAR)}
        | {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}
    )
    given = b'{"uuid": "u-1", "dialog": [{"type": "recording", "body": "AQID"}]}'
    with HttpProxy(LOGIN) as proxy:
        monkeypatch.setenv("HTTP_PROXY", with_login(proxy))
        monkeypatch.setenv("NO_PROXY", "10.0.0.0/8,[::1]")
        diet.prepare(options)
        changed = diet.run(Vcon.parse(given), options, Context())
        assert proxy.asked
    assert changed.dialogs[0]["url"].startswith(server.at(FAR))
    monkeypatch.setenv("HTTP_PROXY", "socks5://proxy")
    with pytest.raises(NetworkSettingsError, match="SOCKS"):
        diet.prepare(options)
