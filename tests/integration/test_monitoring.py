"""Alert rules and the dashboard: promtool takes them, and what they ask for is what is told.

One Prometheus scrapes one daemon, and answers every question of the rules and of the dashboard.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
import yaml
from servers import Redis

from tests.clients import http_client
from tests.conftest import absent
from tests.daemon import Daemon, elements, push, vcon
from tests.helpers import eventually, free_port
from tests.pages import prose

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "scripts" / "monitoring"
NAME = re.compile(r"\bconserver_[a-z_]+\b")
LABELS = {"list", "chain", "instance", "datasource"}
"""Variables of the dashboard."""
EXPECTED = (
    "conserver_items_total",
    "conserver_item_duration_seconds",
    "conserver_list_items",
    "conserver_worker_",
    "conserver_redis_",
)
"""Beginnings of metrics that every daemon has series of."""


def program(name: str) -> str:
    """A program of Debian's package prometheus."""
    found = shutil.which(name)
    if found is None:
        absent(f"{name} is not installed: scripts/services install tools")
    return found


def rules() -> list[dict[str, Any]]:
    """The alerts."""
    (group,) = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana reads it."""
    found: dict[str, Any] = json.loads((MONITORING / "grafana" / "conserver.json").read_text())
    return found


def questions() -> list[tuple[str, str]]:
    """(where, PromQL) of every panel, variable and alert."""
    board = dashboard()
    asked = [
        (f"panel {panel['title']}", target["expr"])
        for panel in board["panels"]
        for target in panel.get("targets", ())
    ]
    asked += [(f"annotation {one['name']}", one["expr"]) for one in board["annotations"]["list"]]
    asked += [
        (f"variable {one['name']}", re.sub(r"label_values\((\w+), \w+\)", r"\1", one["definition"]))
        for one in board["templating"]["list"]
        if one["type"] == "query"
    ]
    return asked + [(f"alert {rule['alert']}", rule["expr"]) for rule in rules()]


def test_promtool_takes_the_rules() -> None:
    command = [program("promtool"), "check", "rules", "alerts.yml"]
    done = subprocess.run(command, cwd=MONITORING, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_fires_in_one_scenario_and_is_silent_in_another() -> None:
    files = sorted(MONITORING.glob("*.test.yml"))
    tests = [test for file in files for test in yaml.safe_load(file.read_text())["tests"]]
    assert {test["name"] for test in tests} == {
        f"{rule['alert']} {what}" for rule in rules() for what in ("fires", "is silent")
    }
    for test in tests:
        (expected,) = test["promql_expr_test"]
        assert expected["exp_samples"] == [{"value": int(test["name"].endswith(" fires"))}]
    command = [program("promtool"), "test", "rules", *(file.name for file in files)]
    done = subprocess.run(command, cwd=MONITORING, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_takes_the_configuration(tmp_path: Path) -> None:
    text = (MONITORING / "prometheus.yml").read_text()
    alerts = str(MONITORING / "alerts.yml")
    (tmp_path / "prometheus.yml").write_text(text.replace("/etc/prometheus/alerts.yml", alerts))
    command = [program("promtool"), "check", "config", str(tmp_path / "prometheus.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_its_section_in_the_runbook() -> None:
    """And the runbook has no section for an alert that is gone."""
    page = prose(ROOT / "docs" / "operations.md")
    sections = set(re.findall(r"^### (Conserver\w+)$", page, re.MULTILINE))
    named = set()
    for rule in rules():
        path, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        assert path == "docs/operations.md"
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"]
        named.add(anchor)
    assert named == {section.lower() for section in sections}


def test_the_dashboard_can_be_loaded_into_any_grafana() -> None:
    """Its data source is a variable, its uid is fixed, and its panels do not overlap."""
    board = dashboard()
    assert (board["uid"], board["title"]) == ("conserver", "Conserver")
    assert {one["name"] for one in board["templating"]["list"]} == LABELS
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
        if panel["type"] != "row":
            assert panel["datasource"]["uid"] == "${datasource}"


@pytest.fixture(scope="module")
def metrics_port() -> int:
    """Where the daemon of this module serves its metrics."""
    return free_port()


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, metrics_port: int) -> Iterator[Daemon]:
    """A daemon that has done some items, with one more on its list."""
    folder = tmp_path_factory.mktemp("host")
    config = {
        "storages": {"files": {"module": "storage.file", "options": {"path": str(folder / "v")}}},
        "links": {"tag": {"module": "links.tag", "options": {"tags": ["seen"]}}},
        "chains": {
            "main": {
                "links": ["tag"],
                "storages": ["files"],
                "ingress_lists": ["in"],
                "egress_lists": ["out"],
            }
        },
    }
    port = str(metrics_port)
    with (
        Redis() as server,
        Daemon(folder, server.url, config, CONSERVER_METRICS_PORT=port) as running,
        redis.Redis.from_url(server.url) as client,
    ):
        push(client, "in", [vcon() for _ in range(20)])
        running.until(lambda: len(elements(client, "out")) == 20)
        yield running


def told(daemon: Daemon, port: int) -> set[str]:
    """The names of all samples that are told, or would be once there is something to tell."""
    assert daemon.process is not None
    names = set()
    for path in ("/metrics", "/metrics/queues"):
        text = httpx.get(f"http://127.0.0.1:{port}{path}", timeout=60).text
        for name, kind in re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE):
            ends = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
            names |= {name + end for end in ends}
    return names


def test_every_metric_that_is_named_exists(daemon: Daemon, metrics_port: int) -> None:
    """In rules, in the dashboard, and in the documentation's table, which lists them all."""
    names = told(daemon, metrics_port)
    unknown = [
        (where, name)
        for where, question in questions()
        for name in NAME.findall(question)
        if name not in names
    ]
    assert not unknown
    page = (ROOT / "docs" / "monitoring.md").read_text()
    described = set(re.findall(r"^\| `(conserver_\w+)`", page, re.MULTILINE))
    assert described == {re.sub("_(bucket|sum|count)$", "", name) for name in names}


