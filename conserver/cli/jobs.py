"""`conserver jobs`: lists, shows and cancels jobs, which are submissions with an id."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated, Any

import typer

from conserver.cli.arguments import AsJson, ConfigFile, Limit, examples, typer_app
from conserver.cli.environment import actor, configured_lists, load_settings, redis_client
from conserver.cli.output import Output, age_text, note
from conserver.cli.tables import Marked, Style
from conserver.config.validation import suggest
from conserver.errors import EXIT_USAGE, BootError
from conserver.operations import jobs
from conserver.operations.jobs import STATUSES, Job
from conserver.operations.lists import check_known

_STYLES: dict[str, Style] = {"completed": "good", "failed": "bad", "waiting": "warning"}

JobId = Annotated[str, typer.Argument(metavar="JOB", show_default=False)]

app = typer_app("Jobs: list, show, cancel.")


@app.command("list", epilog=examples("jobs list --status failed"))
def list_(
    name: Annotated[
        str, typer.Option("--list", "-l", metavar="NAME", help="Only of this list.")
    ] = "",
    status: Annotated[
        str, typer.Option("--status", metavar="STATUS", help="queued, processing, failed ...")
    ] = "",
    limit: Limit = 50,
    config: ConfigFile = "",
    json: AsJson = False,
) -> int:
    """List jobs with their statuses, newest first."""
    output = Output(as_json=json)
    if status and status not in STATUSES:
        hint = suggest(status, STATUSES) or f"one of {', '.join(STATUSES)}"
        raise BootError(f"--status {status}: there is no such status ({hint})", EXIT_USAGE)
    settings = load_settings(config)
    with redis_client(settings) as client:
        found = list(islice(jobs.newest(client, name, status), limit or None))
        if name and not found and not any(jobs.newest(client, name)):
            check_known(client, [name], configured_lists(settings))
    output.value([jobs.as_data(job) for job in found])
    rows = [
        (
            job.id,
            Marked(job.status, _STYLES[job.status]) if job.status in _STYLES else job.status,
            job.list,
            job.uuid,
            _progress(job),
            age_text(max(time.time() - job.created_at, 0.0)),
        )
        for job in found
    ]
    output.table(("job", "status", "list", "uuid", "at", "age"), rows, none="no jobs")
    return 0


@app.command()
def show(job: JobId, json: AsJson = False) -> int:
    """Show one job: where it is, how far, and how it ended."""
    with redis_client(load_settings()) as client:
        _print(Output(as_json=json), jobs.get(client, job))
    return 0


@app.command()
def cancel(job: JobId, json: AsJson = False) -> int:
    """Take a job out of the queues.

    A running job stops before its next link.
    """
    output = Output(as_json=json)
    settings = load_settings()
    configured, keep_s = configured_lists(settings), settings.orphan_expiry_s
    with redis_client(settings) as client:
        found = jobs.cancel(client, job, actor=actor(), configured=configured, keep_s=keep_s)
    output.value(jobs.as_data(found))
    if found.ended:
        output.line(f"{job} is {found.status}")
    else:
        note(f"{job} is {found.status}: it stops at its next link")
    return 0


def _print(output: Output, job: Job) -> None:
    output.value(jobs.as_data(job))
    failure = str(job.notification_error.get("error", "")).partition("\n")[0]
    told: dict[str, Any] = {
        **jobs.as_data(job),
        "created_at": _time(job.created_at),
        "updated_at": _time(job.updated_at),
        "link": _progress(job),
        "progress": "",
        "error": "",
        "retry_at": _time(job.retry_at),
        ("waits_for" if job.status == "waiting" else "error"): job.why,
        "notification_error": failure,
    }
    for name, value in told.items():
        if value not in ("", {}, 0):
            output.line(f"{name:<12} {value}")


def _time(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if at_s else ""


def _progress(job: Job) -> str:
    """The link that runs, and its progress."""
    if job.ended or not job.link:
        return ""
    done, total = job.progress.get("done"), job.progress.get("total")
    if done is None:
        return job.link
    of = f" of {total:g}" if isinstance(total, int | float) else ""
    return f"{job.link}, {done:g}{of} {job.progress.get('unit', '')}".rstrip()
