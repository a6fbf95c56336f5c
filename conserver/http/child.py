"""The API as a child of the supervisor.

It beats in its shared status, so that a standstill of its event loop is noticed; it drains on the
supervisor's word or a SIGTERM, and ends when the supervisor is gone.
"""

from __future__ import annotations

import asyncio
from typing import Any

from conserver.http import server
from conserver.process.boot import Boot
from conserver.process.messages import receive
from conserver.process.shared_status import State
from conserver.telemetry import log

BEAT_EVERY_S = 0.25


def main(boot: Boot) -> int:
    """Serve until told to drain. Raises BootError when it cannot start."""
    assert boot.listener is not None
    keyring = server.keyring_of(boot.settings)
    others = [one for one in boot.other_statuses if not boot.status.is_same(one)]
    statuses = [boot.status, *boot.statuses, *others]
    made = server.serve(boot.settings, boot.config, keyring, boot.host, statuses)
    server.settle(made)
    return server.run_loop(_serve(boot, made))


async def _serve(boot: Boot, serving: Any) -> int:
    """Run a uvicorn server beside the duties of a child."""
    assert boot.listener is not None
    stop = asyncio.Event()
    _watch(boot, stop)
    task = asyncio.ensure_future(server.run(serving, boot.listener))
    while not task.done():
        boot.status.beat()
        # Asked here, because uvloop takes the wakeup descriptor that would make it readable.
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
        # It ends soon after begin_stop, or when there is something to do; at least it beats.
        await asyncio.wait([task], timeout=0.05 if stop.is_set() else BEAT_EVERY_S)
    await task
    return 0


def _watch(boot: Boot, stop: asyncio.Event) -> None:
    """Set `stop` on the supervisor's order, and when the supervisor is gone."""
    loop = asyncio.get_running_loop()

    def on_message() -> None:
        if any(message.get("type") == "drain" for message in receive(boot.supervisor)):
            stop.set()

    def on_end() -> None:
        loop.remove_reader(boot.lifeline)  # They stay readable.
        loop.remove_reader(boot.supervisor.fileno())
        stop.set()

    loop.add_reader(boot.supervisor.fileno(), on_message)
    loop.add_reader(boot.lifeline, on_end)
