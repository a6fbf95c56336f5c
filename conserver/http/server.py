"""uvicorn around the application: as a child of the supervisor, or alone (`conserver api`).

1. Binds the address first and by itself, so that one that is in use, or a port below 1024, is a
   clear error before anything runs.
2. Stops gracefully: no new connections, running requests finish, streams end with a hint to
   reconnect.
"""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import socket
from collections.abc import Coroutine, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from conserver.config.model import Config
from conserver.config.settings import Settings
from conserver.errors import BootError
from conserver.operations import tokens
from conserver.operations.tokens import Keyring, Token
from conserver.process import listening, memory
from conserver.process.shared_status import SharedStatus
from conserver.telemetry import log

PACKAGES = ("fastapi", "uvicorn", "httptools", "jinja2", "python_multipart", "websockets")
# The default of 700 allocations lets a request pay for many searches for reference cycles: it is
# some hundred objects, and few of them form cycles.
GC_THRESHOLDS = (10_000, 20, 20)
WEBSOCKET_BYTES_MAX = 16 * 1024
"""Of a message that a client sends; it has nothing to say."""


def keyring_of(settings: Settings) -> Keyring:
    """The tokens that the settings name. Raises ConfigError."""
    found: list[Token] = []
    if settings.api_tokens_file:
        found += tokens.load(Path(settings.api_tokens_file))
    if text := settings.api_token.get_secret_value().strip():
        found.append(
            Token("CONSERVER_API_TOKEN", ("admin",), (), tokens.digest(text), guessable=True)
        )
    if settings.api_token_file:
        found += tokens.load_plain(Path(settings.api_token_file))
    return Keyring(found, wanted=bool(settings.api_tokens_file))


def bind(settings: Settings, keyring: Keyring) -> socket.socket:
    """A socket that listens where the settings say; on loopback where there are no tokens.

    Raises:
        BootError: the address cannot be used, with what to do.
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
        host: the id of the supervisor that it belongs to.
        statuses: the shared statuses of the processes that /metrics tells of, its own first.

    Raises:
        BootError: the extra `api` is not installed, or `s3` where uploads are in a bucket.
    """
    check_extra()
    if settings.upload_bucket and find_spec("boto3") is None:
        raise BootError("CONSERVER_UPLOAD_BUCKET needs boto3: pip install 'conserver[s3]'")
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
    """Raises BootError where the extra `api` is not installed; imports nothing."""
    missing = [name for name in names if find_spec(name) is None]
    if missing:
        raise BootError(
            "the HTTP API needs the extra `api` (pip install 'conserver[api]'): there is no"
            f" {', '.join(missing)}"
        )


def settle(serving: Any) -> None:
    """Set up the memory of a process that from now on serves and does nothing else."""
    serving.config.load()
    gc.set_threshold(*GC_THRESHOLDS)
    memory.use_one_arena()
    memory.keep_what_is_there()


async def run(serving: Any, listener: socket.socket) -> None:
    """Serve until `begin_stop`; uvicorn installs no signal handlers of its own."""
    await serving._serve([listener])


def run_loop(main: Coroutine[Any, Any, int]) -> int:
    """Run a coroutine on uvloop's event loop, or on asyncio's where that is not installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(main)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


def begin_stop(serving: Any) -> None:
    """Let a server end: no new connections, streams end, running requests finish."""
    serving.config.app.state.context.subscriptions.begin_closing()
    serving.should_exit = True
