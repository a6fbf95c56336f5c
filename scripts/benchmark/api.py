"""What the HTTP API costs: `scripts/bench api`.

One process of `conserver api` over a Redis of its own; the clients are here and speak HTTP as
plainly as they can. The table has, each with its target:

1. accepting a vCon of 5 KB (document, job and push in one script): p99 at 500 requests/s, and the
   most that one process takes, with its CPU time per request;
2. the same by vcon-server's POST /vcon, which indexes it too: p99 at 100 requests/s;
3. ten recordings of 1 MB at once with `Prefer: respond-async`: until each has its job;
4. asking for a job: p50 over one connection;
5. memory: at rest, what an upload of 100 MB adds, what 200 uploads at once add.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from servers import Redis, free_port

DOCUMENT_BYTES = 5000
UPLOAD_BYTES = 100 << 20
UPLOADS = 200
EACH_BYTES = 4 << 20
PIECE_BYTES = 1 << 16
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


class Server:
    """`conserver api` in a process of its own."""

    def __init__(self, folder: Path, redis_url: str) -> None:
        config = folder / "config.json"
        chain = {"links": ["hear"], "ingress_lists": ["calls"]}
        links = {"hear": {"module": "links.transcribe"}}
        config.write_text(json.dumps({"links": links, "chains": {"main": chain}}))
        self.port = free_port()
        environment = {
            **os.environ,
            "REDIS_URL": redis_url,
            "CONSERVER_CONFIG_FILE": str(config),
            "CONSERVER_UPLOAD_DIR": str(folder / "uploads"),
        }
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "conserver", "api", "--port", str(self.port)],
                env=environment,
                stdout=log,
                stderr=log,
            )

    def close(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(30)

    def cpu_s(self) -> float:
        """Its CPU time so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * _TICK_S

    def memory_mb(self, which: str = "VmRSS") -> float:
        """Its resident memory, now or (VmHWM) at most since `forget_peak`."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(which):
                return int(line.split()[1]) / 1024
        raise AssertionError(which)

    def forget_peak(self) -> None:
        """Measure the most memory from now on."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")


class Connection:
    """One connection that is kept open."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def open(self) -> Connection:
        """Connect."""
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def ask(self, head: bytes, body: bytes = b"") -> tuple[int, bytes]:
        """One request, and the status and body of its answer."""
        self._writer.write(head + b"\r\nHost: localhost\r\n\r\n" + body)
        return await self.answer()

    async def send(self, head: bytes, size: int) -> tuple[int, bytes]:
        """One request with a body of so many bytes, piece by piece."""
        self._writer.write(head + f"\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n".encode())
        piece = bytes(PIECE_BYTES)
        for _ in range(size // PIECE_BYTES):
            self._writer.write(piece)
            await self._writer.drain()
        return await self.answer()

    async def answer(self) -> tuple[int, bytes]:
        """The next answer."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
        return int(head[9:12]), await self._reader.readexactly(length)

    def close(self) -> None:
        """Disconnect."""
        self._writer.close()


def post(route: str = "/v1/vcons?list=calls") -> tuple[bytes, bytes]:
    """The head and body of a request with a new vCon."""
    head = b'{"vcon":"0.4.0","uuid":"' + str(uuid.uuid4()).encode() + b'"'
    head += b',"parties":[{"tel":"+4930123456","name":"Ada"}],"subject":"'
    body = head.ljust(DOCUMENT_BYTES - 2, b"x") + b'"}'
    line = f"POST {route} HTTP/1.1\r\nContent-Length: {len(body)}".encode()
    return line, body


def recording(size: int) -> tuple[bytes, bytes]:
    """The head and body of a request for a transcription whose answer is the job."""
    part = b"--x\r\nContent-Disposition: form-data; name="
    body = part + b'"model"\r\n\r\nwhisper-1\r\n' + part + b'"file"; filename="a.wav"\r\n\r\n'
    body += os.urandom(size) + b"\r\n--x--\r\n"
    line = (
        "POST /v1/audio/transcriptions HTTP/1.1\r\nPrefer: respond-async\r\n"
        f"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: {len(body)}"
    )
    return line.encode(), body


async def connections(port: int, count: int) -> list[Connection]:
    """So many connections."""
    return [await Connection(port).open() for _ in range(count)]


async def at_rate(
    server: Server, per_s: float, duration_s: float, *, route: str, wanted: int = 202
) -> list[float]:
    """The latencies (s) of requests that come at a rate, however long the answers take, sorted."""
    free: asyncio.Queue[Connection] = asyncio.Queue()
    for one in await connections(server.port, 100):
        free.put_nowait(one)
    latencies: list[float] = []

    async def send(due_s: float) -> None:
        connection = await free.get()
        status, answer = await connection.ask(*post(route))
        assert status == wanted, answer
        latencies.append(time.perf_counter() - due_s)
        free.put_nowait(connection)

    began_s, tasks = time.perf_counter(), []
    for number in range(int(per_s * duration_s)):
        due_s = began_s + number / per_s
        if (wait_s := due_s - time.perf_counter()) > 0:
            await asyncio.sleep(wait_s)
        tasks.append(asyncio.create_task(send(due_s)))
    await asyncio.gather(*tasks)
    return sorted(latencies)


async def together(server: Server, rounds: int) -> list[float]:
    """Of ten recordings that come at once, how long (s) the last waits for its job, by rounds."""
    all_of_them, lasts = await connections(server.port, 10), []

    async def one(connection: Connection, request: tuple[bytes, bytes]) -> None:
        status, answer = await connection.ask(*request)
        assert status == 202, answer

    for _ in range(rounds):
        requests = [recording(1 << 20) for _ in all_of_them]
        began_s = time.perf_counter()
        pairs = zip(all_of_them, requests, strict=True)
        await asyncio.gather(*[one(*pair) for pair in pairs])
        lasts.append(time.perf_counter() - began_s)
    return lasts


