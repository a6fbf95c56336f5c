"""A worker that tells the ends of jobs: what it reads, what it leaves alone, what it costs."""

from __future__ import annotations

import base64
import threading
from typing import Any

import orjson
from standardwebhooks import Webhook

from conserver.outbound import callback as callbacks
from conserver.outbound.callback import Callback
from conserver.queue import calls, jobs, keys, operator_calls
from conserver.queue.jobs import Job
from conserver.queue.operator_calls import Submission
from conserver.testing.http_server import Reply, serving
from conserver.vcon.document import Vcon
from tests.conftest import unique
from tests.daemon import vcon
from tests.helpers import eventually
from tests.queues import Queue, record
from tests.workers import RunningWorker, SteppedWorker, link, nothing, storage, tag

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef01234567").decode()
SETTINGS: dict[str, Any] = {
    "delivers": True,
    "callback_private_addresses": True,
    "callback_backoff_s": 0.01,
    "webhook_secret": SECRET,
}


def submit(queue: Queue, url: str, job: str = "j1", **callback: Any) -> str:
    """Submit a vCon as a job with a callback; its uuid."""
    document = vcon()
    made = Callback.model_validate({"url": url, **callback})
    one = Submission("in", document["uuid"], job, orjson.dumps(document))
    one = one._replace(fields=callbacks.job_fields(made))
    assert queue.run(operator_calls.submit(one)) == [b"queued"]
    return str(document["uuid"])


def job_of(queue: Queue, job: str = "j1") -> Job:
    """A job that is known."""
    found = jobs.load(job, queue.client.hgetall(keys.job(job)))
    assert found is not None
    return found


def test_the_end_is_told_and_the_vcon_is_left_alone(redis_url: str) -> None:
    with (
        serving(Reply(204, b"")) as receiver,
        RunningWorker(redis_url, links=[link("it", tag)], **SETTINGS) as worker,
    ):
        uuid = submit(worker.queue, receiver.url, format="vcon")
        eventually(lambda: job_of(worker.queue).notification == "delivered")
        event = Webhook(SECRET).verify(receiver.requests[0].body, receiver.requests[0].headers)
        stored = worker.client.get(keys.document(uuid))
        assert event["data"]["result"] == orjson.loads(stored)
        # Neither its content nor its expiry is the notification's to change.
        assert worker.queue.revision(uuid)[b"c"] == b"main"
        assert worker.client.ttl(keys.document(uuid)) > 1_000_000_000
        assert worker.queue.held(worker.boot.consumer) == []


def test_a_document_that_has_expired_is_looked_for_in_the_storages(redis_url: str) -> None:
    shelf = storage(unique("shelf-"))
    with (
        serving(Reply(503, b""), Reply(204, b"")) as receiver,
        RunningWorker(
            redis_url,
            links=[link("it", tag)],
            storages=[shelf],
            **SETTINGS,
            callback_tries=1,
        ) as worker,
    ):
        uuid = submit(worker.queue, receiver.url, kind="put", format="vcon")
        eventually(lambda: worker.queue.dead(keys.NOTIFICATIONS))
        worker.client.delete(keys.document(uuid), keys.revision(uuid))
        worker.queue.replay(keys.NOTIFICATIONS)
        eventually(lambda: job_of(worker.queue).notification == "delivered")
        assert receiver.requests[-1].json["uuid"] == uuid
        assert not worker.client.exists(keys.document(uuid)), "it is not stored again"


def test_a_callback_that_is_gone_is_a_dead_letter_that_says_so(redis_url: str) -> None:
    with SteppedWorker(redis_url, links=[link("it", nothing)], **SETTINGS) as worker:
        submit(worker.queue, "http://127.0.0.1:9/")
        [payload] = end_of_job(worker)
        worker.client.delete(keys.job("j1"))
        worker.client.rpush(keys.NOTIFICATIONS, payload)
    with RunningWorker(redis_url, links=[link("it", nothing)], **SETTINGS) as running:
        eventually(lambda: running.queue.dead(keys.NOTIFICATIONS))
        [(why, _)] = running.queue.reasons(keys.NOTIFICATIONS)
        assert (why["reason"], why["link"]) == ("rejected", "conserver:notify")
        assert "CONSERVER_JOB_MAX_S" in why["error"]
        assert not running.client.exists(keys.job("j1")), "it does not come back"


