"""uvicorn around the application: as a child of the supervisor, or alone (`conserver api`).

1. Binds the address first and by itself, so that one that is in use, or a port below 1024, is a
   clear error before anything runs.
2. Stops gracefully: no new connections, running requests finish, streams end with a hint to
   reconnect.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
from collections.abc import Coroutine, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from conserver.config.model import Config
from conserver.config.settings import Settings
from conserver.errors import EXIT_UNAVAILABLE, BootError
from conserver.operations import tokens
from conserver.operations.tokens import Keyring, Token
from conserver.telemetry import log

PACKAGES = ("fastapi", "uvicorn", "httptools", "jinja2", "python_multipart", "websockets")
BACKLOG = 1024
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
    return Keyring(found)


def bind(settings: Settings, keyring: Keyring) -> socket.socket:
    """A socket that listens where the settings say; on loopback where there are no tokens.

    Raises:
        BootError: the address cannot be used, with what to do.
    """
    host, port = settings.api_host, settings.api_port
    if not len(keyring) and not settings.api_open and not _is_loopback(host):
        log.get_logger().warning(
            "api_serves_loopback_only",
            instead_of=host,
            what="no token is configured: `conserver token add` makes one",
        )
        host = "127.0.0.1"
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise BootError(
            f"CONSERVER_API_HOST: {host} cannot be resolved: {error}", EXIT_UNAVAILABLE
        ) from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise BootError(_why(host, port, error), EXIT_UNAVAILABLE) from None
    return listener


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _why(host: str, port: int, error: OSError) -> str:
    where = f"the API cannot listen on {host}:{port}"
    if error.errno == errno.EADDRINUSE:
        return f"{where}: another process does; set CONSERVER_API_PORT, or stop that one"
    if error.errno == errno.EACCES:
        return f"{where}: ports below 1024 need root or CAP_NET_BIND_SERVICE; use one above"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{where}: this machine has no such address (CONSERVER_API_HOST)"
    return f"{where}: {error.strerror}"


def serve(settings: Settings, config: Config, keyring: Keyring, host: str = "") -> Any:
    """A uvicorn server, not yet running. host: the id of the supervisor that it belongs to.

    Raises:
        BootError: the extra `api` is not installed.
    """
    check_extra()
    import uvicorn

    from conserver.api import app, context
    from conserver.dashboard import app as dashboard
    from conserver.web.protocol import BoundedProtocol

    made = context.make(settings, config, keyring, host)
    application = app.create(made)
    dashboard.mount(application, made)
    return uvicorn.Server(
        uvicorn.Config(
            application,
            http=BoundedProtocol,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=max(int(settings.shutdown_timeout_s) - 2, 1),
            backlog=BACKLOG,
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