@pytest.fixture(scope="module")
def prometheus(
    daemon: Daemon, tmp_path_factory: pytest.TempPathFactory, metrics_port: int
) -> Iterator[httpx.Client]:
    """A Prometheus that scrapes the daemon every second, as its client."""
    folder = tmp_path_factory.mktemp("prometheus")
    target = {"static_configs": [{"targets": [f"127.0.0.1:{metrics_port}"]}]}
    (folder / "prometheus.yml").write_text(
        yaml.safe_dump(
            {
                "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                "rule_files": [str(MONITORING / "alerts.yml")],
                "scrape_configs": [
                    {"job_name": "conserver", **target},
                    {
                        "job_name": "conserver-queues",
                        "metrics_path": "/metrics/queues",
                        **target,
                    },
                ],
            }
        )
    )
    port = free_port()
    command = [
        program("prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log) as process,
        http_client(f"http://127.0.0.1:{port}", timeout=60) as client,
    ):
        try:
            eventually(lambda: _scraped(client), 100)
            yield client
        finally:
            process.kill()


def _scraped(client: httpx.Client) -> bool:
    """Whether both pages were scraped often enough for a rate."""
    try:
        if client.get("/-/ready").status_code != 200:
            return False
    except httpx.TransportError:
        return False
    counts = ask(client, "count_over_time(up[1m]) >= 3")
    return len(counts) == 2


def ask(client: httpx.Client, question: str) -> list[dict[str, Any]]:
    """The answer to an instant query."""
    answer = client.get("/api/v1/query", params={"query": question}).json()
    assert answer["status"] == "success", f"{question}: {answer.get('error')}"
    found: list[dict[str, Any]] = answer["data"]["result"]
    return found


def test_prometheus_answers_every_question(prometheus: httpx.Client) -> None:
    """The questions are well formed, and those about what happened here have answers.

    A busy machine may miss a scrape, which has one second: an answer may come with the next one.
    """
    jobs = {"conserver", "conserver-queues"}
    eventually(lambda: {one["metric"]["job"] for one in ask(prometheus, "up == 1")} == jobs)
    for where, question in questions():
        text = question.replace("$__rate_interval", "1m")
        text = re.sub(r"\$(list|chain|instance)", ".*", text)
        ask(prometheus, text)
        if where.startswith("panel") and any(f"({one}" in text for one in EXPECTED):
            eventually(partial(ask, prometheus, text), message=f"{where}: {text}")


def test_no_alert_fires_where_all_is_well(prometheus: httpx.Client) -> None:
    answer = prometheus.get("/api/v1/rules").json()
    (group,) = answer["data"]["groups"]
    assert {rule["name"] for rule in group["rules"]} == {rule["alert"] for rule in rules()}
    assert [rule["lastError"] for rule in group["rules"] if rule.get("lastError")] == []
    firing = prometheus.get("/api/v1/alerts").json()["data"]["alerts"]
    assert [one["labels"]["alertname"] for one in firing if one["state"] == "firing"] == []


def test_what_is_told_is_what_promtool_likes(daemon: Daemon, metrics_port: int) -> None:
    """`promtool check metrics` finds no fault in names and types."""
    for path in ("/metrics", "/metrics/queues"):
        text = httpx.get(f"http://127.0.0.1:{metrics_port}{path}", timeout=60).text
        done = subprocess.run(
            [program("promtool"), "check", "metrics"],
            input=text,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr + done.stdout) == (0, "")
    assert daemon.process is not None