def test_a_notification_that_must_not_run_shows_so_on_its_job(redis_url: str) -> None:
    with SteppedWorker(redis_url, links=[link("it", nothing)], **SETTINGS) as worker:
        submit(worker.queue, "http://127.0.0.1:9/")
        [payload] = end_of_job(worker)
        # Neither is what another program has pushed there.
        for text in (payload, b'{"uuid":"u1"}'):
            token = f"t{len(text)}"
            suspect = record(token, text, keys.NOTIFICATIONS, flags="s", deaths=3)
            worker.client.rpush(f"conserver:suspects:{keys.NOTIFICATIONS}", suspect)
        worker.intake.claims = 1_000  # the number of the claim in end_of_job
        for _ in range(2):
            worker.receive()
            worker.claim_if_due()
            worker.flush()
        assert len(worker.queue.dead(keys.NOTIFICATIONS)) == 2
        job = job_of(worker.queue)
        assert job.notification == "failed"
        assert "its worker died 3 times" in job.notification_error["error"]


def end_of_job(worker: SteppedWorker) -> list[bytes]:
    """Settle the job's item by hand, and take its notification out of the queue."""
    number = 1_000
    call = calls.claim(
        worker.boot.host,
        worker.boot.consumer,
        number,
        True,
        [calls.Demand("in", 1)],
        calls.ClaimLimits(),
    )
    [item] = calls.read_claim(worker.queue.run(call)).items
    uuid = item.payload.decode()
    end = calls.Settlement(item.token, item.epoch, uuid, item.revision, "main", b"", 0, (), {})
    worker.queue.run(calls.settle(worker.boot.consumer, [end]))
    return [worker.client.lpop(keys.NOTIFICATIONS)]


def test_what_is_no_notification_is_a_dead_letter(redis_url: str) -> None:
    with RunningWorker(redis_url, links=[link("it", nothing)], **SETTINGS) as worker:
        worker.client.rpush(keys.NOTIFICATIONS, orjson.dumps(vcon()), "no-uuid-of-ours")
        eventually(lambda: len(worker.queue.dead(keys.NOTIFICATIONS)) == 2)
        reasons = {why["reason"] for why, _ in worker.queue.reasons(keys.NOTIFICATIONS)}
        assert reasons == {"rejected"}


def test_a_try_that_failed_keeps_its_payload_and_writes_no_document(redis_url: str) -> None:
    with (
        serving(Reply(500, b"no"), Reply(204, b"")) as receiver,
        RunningWorker(redis_url, links=[link("it", nothing)], **SETTINGS) as worker,
    ):
        uuid = submit(worker.queue, receiver.url)
        eventually(lambda: worker.queue.parked(keys.NOTIFICATIONS))
        [parked] = worker.queue.parked(keys.NOTIFICATIONS)
        assert orjson.loads(parked.payload)["notification"]["job"] == "j1"
        assert orjson.loads(worker.client.get(keys.document(uuid)))["uuid"] == uuid
        worker.queue.promote(keys.NOTIFICATIONS)
        eventually(lambda: job_of(worker.queue).notification == "delivered")
        ids = {request.headers["webhook-id"] for request in receiver.requests}
        assert (len(receiver.requests), len(ids)) == (2, 1)


def test_notifications_run_beside_the_chains_and_do_not_wait_for_them(redis_url: str) -> None:
    """The one thread of the chain is busy the whole time."""
    gate = threading.Event()

    def wait(vcon: Vcon, _context: Any) -> Vcon:
        if vcon.view.get("subject") == "wait":
            gate.wait(300)
        return vcon

    with (
        serving(Reply(204, b"")) as receiver,
        RunningWorker(
            redis_url, links=[link("it", wait)], tick_interval_ms=50, **SETTINGS
        ) as worker,
    ):
        submit(worker.queue, receiver.url)
        worker.queue.push("in", orjson.dumps(vcon(subject="wait")))
        eventually(lambda: job_of(worker.queue).notification == "delivered")
        gate.set()


def test_a_worker_that_is_busy_asks_for_them_once_per_tick(redis_url: str) -> None:
    """A backlog costs nothing more where nobody has callbacks."""
    asked: list[bool] = []

    def note(_worker: SteppedWorker, words: tuple[Any, ...]) -> None:
        if words[0] == "EVALSHA" and keys.CONTROL in words:  # a claim
            asked.append(keys.NOTIFICATIONS in words)

    with SteppedWorker(
        redis_url,
        links=[link("it", nothing)],
        before_command=note,
        tick_interval_ms=3_600_000,
        **SETTINGS,
    ) as worker:
        worker.supply(600)
        worker.claim()
        while items := worker.held.by_token.copy():
            worker.take_queued()
            worker.run(*items.values())
            worker.flush()
            worker.claim_if_due()
        assert len(worker.out()) == 600
        assert len(asked) > 3
        assert asked == [True] + [False] * (len(asked) - 1), "the first one was woken"
