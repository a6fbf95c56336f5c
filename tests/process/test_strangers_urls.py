"""URLs that callers of the API name: none of them leads into our own networks.

A true daemon with its API is asked to fetch from every such address, and to deliver to it, by every
way to write it, to name it and to be redirected to it. The servers of these tests count who
connects to them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from conserver.testing.http_server import HttpServer, Reply, serving
from tests.clients import http_client
from tests.daemon import Daemon, vcon
from tests.helpers import eventually, free_port
from tests.modules.fetcher import REBINDING
from tests.process.test_callbacks import SECRET

WAIT_S = 60
OUTSIDE = "recordings.stranger.example"  # Only the proxy knows it.

HOSTS = [
    "127.0.0.1",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0177.0.0.1",
    "0.0.0.0",
    "localhost",
    "LOCALHOST.",
    "a.localhost",
    "127.0.0.1.",
    "0x7f000001.",
    "169.254.169.254.",
    "user:password@127.0.0.1",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.0.1",
    "100.64.0.1",
    "169.254.169.254",  # The metadata of AWS, Azure, Google and others,
    "169.254.170.2",  # of containers at AWS,
    "100.100.100.200",  # at Alibaba,
    "192.0.0.192",  # at Oracle,
    "[fd00:ec2::254]",  # and of AWS by IPv6.
    "[::1]",
    "[::]",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b:1::7f00:1]",
    "[2002:7f00:1::]",
    "[2001:0:7f00:1::80ff:fffe]",
    "[fe80::1]",
    "[fc00::1]",
    "[ff02::1]",
]

NOT_HTTP = [
    "file:///etc/hostname",
    "FILE:///etc/hostname",
    "gopher://127.0.0.1/",
    "//127.0.0.1/a",
    "a",
]


class Site:
    """A daemon with its API, a server on loopback that nobody may reach, and a proxy's outside."""

    def __init__(self, daemon: Daemon, web: httpx.Client, inside: HttpServer) -> None:
        self.daemon, self.web, self.inside = daemon, web, inside

    def submit(self, **wanted: Any) -> dict[str, Any]:
        """A job, as it was taken in."""
        answer = self.web.post("/v1/jobs", json={"list": "in", **wanted})
        assert answer.status_code == 202, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def failed(self, job: dict[str, Any]) -> dict[str, Any]:
        """Its error, once it has failed."""
        found = self.web.get(job["links"]["self"], params={"wait": WAIT_S}).json()
        assert found["status"] == "failed", found
        error: dict[str, Any] = found["error"]
        return error


@pytest.fixture(scope="module")
def inside() -> Iterator[HttpServer]:
    """A server of ours that no caller may reach."""
    with serving(Reply(200, b"a secret of this machine")) as server:
        yield server


def site_of(folder: Path, url: str, inside: HttpServer, **environment: Any) -> Iterator[Site]:
    port = free_port()
    config = {
        "links": {"fetch": {"module": "tests.modules.fetcher"}},
        "chains": {"main": {"links": ["fetch"], "ingress_lists": ["in"], "retries": 0}},
    }
    environment = {
        "CONSERVER_WEBHOOK_SECRET": SECRET,
        "CONSERVER_API_PORT": str(port),
    } | environment
    daemon = Daemon(folder, url, config, **environment)
    with daemon, http_client(f"http://127.0.0.1:{port}", timeout=WAIT_S + 10) as web:
        daemon.event("api_listens", WAIT_S)
        yield Site(daemon, web, inside)


@pytest.fixture
def site(redis_url: str, tmp_path: Path, inside: HttpServer) -> Iterator[Site]:
    """Where nothing stands between us and the network."""
    yield from site_of(tmp_path / "host", redis_url, inside, no_proxy="*")


