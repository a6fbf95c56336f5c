"""The API as its clients see it: the application in a real server on loopback, over a real Redis.

`api` serves it in a thread of the test process; each token of TOKENS has a client of its own.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import httpx
import pytest

from conserver.config.environment import Environment
from conserver.config.model import Config
from conserver.config.settings import Settings
from conserver.http import server
from conserver.operations import setup
from conserver.operations.tokens import Keyring, Token, digest
from conserver.plugins import reading
from conserver.process.shared_status import SharedStatus
from tests.clients import http_client
from tests.daemon import vcon
from tests.helpers import eventually
from tests.queues import Consumer, Queue, opened

TOKENS = {
    "submit": Token("ann", ("submit",), (), digest("text-submit")),
    "other": Token("bob", ("submit",), (), digest("text-other")),
    "read": Token("rea", ("read",), (), digest("text-read")),
    "operate": Token("ops", ("operate",), (), digest("text-operate")),
    "admin": Token("adm", ("admin",), (), digest("text-admin")),
    "narrow": Token("nar", ("admin",), ("other",), digest("text-narrow")),
}
WAIT_S = 60


def configuration(folder: Path) -> dict[str, Any]:
    """Two lists, a storage that keeps files, and one that can search."""
    database = str(folder.parent / "vcons.db")
    return {
        "links": {
            "tag": {"module": "links.tag", "options": {"tags": ["seen"]}},
            "read": {"module": "links.read_documents"},
        },
        "storages": {
            "files": {"module": "storage.file", "options": {"path": str(folder)}},
            "index": {"module": "storage.sqlite", "options": {"path": database}},
        },
        "chains": {
            "main": {
                "links": ["tag"],
                "ingress_lists": ["urgent", "calls"],
                "priorities": {"high": "urgent", "normal": "calls"},
                "egress_lists": ["out"],
                "storages": ["files"],
            },
            "second": {"links": ["tag"], "ingress_lists": ["other"]},
            "paper": {"links": ["read"], "ingress_lists": ["papers"]},
        },
        "models": {"whisper-1": "main", "team/second": "second"},
        "schedules": {
            "nightly": {
                "cron": "0 2 * * *",
                "timezone": "Europe/Berlin",
                "push": {"list": "other", "payloads": ["tick"]},
            },
            "never": {"cron": "0 2 * * *", "enabled": False, "purge": {"older": "7d"}},
        },
    }


class Api:
    """The application, served in a thread."""

    def __init__(self, settings: Settings, config: Config, keyring: Keyring) -> None:
        self.settings, self.config = settings, config
        self._listener = server.bind(settings, keyring)
        self._serving: Any = server.serve(
            settings, config, keyring, statuses=[SharedStatus.create("api")]
        )
        self._thread = threading.Thread(target=self._run, name="api", daemon=True)
        self.host, self.port = self._listener.getsockname()[:2]
        self.url = f"http://{self.host}:{self.port}"
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def context(self) -> Any:
        """What the routes work with."""
        return self._serving.config.app.state.context

    @property
    def routes(self) -> Any:
        """All routes of the application, except those of the dashboard."""
        return self._serving.config.app.routes

    @property
    def described(self) -> Any:
        """The description of the routes, as the application makes it."""
        return self._serving.config.app.openapi()

    def client(self, role: str = "", **options: Any) -> httpx.Client:
        """A client with the token of TOKENS, or with none."""
        headers = {"Authorization": f"Bearer text-{role}"} if role else {}
        return http_client(self.url, headers=headers, timeout=WAIT_S, **options)

    def begin_stop(self) -> None:
        """What a SIGTERM does."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(server.begin_stop, self._serving)

    def __enter__(self) -> Self:
        self._thread.start()
        eventually(lambda: self._serving.started)
        return self

    def __exit__(self, *_: object) -> None:
        self.begin_stop()
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive()
        self._listener.close()

    def _run(self) -> None:
        async def serve() -> int:
            self._loop = asyncio.get_running_loop()
            await server.run(self._serving, self._listener)

            return 0

        server.run_loop(serve())


@pytest.fixture
def serve(redis_url: str, tmp_path: Path) -> Iterator[Callable[..., Api]]:
    """Serves the application: `serve(CONSERVER_LIST_CAP="2")`. open_to_all: without tokens.

    config: what config.yml has besides, by section.
    """
    with ExitStack() as stack:

        def start(
            *,
            open_to_all: bool = False,
            url: str = "",
            config: Mapping[str, Any] | None = None,
            **environment: str,
        ) -> Api:
            config_file = tmp_path / "config.yml"
            written = configuration(tmp_path / "files")
            for section, entries in (config or {}).items():
                written.setdefault(section, {}).update(entries)
            config_file.write_text(json.dumps(written))
            environ = {
                "REDIS_URL": url or redis_url,
                "CONSERVER_CONFIG_FILE": str(config_file),
                "CONSERVER_UPLOAD_DIR": str(tmp_path / "uploads"),
                **environment,
            }
            settings = setup.load_settings(environ)
            loaded = reading.read(settings.config_file, Environment(environ))
            keyring = Keyring(() if open_to_all else TOKENS.values())
            return stack.enter_context(Api(settings, loaded, keyring))

        yield start


@pytest.fixture
def api(serve: Callable[..., Api]) -> Api:
    """The application with tokens and everything else as it is by default."""
    return serve()


@pytest.fixture
def clients(api: Api) -> Iterator[Callable[[str], httpx.Client]]:
    """`clients("read")`: a client with that token; "" for none."""
    made: dict[str, httpx.Client] = {}

    def client(role: str) -> httpx.Client:
        if role not in made:
            made[role] = api.client(role)
        return made[role]

    yield client
    for one in made.values():
        one.close()


@pytest.fixture
def submit(clients: Callable[[str], httpx.Client]) -> httpx.Client:
    """Ann, who hands in work."""
    return clients("submit")


@pytest.fixture
def admin(clients: Callable[[str], httpx.Client]) -> httpx.Client:
    """Who may do everything."""
    return clients("admin")


@pytest.fixture
def queue(redis_url: str) -> Iterator[Queue]:
    """The queue behind the API."""
    with opened(redis_url) as found:
        yield found


@pytest.fixture
def worker(queue: Queue) -> Consumer:
    """Who takes from the list `calls`."""
    return Consumer(queue, lists=("calls",))


def document(**members: Any) -> bytes:
    """A small vCon."""
    return json.dumps(vcon(**members)).encode()


def submitted(client: httpx.Client, **query: str) -> dict[str, Any]:
    """A job with a vCon on the list `calls`, as the API answers it."""
    answer = client.post("/v1/vcons", params={"list": "calls", **query}, content=document())
    assert answer.status_code == 202, answer.text
    found: dict[str, Any] = answer.json()
    return found
