"""storage.network: what the variables say, in all the ways in which people write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage import network
from storage.network import NetworkSettingsError, Proxy, Trust
from tests.command_line import Command

PROXY = {"HTTP_PROXY": "http://proxy:3128", "HTTPS_PROXY": "http://proxy:3128"}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("http://proxy:3128", Proxy("http", "proxy", 3128, "ALL_PROXY")),
        ("proxy:3128", Proxy("http", "proxy", 3128, "ALL_PROXY")),
        ("  http://proxy  ", Proxy("http", "proxy", 80, "ALL_PROXY")),
        ("https://proxy/", Proxy("https", "proxy", 443, "ALL_PROXY")),
        ("HTTP://Proxy:1/path", Proxy("http", "proxy", 1, "ALL_PROXY")),
        ("socks5://proxy", Proxy("socks5", "proxy", 1080, "ALL_PROXY")),
        ("socks5h://[::1]:9", Proxy("socks5h", "::1", 9, "ALL_PROXY")),
        ("http://u:p%40%3A@proxy:1", Proxy("http", "proxy", 1, "ALL_PROXY", "u", "p@:")),
        ("u@proxy:1", Proxy("http", "proxy", 1, "ALL_PROXY", "u")),
    ],
)
def test_a_proxy_is_read(value: str, expected: Proxy) -> None:
    found = network.proxy_for("https://a", {"ALL_PROXY": value})
    assert found == expected
    assert found is not None
    assert found.password == expected.password


@pytest.mark.parametrize(
    "value",
    ["http://", "http://:1", "a:b:c", "http://p:0", "http://p q", "ftp://p", "http://u:a/b@p"],
)
def test_what_is_no_proxy_is_told_when_it_is_needed(value: str) -> None:
    environ = {"HTTPS_PROXY": value, "NO_PROXY": "inside"}
    assert network.proxy_for("http://outside", environ) is None
    assert network.proxy_for("https://inside", environ) is None
    with pytest.raises(NetworkSettingsError, match="HTTPS_PROXY: "):
        network.proxy_for("https://outside", environ)


def test_lower_case_goes_first_and_the_scheme_before_all() -> None:
    environ = {"https_proxy": "a:1", "HTTPS_PROXY": "b:1", "ALL_PROXY": "c:1", "all_proxy": "d:1"}

    def host(url: str) -> str | None:
        found = network.proxy_for(url, environ)
        return found.host if found else None

    assert host("https://x") == "a"
    assert host("http://x") == "d"
    assert host("ftp://x") is None


@pytest.mark.parametrize(
    ("excluded", "url"),
    [
        ("example.com", "http://example.com"),
        ("example.com", "https://a.b.example.com:8443/x"),
        ("EXAMPLE.com.", "http://Example.COM"),
        (".example.com", "http://example.com"),
        (".example.com", "http://a.example.com."),
        ("*.example.com", "http://a.example.com"),
        ("example.com:8080", "http://example.com:8080"),
        ("example.com:443", "https://example.com"),
        ("a , b\tc\nexample.com", "http://example.com"),
        ("10.0.0.0/8", "http://10.200.3.4"),
        ("10.1.2.3/8", "http://10.200.3.4"),
        ("10.1.2.3", "http://10.1.2.3:99"),
        ("10.1.2.3:99", "http://10.1.2.3:99"),
        ("10.0.0.0/8", "http://[::ffff:10.1.2.3]"),
        ("::1", "http://[::1]"),
        ("[::1]", "http://[::1]:9200"),
        ("[::1]:9200", "http://[0:0::1]:9200"),
        ("fe80::/10", "http://[fe80::1%25eth0]"),
        ("[fd00::]/8", "http://[fd12::1]"),
        ("*", "https://anything"),
        ("*:8080", "http://anything:8080"),
        ("bücher.example", "http://xn--bcher-kva.example"),
        ("xn--bcher-kva.example", "http://bücher.example"),
        ("intern_al", "http://a.intern_al"),
    ],
)
def test_what_is_excluded(excluded: str, url: str) -> None:
    assert network.proxy_for(url, {**PROXY, "NO_PROXY": excluded}) is None
    assert network.unreadable_exclusions({"NO_PROXY": excluded}) == []


@pytest.mark.parametrize(
    ("excluded", "url"),
    [
        ("", "http://example.com"),
        ("example.com", "http://notexample.com"),
        ("example.com", "http://example.com.evil"),
        ("a.example.com", "http://example.com"),
        ("example.com:8080", "http://example.com"),
        ("10.0.0.0/8", "http://11.1.2.3"),
        ("10.0.0.0/8", "http://ten.example"),
        ("0.0.1", "http://127.0.0.1"),
        ("::1", "http://[::2]"),
        ("[::1]:80", "http://[::1]:9200"),
    ],
)
def test_what_is_not_excluded(excluded: str, url: str) -> None:
    assert network.proxy_for(url, {**PROXY, "NO_PROXY": excluded}) is not None


@pytest.mark.parametrize(
    "entry", ["http://a", "a:b", "a:0", "a/8", "<local>", "10.0.0.0/99", "[::1"]
)
def test_an_entry_that_cannot_be_read_is_told_and_spoils_no_other(entry: str) -> None:
    environ = {**PROXY, "no_proxy": f"{entry},example.com"}
    assert network.proxy_for("http://example.com", environ) is None
    (fault,) = network.unreadable_exclusions(environ)
    assert fault.name == "no_proxy"
    assert entry in fault.message


def test_a_proxy_shows_no_password() -> None:
    found = network.proxy_for("https://a", {"ALL_PROXY": "http://user:s3cret@proxy:1"})
    assert found is not None
    assert "s3cret" not in f"{found} {found!r} {found.url}"
    assert found.authorization == "Basic dXNlcjpzM2NyZXQ="


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, Trust()),
        ({"SSL_CERT_FILE": "/f", "SSL_CERT_DIR": "/d"}, Trust("SSL_CERT_FILE", "/f", "/d")),
        ({"SSL_CERT_DIR": "/d", "REQUESTS_CA_BUNDLE": "/r"}, Trust("SSL_CERT_DIR", "", "/d")),
        ({"REQUESTS_CA_BUNDLE": "/r", "CURL_CA_BUNDLE": "/c"}, Trust("REQUESTS_CA_BUNDLE", "/r")),
        ({"CURL_CA_BUNDLE": "/c", "SSL_CERT_FILE": ""}, Trust("CURL_CA_BUNDLE", "/c")),
        ({"REQUESTS_CA_BUNDLE": "/"}, Trust("REQUESTS_CA_BUNDLE", "", "/")),
    ],
)
def test_whom_the_variables_trust(environ: dict[str, str], expected: Trust) -> None:
    assert network.trust(environ=environ) == expected
    assert network.trust("/o", environ=environ) == Trust("ca_certs", "/o", is_option=True)
    assert network.trust(variables=["AWS"], environ={**environ, "AWS": "/a"}) == Trust("AWS", "/a")


def test_a_client_certificate_that_cannot_be_read_is_named() -> None:
    with pytest.raises(NetworkSettingsError, match=r"client_cert: `/nowhere\.pem`"):
        network.tls_context(Trust(), client_certificate="/nowhere.pem")


CONFIG = """
links:
  tell: {module: links.webhook, options: {urls: ["https://outside.test/"]}}