def test_no_address_of_ours_is_fetched_from(site: Site) -> None:
    """Whether the caller names it in a job or in a document."""
    port = site.inside.port
    urls = [f"{scheme}://{host}:{port}/secret" for host in HOSTS for scheme in ("http", "https")]
    jobs = {url: site.submit(url=url) for url in urls}
    for url in urls[::4]:
        dialog = {"type": "recording", "url": url, "parties": [0]}
        jobs[f"{url} in a vCon"] = site.submit(vcon=vcon(dialog=[dialog]))
    for url, job in jobs.items():
        error = site.failed(job)
        assert (url, error["reason"]) == (url, "rejected")
        assert "our own networks" in error["detail"]
        assert "password" not in str(error)
    assert site.inside.connections == 0


def test_only_http_is_taken(site: Site) -> None:
    for url in NOT_HTTP:
        answer = site.web.post("/v1/jobs", json={"list": "in", "url": url})
        assert (url, answer.status_code) == (url, 422)
        error = site.failed(site.submit(vcon=vcon(dialog=[{"type": "recording", "url": url}])))
        assert (url, error["reason"]) == (url, "rejected")


def test_a_name_that_resolves_to_us_a_moment_later_gains_nothing(site: Site) -> None:
    """It is looked up once, and that address is connected to; the next time it is refused."""
    url = f"http://{REBINDING}:{site.inside.port}/secret"
    site.failed(site.submit(url=url))
    assert site.inside.connections == 0
    error = site.failed(site.submit(url=url))
    assert f"{REBINDING} (127.0.0.1) is an address of our own networks" in error["detail"]
    assert site.inside.connections == 0


def test_no_result_is_delivered_to_us(site: Site) -> None:
    """Refused with the job where the address tells it, else when it is to be sent."""
    port, jobs = site.inside.port, {}
    for host in HOSTS:
        url = f"http://{host}:{port}/hook"
        for told in ({"callback": {"url": url}}, {"upload_presigned_url": url}):
            answer = site.web.post("/v1/jobs", json={"list": "in", "vcon": vcon(), **told})
            assert answer.status_code in (202, 422), answer.text
            if answer.status_code == 202:
                jobs[answer.json()["links"]["self"]] = url
    assert len(jobs) < len(HOSTS)
    for path, url in jobs.items():

        def failed(path: str = path) -> dict[str, Any]:
            found: dict[str, Any] = site.web.get(path).json()["notification"]
            return found if found["status"] == "failed" else {}

        told = site.daemon.until(failed, WAIT_S)
        assert (url, "our own networks" in told["error"]) == (url, True)
    assert site.inside.connections == 0


def test_no_redirect_leads_to_us(redis_url: str, tmp_path: Path, inside: HttpServer) -> None:
    """A stranger's server, which a proxy reaches, redirects to each address; nobody follows."""
    targets = [f"http://{host}:{inside.port}/secret" for host in HOSTS]
    targets += [f"file:///etc/hostname#{inside.port}", "gopher://127.0.0.1/"]
    hops = [Reply(302, b"", {"Location": target}) for target in targets]
    with serving(*hops) as proxy:
        for site in site_of(tmp_path / "host", redis_url, inside, http_proxy=proxy.url):
            for target in targets:
                error = site.failed(site.submit(url=f"http://{OUTSIDE}/call.wav"))
                assert (target, error["reason"]) == (target, "rejected"), error
        paths = [request.path for request in proxy.requests]
    assert paths == [f"http://{OUTSIDE}/call.wav"] * len(targets)
    assert inside.connections == 0


def test_a_redirect_by_two_hops_is_looked_at_too(
    redis_url: str, tmp_path: Path, inside: HttpServer
) -> None:
    first = Reply(307, b"", {"Location": f"//{OUTSIDE}:80/next"})
    second = Reply(303, b"", {"Location": f"http://[::ffff:127.0.0.1]:{inside.port}/"})
    with serving(first, second) as proxy:
        for site in site_of(tmp_path / "host", redis_url, inside, http_proxy=proxy.url):
            error = site.failed(site.submit(url=f"http://{OUTSIDE}/call.wav"))
            assert "our own networks" in error["detail"]
        eventually(lambda: len(proxy.requests) == 2)
    assert inside.connections == 0
