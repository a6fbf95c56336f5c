"""Runs the application in uvicorn. Used by child.py (supervisor) and alone.py (`conserver api`).

1. `bind` binds the address before uvicorn starts, so an address in use, or a port below 1024, is a
   clear error before anything runs.
2. `begin_stop` stops gracefully: the server accepts no new connections, running requests finish,
   and streams end, so that their clients reconnect.
"""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import socket
from collections.abc import Coroutine, Sequence
from importlib.util import find_spec
from typing import Any

from conserver.config.model import Config
from conserver.config.settings import Settings
from conserver.errors import BootError
from conserver.operations.tokens import Keyring
from conserver.process import listening, memory
from conserver.process.imports import cheap_imports
from conserver.process.shared_status import SharedStatus
from conserver.telemetry import log

PACKAGES = ("fastapi", "uvicorn", "httptools", "jinja2", "python_multipart", "websockets")
# With the default threshold of 700 allocations, garbage collection would run several times per
# request: a request allocates some hundred objects, few of which form reference cycles.
GC_THRESHOLDS = (10_000, 20, 20)
WEBSOCKET_BYTES_MAX = 16 * 1024
"""The largest message that a client may send; clients have no reason to send any."""


def bind(settings: Settings, keyring: Keyring) -> socket.socket:
    """A socket that listens on the address of the settings; on loopback if no token is configured.

    Raises:
        BootError: the address cannot be used; the text says what to do.
    """
    host, port = settings.api_host, settings.api_port
    if keyring.is_open and not settings.api_open and not _is_loopback(host):
        log.get_logger().warning(
            "api_serves_loopback_only",
            instead_of=host,
            what="no token is configured: `conserver token add` makes one",
        )
        host = "127.0.0.1"
    return listening.listen(host, port, "the API", "CONSERVER_API_")


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def serve(
    settings: Settings,
    config: Config,
    keyring: Keyring,
    host: str = "",
    statuses: Sequence[SharedStatus] = (),
) -> Any:
    """A uvicorn server, not yet running.

    Args:
        host: the id of the host whose supervisor started this process; "" for `conserver api`.
        statuses: the shared statuses of the processes whose series /metrics shows; this process's
            first.

    Raises:
        BootError: the extra `api` is not installed, or uploads are in a bucket and boto3 (the extra
            `s3`) is not installed.
    """
    check_extra()
    if settings.upload_bucket and find_spec("boto3") is None:
        raise BootError("CONSERVER_UPLOAD_BUCKET needs boto3: pip install 'conserver[s3]'")
    with cheap_imports(opentelemetry=True):
        import uvicorn

        from conserver.http.api import app, context
        from conserver.http.dashboard import place
        from conserver.http.protocol import BoundedProtocol

    made = context.make(settings, config, keyring, host, statuses)
    application = app.create(made)
    place.mount(application, made)
    return uvicorn.Server(
        uvicorn.Config(
            application,
            http=BoundedProtocol,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=max(int(settings.shutdown_timeout_s) - 2, 1),
            backlog=listening.BACKLOG,
            ws_max_size=WEBSOCKET_BYTES_MAX,
            limit_concurrency=None,
            proxy_headers=False,
        )
    )


def check_extra(names: Sequence[str] = PACKAGES) -> None:
    """Check that the packages are installed, without importing them. Raises BootError."""
    missing = [name for name in names if find_spec(name) is None]
    if missing:
        raise BootError(
            "the HTTP API needs the extra `api` (pip install 'conserver[api]'): there is no"
            f" {', '.join(missing)}"
        )


def settle(serving: Any) -> None:
    """Set up garbage collection and malloc for a process that only serves from now on."""
    serving.config.load()
    gc.set_threshold(*GC_THRESHOLDS)
    memory.use_one_arena()
    memory.keep_what_is_there()


async def run(serving: Any, listener: socket.socket) -> None:
    """Serve until `begin_stop`; uvicorn installs no signal handlers of its own."""
    await serving._serve([listener])


def run_loop(main: Coroutine[Any, Any, int]) -> int:
    """Run a coroutine on uvloop's event loop, or on asyncio's if uvloop is not installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(main)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


def begin_stop(serving: Any) -> None:
    """Begin to stop a server: no new connections, streams end, running requests finish."""
    serving.config.app.state.context.subscriptions.begin_closing()
    serving.should_exit = True
