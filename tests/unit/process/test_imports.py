"""What a process that starts imports, and what it leaves out."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_START = """
import gc, sys
from conserver.process.imports import cheap_imports
{before}
with cheap_imports():
    collected = gc.isenabled()
    import redis
from opentelemetry import metrics
assert not collected and gc.isenabled()
print(redis.observability.metrics.OTEL_AVAILABLE)
"""


@pytest.mark.parametrize(
    ("before", "environ", "found"),
    [
        ("", {}, "False"),
        ("", {"OTEL_METRICS_EXPORTER": "otlp"}, "True"),
        ("import opentelemetry", {}, "True"),
    ],
)
def test_redis_finds_opentelemetry_only_where_somebody_uses_it(
    before: str, environ: dict[str, str], found: str
) -> None:
    script = _START.format(before=before)
    command = [sys.executable, "-c", script]
    done = subprocess.run(
        command, env={**os.environ, **environ}, capture_output=True, text=True, check=False
    )
    assert (done.stdout.strip(), done.stderr) == (found, "")
