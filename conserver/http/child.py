"""The API as a child of the supervisor.

The event loop writes a heartbeat to the shared status, so the supervisor notices if the loop hangs.
The process drains when the supervisor orders it, at a SIGTERM, and when the supervisor has died.
"""

from __future__ import annotations

import asyncio
from typing import Any

from conserver.http import server
from conserver.operations import tokens
from conserver.process.boot import Boot
from conserver.process.messages import receive
from conserver.process.shared_status import State
from conserver.telemetry import log

BEAT_EVERY_S = 0.25


def main(boot: Boot) -> int:
    """Serve until ordered to drain. Returns the exit code. Raises BootError."""
    assert boot.listener is not None
    keyring = tokens.keyring_of(boot.settings)
    others = [one for one in boot.other_statuses if not boot.status.is_same(one)]
    statuses = [boot.status, *boot.statuses, *others]
    made = server.serve(boot.settings, boot.config, keyring, boot.host, statuses)
    server.settle(made)
    return server.run_loop(_serve(boot, made))


async def _serve(boot: Boot, serving: Any) -> int:
    """Run a uvicorn server, write heartbeats, and drain when ordered."""
    assert boot.listener is not None
    stop = asyncio.Event()
    _watch(boot, stop)
    task = asyncio.ensure_future(server.run(serving, boot.listener))
    while not task.done():
        boot.status.beat()
        # The loop polls for the signal: uvloop replaces the wakeup descriptor by which a signal
        # handler could wake it.
        if boot.stop is not None and boot.stop.requested:
            stop.set()
        if serving.started and boot.status.state is State.STARTING:
            boot.status.state = State.WORKING
            boot.send("ready")
            host, port, *_ = boot.listener.getsockname()
            log.get_logger().info("api_listens", host=host, port=port)
        if stop.is_set() and boot.status.state is not State.DRAINING:
            boot.status.state = State.DRAINING
            log.get_logger().info("draining", connections=len(serving.server_state.connections))
            server.begin_stop(serving)
        # Wait for the end of the server, but not longer than until the next heartbeat.
        await asyncio.wait([task], timeout=0.05 if stop.is_set() else BEAT_EVERY_S)
    await task
    return 0


def _watch(boot: Boot, stop: asyncio.Event) -> None:
    """Set `stop` when the supervisor orders to drain, and when the supervisor has died."""
    loop = asyncio.get_running_loop()

    def on_message() -> None:
        if any(message.get("type") == "drain" for message in receive(boot.supervisor)):
            stop.set()

    def on_end() -> None:
        loop.remove_reader(boot.lifeline)  # Both would stay readable for ever.
        loop.remove_reader(boot.supervisor.fileno())
        stop.set()

    loop.add_reader(boot.supervisor.fileno(), on_message)
    loop.add_reader(boot.lifeline, on_end)