storages:
  keep: {module: storage.webhook, options: {webhook-urls: ["https://outside.test/"]}}
  files: {module: storage.file, options: {path: %s}}
chains:
  c: {links: [%s], storages: [%s], ingress_lists: [i]}
"""


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Command:
    return Command(monkeypatch, capfdbinary, {"REDIS_URL": "redis://127.0.0.1:1"})


def config(folder: Path, link: str, storage: str) -> str:
    file = folder / "config.yml"
    file.write_text(CONFIG % (folder, link, storage))
    return str(file)


@pytest.mark.parametrize("word", ["check", "run"])
def test_a_wrong_variable_is_a_fault_of_the_configuration_told_once(
    word: str, command: Command, tmp_path: Path
) -> None:
    file = config(tmp_path, "tell", "keep")
    done = command(word, "--config", file, HTTPS_PROXY="http://u:s3cret@:1")
    said = done.stderr + done.stdout
    assert done.returncode == 78, said
    assert said.count(b"HTTPS_PROXY: is no URL of a proxy") == 1
    assert b"s3cret" not in said


def test_a_wrong_option_is_told_with_its_path(command: Command, tmp_path: Path) -> None:
    file = Path(config(tmp_path, "tell", "keep"))
    options = 'options: {webhook-urls: ["https://outside.test/"], ca_certs: /nowhere.pem}'
    text = file.read_text()
    file.write_text(text.replace('options: {webhook-urls: ["https://outside.test/"]}', options))
    done = command("check", "--config", str(file))
    assert done.returncode == 78
    assert b"storages.keep.options.ca_certs: `/nowhere.pem` cannot be read" in done.stderr


def test_what_reaches_nobody_needs_no_proxy(command: Command, tmp_path: Path) -> None:
    done = command("check", "--config", config(tmp_path, "", "files"), HTTPS_PROXY="http://:1")
    assert done.returncode == 0, done.stderr


def test_what_cannot_be_read_of_the_exclusions_is_warned_of(
    command: Command, tmp_path: Path
) -> None:
    done = command("check", "--config", config(tmp_path, "tell", "keep"), NO_PROXY="a:b,[::1]")
    assert done.returncode == 0
    assert b"warning: NO_PROXY: `a:b` is no host" in done.stderr