def percentile_ms(latencies: list[float], part: float) -> float:
    """Of sorted latencies in seconds, in milliseconds."""
    return latencies[int(len(latencies) * part)] * 1000


async def saturated(server: Server, duration_s: float) -> tuple[float, float]:
    """Requests per second, and the server's CPU seconds per request, with 32 connections."""
    done = 0
    until_s = time.perf_counter() + duration_s

    async def go(connection: Connection) -> None:
        nonlocal done
        while time.perf_counter() < until_s:
            status, answer = await connection.ask(*post())
            assert status == 202, answer
            done += 1

    before_s, began_s = server.cpu_s(), time.perf_counter()
    await asyncio.gather(*[go(one) for one in await connections(server.port, 32)])
    return done / (time.perf_counter() - began_s), (server.cpu_s() - before_s) / done


async def status(server: Server, count: int) -> tuple[float, float]:
    """The median latency of asking for a job, and the server's CPU seconds for it."""
    connection = await Connection(server.port).open()
    _, answer = await connection.ask(*post())
    head = f"GET /v1/jobs/{json.loads(answer)['id']} HTTP/1.1".encode()
    latencies, before_s = [], server.cpu_s()
    for _ in range(count):
        began_s = time.perf_counter()
        found, _ = await connection.ask(head)
        latencies.append(time.perf_counter() - began_s)
        assert found == 200
    return statistics.median(latencies), (server.cpu_s() - before_s) / count


async def uploads(server: Server, count: int, size: int) -> float:
    """What so many uploads at once add to the memory at its peak, in MB."""
    all_of_them = await connections(server.port, count)

    async def one(connection: Connection) -> None:
        found, offer = await connection.ask(b"POST /v1/uploads HTTP/1.1\r\nContent-Length: 0")
        assert found == 201, offer
        path = json.loads(offer)["url"]
        found, answer = await connection.send(f"PUT {path} HTTP/1.1".encode(), size)
        assert found == 201, answer

    before_mb = server.memory_mb()
    server.forget_peak()
    await asyncio.gather(*[one(connection) for connection in all_of_them])
    return server.memory_mb("VmHWM") - before_mb


async def ready(server: Server) -> None:
    """Wait until it serves."""
    connection = None
    while connection is None:
        try:
            connection = await Connection(server.port).open()
        except OSError:
            await asyncio.sleep(0.05)
    await connection.ask(b"GET /readyz HTTP/1.1")
    connection.close()


async def measured(server: Server, scale: float) -> list[tuple[str, str, str]]:
    """Every row: what it is, what was measured, its target."""
    await ready(server)
    rest_mb = server.memory_mb()
    await saturated(server, 1)  # It is warm then, as a server that runs is.
    ours = await at_rate(server, 500, 20 * scale, route="/v1/vcons?list=calls")
    theirs = await at_rate(server, 100, 20 * scale, route="/vcon?ingress_lists=calls", wanted=201)
    ten = await together(server, max(int(20 * scale), 2))
    per_s, cpu_s = await saturated(server, 10 * scale)
    asked_s, asked_cpu_s = await status(server, int(3000 * scale))
    one_mb = await uploads(server, 1, UPLOAD_BYTES)
    many_mb = await uploads(server, UPLOADS, EACH_BYTES)
    return [
        (
            "a vCon of 5 KB is accepted at 500/s: p99",
            f"{percentile_ms(ours, 0.99):.1f} ms (p50 {percentile_ms(ours, 0.5):.1f})",
            "< 10 ms",
        ),
        (
            "the same by vcon-server's POST /vcon at 100/s: p99",
            f"{percentile_ms(theirs, 0.99):.1f} ms (p50 {percentile_ms(theirs, 0.5):.1f})",
            "",
        ),
        (
            "ten recordings of 1 MB at once have their jobs after: the last",
            (
                f"{statistics.median(ten) * 1000:.0f} ms (cold, in the first round: "
                f"{ten[0] * 1000:.0f}; the worst other of {len(ten)}: {max(ten[1:]) * 1000:.0f})"
            ),
            "< 100 ms",
        ),
        (
            "the most that one process accepts",
            f"{per_s:.0f}/s ({cpu_s * 1e6:.0f} µs of CPU each)",
            ">= 1500/s",
        ),
        (
            "how far a job is: p50",
            f"{asked_s * 1000:.2f} ms ({asked_cpu_s * 1e6:.0f} µs of CPU)",
            "< 2 ms",
        ),
        ("an upload of 100 MB adds to its memory", f"{one_mb:.0f} MB", "< 32 MB"),
        ("200 uploads of 4 MB at once add", f"{many_mb:.0f} MB", "< 200 MB"),
        ("memory at rest", f"{rest_mb:.0f} MB", "<= 70 MB"),
    ]


def _run(main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main())


def main(words: list[str]) -> int:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench api",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="a look, no figures to quote")
    asked = parser.parse_args(words)
    redis = Redis().start()
    try:
        with tempfile.TemporaryDirectory() as folder:
            server = Server(Path(folder), redis.url)
            try:
                rows = _run(lambda: measured(server, 0.1 if asked.quick else 1))
            finally:
                server.close()
    finally:
        redis.close()
    load = os.getloadavg()[0]
    print(f"load of the machine at the end: {load:.1f} on {os.cpu_count()} cores\n")
    print("| | measured | target |\n|---|---|---|")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    return 0
