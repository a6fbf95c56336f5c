"""One example of every call that Conserver makes of a script, with the state that it works on.

EXAMPLES holds them by name. `example(queue)` prepares the state and gives the call, not yet sent.
A script without an example fails tests/contract/test_queue_twice.py: nothing escapes its rules.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from conserver.operations import forget
from conserver.process.messages import Blame, Blamed
from conserver.queue import calls, host_calls, operator_calls, schedules, wishes
from conserver.queue.calls import Demand, Hint, Move, Write
from conserver.queue.operator_calls import Submission
from conserver.queue.script import Call
from tests.queues import DEFAULT_LIMITS, Consumer, Queue, document, record

Example = Callable[[Queue], Call]
BODY = document("u1", subject="written")


def _holding(queue: Queue, *uuids: str) -> Consumer:
    """A consumer that holds these, with documents."""
    queue.supply("q", *uuids)
    consumer = Consumer(queue)
    consumer.take(len(uuids))
    return consumer


def _register(queue: Queue) -> Call:
    return host_calls.register("h1", "c1", ["q", "other"])


def _beat(queue: Queue) -> Call:
    Consumer(queue)
    return host_calls.beat("h1", "beat-1", {"pid": 7, "status": "{}"})


def _claim(queue: Queue) -> Call:
    Consumer(queue)
    queue.supply("q", "u1", "u2")
    queue.push("q", document("u3"), "missing")
    queue.client.rpush("conserver:returned:q", record("t1", "back", state=b"{}"), "u2")
    return calls.claim("h1", "c1", 1, True, [Demand("q", 4)], DEFAULT_LIMITS)


def _claim_suspect(queue: Queue) -> Call:
    Consumer(queue)
    queue.suspect("s1")
    queue.suspect("s2")
    return calls.claim("h1", "c1", 1, True, [Demand("q", 4)], DEFAULT_LIMITS)


def _claim_of_nothing(queue: Queue) -> Call:
    Consumer(queue)
    return calls.claim("h1", "c1", 1, True, [Demand("q", 4)], DEFAULT_LIMITS)


def _write(queue: Queue) -> Call:
    consumer = _holding(queue, "u1", "u2")
    first, second = consumer.holds.values()
    entries = [
        Write(first.token, first.epoch, "u1", first.revision, "chain", b"{}", BODY),
        Write(second.token, second.epoch, "", 0, "chain", b'{"links":["a"]}', b""),
    ]
    return calls.write("c1", 1, entries)


def _write_inline(queue: Queue) -> Call:
    queue.push("q", document("u1"))
    item = Consumer(queue).one()
    return calls.write("c1", 1, [Write(item.token, item.epoch, "u1", 0, "chain", b"", BODY)])


def _write_conflict(queue: Queue) -> Call:
    consumer = _holding(queue, "u1")
    [item] = consumer.holds.values()
    queue.client.set("vcon:u1", document("u1", subject="newer"))
    entry = Write(item.token, item.epoch, "u1", item.revision, "chain", b"{}", BODY)
    return calls.write("c1", 1, [entry])


def _settle(queue: Queue) -> Call:
    consumer = _holding(queue, "u1", "u2")
    first, second = consumer.holds.values()
    entries = [
        consumer.settlement(first, "out", body=BODY, expiry_s=100, etags={"s3": "1"}),
        consumer.settlement(second, "out", "audit", expiry_s=100),
    ]
    return calls.settle("c1", entries)


def _settle_without_a_list(queue: Queue) -> Call:
    consumer = _holding(queue, "u1")
    [item] = consumer.holds.values()
    queue.client.set("out", "not a list")
    return calls.settle("c1", [consumer.settlement(item, "out", body=BODY)])


def _moves(consumer: Consumer, **how: Any) -> list[Move]:
    return [Move(item.token, item.epoch)._replace(**how) for item in consumer.holds.values()]


def _release(queue: Queue) -> Call:
    return calls.move("release", "c1", _moves(_holding(queue, "u1", "u2")))


def _release_state(queue: Queue) -> Call:
    return calls.move("release", "c1", _moves(_holding(queue, "u1"), state=b"{}"))


def _release_suspect(queue: Queue) -> Call:
    queue.suspect("s1")
    consumer = Consumer(queue)
    consumer.claim()
    return calls.move("release", "c1", _moves(consumer))


def _park(queue: Queue) -> Call:
    return calls.move("park", "c1", _moves(_holding(queue, "u1", "u2"), after_ms=1000, state=b"{}"))


def _dead(queue: Queue) -> Call:
    moves = _moves(_holding(queue, "u1", "u2"), why=b'{"reason":"broken"}')
    return calls.move("dead", "c1", moves, 1000)


def _begin(queue: Queue) -> Call:
    queue.suspect("s1")
    item = Consumer(queue).one()
    return calls.begin("c1", item.token, item.epoch)


def _return(queue: Queue) -> Call:
    consumer = _holding(queue, "u1", "u2")
    item = next(iter(consumer.holds.values()))
    blame = Blame("items", [Blamed(item.token, item.epoch, counts=True)])
    return host_calls.return_items("h1", "c1", blame)


def _return_everything(queue: Queue) -> Call:
    _holding(queue, "u1", "u2")
    return host_calls.return_items("h1", "c1", Blame("everything"))


def _reap(queue: Queue) -> Call:
    _holding(queue, "u1")
    Consumer(queue, "c2")
    queue.run(host_calls.beat("h1", "beat-1", {}))
    return host_calls.reap("h1", "beat-1")


def _reap_an_empty_host(queue: Queue) -> Call:
    queue.run(host_calls.beat("h1", "beat-1", {}))
    return host_calls.reap("h1", "beat-1")


def _promote(queue: Queue) -> Call:
    consumer = _holding(queue, "u1", "u2")
    consumer.park(*consumer.holds.values(), after_ms=0)
    return host_calls.promote("q", 10, everything=True)


def _stray(queue: Queue) -> Call:
    consumer = _holding(queue, "u1", "u2")
    return calls.stray("c1", 1, list(consumer.holds)[:1])


def _replay(queue: Queue) -> Call:
    consumer = _holding(queue, "u1", "u1")
    consumer.dead_letter(*consumer.holds.values())
    member = queue.client.zrange("conserver:dead:q", 0, 0)[0]
    return operator_calls.replay("q", member, b"u1", b"{}")


def _replay_without_record(queue: Queue) -> Call:
    queue.push("DLQ:q", "u1")
    return operator_calls.replay("q", b"", b"u1")


def _forget(queue: Queue) -> Call:
    for uuid, keep_s in (("done", 600), ("at-work", None), ("unknown", 600)):
        queue.client.set(f"vcon:{uuid}", "{}", ex=keep_s)
        queue.client.hset(f"conserver:revision:{uuid}", "r", "1")
    return forget.forget(["done", "at-work"])


def _wish(_: Queue) -> Call:
    index = wishes.Index("conserver:operations", 5, "op-1", 10)
    fields = {"kind": "purge", "limit": 1}
    return wishes.wish("conserver:operation:op-1", fields, expire_s=60, index=index)


def _audit(queue: Queue) -> Call:
    queue.client.rpush("conserver:audit", "older", "old")
    return wishes.audit(b"new", 2)


def _purge(queue: Queue) -> Call:
    consumer = _holding(queue, "u1", "u1")
    consumer.dead_letter(*consumer.holds.values())
    member = queue.client.zrange("conserver:dead:q", 0, 0)[0]
    return operator_calls.purge("q", member, b"u1")


def _sweep(queue: Queue) -> Call:
    consumer = _holding(queue, "u1", "u2")
    consumer.dead_letter(*consumer.holds.values())
    return host_calls.sweep("q", -10, 100)


def _put_back(queue: Queue) -> Call:
    queue.client.rpush("conserver:returned:q", record("t1", "back"), "u1", "u2")
    return host_calls.put_back("q", 100)


def _cancel_waiting(queue: Queue) -> Call:
    queue.push("q", "u1", "u2")
    return operator_calls.cancel("q", b"u1")


def _cancel_parked(queue: Queue) -> Call:
    consumer = _holding(queue, "u1", "u2")
    consumer.park(*consumer.holds.values(), after_ms=1000)
    [member, _] = queue.client.zrange("conserver:parked:q", 0, -1)
    return operator_calls.cancel("conserver:parked:q", member)


def _hurry(queue: Queue) -> Call:
    consumer = _holding(queue, "u1", "u2")
    consumer.park(*consumer.holds.values(), after_ms=60_000)
    [member, _] = queue.client.zrange("conserver:parked:q", 0, -1)
    return operator_calls.hurry("q", member, 1)


def _cancel_running(queue: Queue) -> Call:
    consumer = _holding(queue, "u1")
    [token] = consumer.holds
    return operator_calls.cancel("conserver:inflight:c1", token, "conserver:cancelled:c1")


def _submit(queue: Queue) -> Call:
    return operator_calls.submit(Submission("q", "u1", "job-1", BODY, fields=[("by", "me")]))


def _submit_for_later(queue: Queue) -> Call:
    queue.client.set("conserver:upload:1", BODY, ex=100)
    far_ms = 4_000_000_000_000
    one = Submission("q", "u1", "job-1", source="conserver:upload:1", due_ms=far_ms)
    return operator_calls.submit(one)


def _submit_for_a_token(queue: Queue) -> Call:
    return operator_calls.submit(Submission("q", "u1", "job-1", BODY, api_token="ann", most_jobs=1))


def _jobs(queue: Queue, *jobs: str) -> Consumer:
    """A consumer that holds an item of each job."""
    for job in jobs:
        queue.run(operator_calls.submit(Submission("q", f"u-{job}", job, document(f"u-{job}"))))
    consumer = Consumer(queue)
    consumer.take(len(jobs))
    return consumer


def _claim_jobs(queue: Queue) -> Call:
    queue.run(operator_calls.submit(Submission("q", "u1", "job-1", document("u1"))))
    queue.supply("q", "u2#by-hand")
    Consumer(queue)
    return calls.claim("h1", "c1", 1, True, [Demand("q", 4)], DEFAULT_LIMITS)


def _settle_jobs(queue: Queue) -> Call:
    consumer = _jobs(queue, "done", "filtered")
    first, second = consumer.holds.values()
    entries = [
        consumer.settlement(first, "out", expiry_s=100),
        consumer.settlement(second, status="filtered"),
    ]
    return calls.settle("c1", entries)


def _release_job(queue: Queue) -> Call:
    return calls.move("release", "c1", _moves(_jobs(queue, "job-1", "job-2")))


def _park_job(queue: Queue) -> Call:
    why = b'{"storages":["pg"]}'
    return calls.move(
        "park", "c1", _moves(_jobs(queue, "job-1"), after_ms=1000, state=b"{}", why=why)
    )


def _dead_job(queue: Queue) -> Call:
    return calls.move("dead", "c1", _moves(_jobs(queue, "job-1"), why=b'{"reason":"no"}'), 1000)


def _return_jobs(queue: Queue) -> Call:
    consumer = _jobs(queue, "job-1", "job-2")
    queue.client.sadd("conserver:cancelled:c1", next(iter(consumer.holds)))
    return host_calls.return_items("h1", "c1", Blame("everything"))


def _promote_job(queue: Queue) -> Call:
    consumer = _jobs(queue, "job-1")
    consumer.park(*consumer.holds.values(), after_ms=0)
    return host_calls.promote("q", 10, everything=True)


def _hurry_job(queue: Queue) -> Call:
    queue.run(_park_job(queue))
    [member] = queue.client.zrange("conserver:parked:q", 0, -1)
    return operator_calls.hurry("q", member, 1)


def _replay_job(queue: Queue) -> Call:
    consumer = _jobs(queue, "job-1")
    consumer.dead_letter(*consumer.holds.values())
    member = queue.client.zrange("conserver:dead:q", 0, 0)[0]
    return operator_calls.replay("q", member, b"u-job-1", b"{}")


def _cancel_job(queue: Queue) -> Call:
    queue.run(operator_calls.submit(Submission("q", "u1", "job-1", document("u1"))))
    return operator_calls.cancel("q", b"u1#job-1")


def _hint(queue: Queue) -> Call:
    consumer = _jobs(queue, "job-1", "job-2")
    progress = b'{"done":1,"total":2}'
    hints = [Hint(i.token, i.epoch, "transcribe", progress, 0) for i in consumer.holds.values()]
    return calls.hint("c1", hints)


def _callbacks(queue: Queue, *jobs: str) -> Consumer:
    """A consumer that holds an item of each job, all with a callback for every end."""
    ends = "cancelled completed failed filtered"
    fields: list[tuple[str, str | bytes | int]] = [("callback", b"x"), ("callback_on", ends)]
    for job in jobs:
        body = document(f"u-{job}")
        queue.run(operator_calls.submit(Submission("q", f"u-{job}", job, body, fields=fields)))
    consumer = Consumer(queue)
    consumer.take(len(jobs))
    return consumer


def _settle_callbacks(queue: Queue) -> Call:
    consumer = _callbacks(queue, "done", "filtered")
    first, second = consumer.holds.values()
    entries = [
        consumer.settlement(first, "out", expiry_s=100),
        consumer.settlement(second, status="filtered"),
    ]
    return calls.settle("c1", entries)


def _dead_callback(queue: Queue) -> Call:
    why = b'{"reason":"no"}'
    return calls.move("dead", "c1", _moves(_callbacks(queue, "job-1"), why=why), 1000)


def _return_callbacks(queue: Queue) -> Call:
    consumer = _callbacks(queue, "job-1", "job-2")
    queue.client.sadd("conserver:cancelled:c1", next(iter(consumer.holds)))
    return host_calls.return_items("h1", "c1", Blame("everything"))


def _cancel_callback(queue: Queue) -> Call:
    consumer = _callbacks(queue, "job-1")
    consumer.release(*consumer.holds.values())
    return operator_calls.cancel("q", b"u-job-1#job-1")


def _claim_expired(queue: Queue) -> Call:
    consumer = _callbacks(queue, "job-1")
    consumer.release(*consumer.holds.values())
    queue.client.hset("conserver:job:job-1", "callback_until_ms", 1)
    return calls.claim("h1", "c1", 2, True, [Demand("q", 4)], DEFAULT_LIMITS)


def _told(queue: Queue) -> Call:
    consumer = _callbacks(queue, "job-1")
    [item] = consumer.holds.values()
    consumer.settle(item)
    [seq] = queue.client.hmget("conserver:job:job-1", "notification_seq")
    return calls.told("job-1", int(seq), "delivered")


NOW_MS = 1_790_000_000_000


def _fire(queue: Queue, due_ms: int = NOW_MS, list_name: str = "q") -> Call:
    """A push that is due: one host has seen the schedule before."""
    queue.client.hset("conserver:schedule:nightly", "fired:c", NOW_MS - 60_000)
    return schedules.fire(
        "nightly", "c", due_ms, NOW_MS, catch_up_ms=1e9, host="h1", list_name=list_name,
        payloads=["u1", "u2"],
    )  # fmt: skip


def _fire_a_run(queue: Queue) -> Call:
    queue.client.hset("conserver:schedule:nightly", "fired:c", NOW_MS - 60_000)
    return schedules.fire(
        "nightly", "c", NOW_MS, NOW_MS, catch_up_ms=1e9, host="h1", lease_ms=30_000
    )


def _tend(queue: Queue) -> Call:
    _, run, *_ = queue.run(_fire_a_run(queue))
    return schedules.tend(
        "nightly", run.decode(), NOW_MS, lease_ms=30_000, result={"done": 2}, list_name="q",
        payloads=["u1", "u2"],
    )  # fmt: skip


def _waiting(queue: Queue) -> Call:
    queue.push("q", "u1", "u2")
    return host_calls.waiting(["q", "other"], 5000)


EXAMPLES: dict[str, Example] = {
    "register": _register,
    "beat": _beat,
    "claim": _claim,
    "claim a suspect": _claim_suspect,
    "claim of nothing": _claim_of_nothing,
    "write": _write,
    "write what was pushed": _write_inline,
    "write with a conflict": _write_conflict,
    "settle": _settle,
    "settle without a list": _settle_without_a_list,
    "release": _release,
    "release with state": _release_state,
    "release a suspect": _release_suspect,
    "park": _park,
    "dead": _dead,
    "begin": _begin,
    "return": _return,
    "return everything": _return_everything,
    "reap": _reap,
    "reap an empty host": _reap_an_empty_host,
    "promote": _promote,
    "stray": _stray,
    "replay": _replay,
    "replay without a record": _replay_without_record,
    "purge": _purge,
    "wish": _wish,
    "forget": _forget,
    "audit": _audit,
    "sweep": _sweep,
    "put_back": _put_back,
    "cancel what waits": _cancel_waiting,
    "cancel what is parked": _cancel_parked,
    "cancel what runs": _cancel_running,
    "hurry": _hurry,
    "hurry a job": _hurry_job,
    "submit": _submit,
    "submit for later": _submit_for_later,
    "submit for a token": _submit_for_a_token,
    "claim jobs": _claim_jobs,
    "settle jobs": _settle_jobs,
    "release a job": _release_job,
    "park a job": _park_job,
    "dead job": _dead_job,
    "return jobs": _return_jobs,
    "promote a job": _promote_job,
    "replay a job": _replay_job,
    "cancel a job": _cancel_job,
    "hint": _hint,
    "settle callbacks": _settle_callbacks,
    "dead callback": _dead_callback,
    "return callbacks": _return_callbacks,
    "cancel a callback": _cancel_callback,
    "claim what has expired": _claim_expired,
    "told": _told,
    "fire": _fire,
    "fire a run": _fire_a_run,
    "tend": _tend,
    "waiting": _waiting,
}

# Executed twice, they do it twice: a slot that is not used is lost, and bytes of a token that were
# not sent; a link is throttled for a little longer. Nothing else happens.
COUNTERS = {"slots", "spend", "throttle"}

# What a consumer says of itself or its items: void once it has been declared dead.
BY_CONSUMERS = [
    name
    for name in EXAMPLES
    if name.partition(" ")[0]
    in ("claim", "write", "settle", "release", "park", "dead", "begin", "stray", "hint")
]
