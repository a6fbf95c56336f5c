"""What docker-compose.yml and the Dockerfile say, as far as it can be known without an engine.

They are checked by schema and linter, and against the code: the settings that they set exist, what
they mount is there, the secrets that they name are made by scripts/make-secrets.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from conserver.config import model as config
from conserver.config import settings

ROOT = Path(__file__).parents[3]
DOCKER = ROOT / "scripts" / "docker"
MONITORING = ROOT / "scripts" / "monitoring"
PUBLISHED = {"api", "prometheus", "grafana"}
"""Services with a port on this machine's loopback."""


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """The file, its anchors resolved."""
    loaded = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    assert isinstance(loaded, dict)
    return loaded


def tool(name: str) -> str:
    """A program that came with the test tools."""
    found = shutil.which(
        name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    )
    assert found, f"{name} is not installed: scripts/install brings it"
    return found


def variables(text: str) -> set[str]:
    """The variables that a text takes from the environment."""
    return set(re.findall(r"(?<!\$)\$\{(\w+)", text))


def test_the_compose_file_fits_the_specification() -> None:
    command = [tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec"]
    subprocess.run([*command, str(ROOT / "docker-compose.yml")], check=True, capture_output=True)


def test_the_dockerfile_pleases_its_linter() -> None:
    subprocess.run([tool("hadolint"), str(DOCKER / "Dockerfile")], check=True)


def test_every_service_is_fit_for_the_night(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert service.get("healthcheck") or "conserver" in name, name
        assert service["restart"] == "unless-stopped", name
        assert service["logging"]["options"]["max-size"], name
        assert service["deploy"]["resources"]["limits"]["memory"], name
        assert service["deploy"]["resources"]["reservations"]["memory"], name
        out = ["egress"] if service["image"].startswith("conserver:") else []
        front = ["front"] if name in PUBLISHED else out
        assert service["networks"] == ["backend", *front], name
        # The API is what clients on this machine talk to. The others: reachable from outside, and
        # no longer to be scaled.
        ports = service.get("ports", [])
        assert not ports or (name in PUBLISHED and ports[0].startswith("127.0.0.1:")), name
        assert "container_name" not in service, name
    assert compose["networks"]["backend"]["internal"] is True


def test_links_reach_out_and_servers_do_not(compose: dict[str, Any]) -> None:
    """Webhooks, language models and recordings by URL need a way out; a database needs none."""
    networks = {name: found or {} for name, found in compose["networks"].items()}
    out = {name for name, found in networks.items() if not found.get("internal")}
    for name, service in compose["services"].items():
        ours = service["image"].startswith("conserver:")
        reaches = bool(out & set(service["networks"]))
        assert reaches == (ours or bool(service.get("ports"))), name


def test_conserver_waits_for_all_that_it_writes_to(compose: dict[str, Any]) -> None:
    service = compose["services"]["conserver"]
    assert {"redis", "postgres", "s3", "elasticsearch"} == set(service["depends_on"])
    assert all(c["condition"] == "service_healthy" for c in service["depends_on"].values())
    assert service["healthcheck"]["test"] == ["CMD", "conserver", "health"]
    grace_s = int(str(service["stop_grace_period"]).rstrip("s"))
    assert grace_s > settings.load({}).shutdown_timeout_s


def test_its_environment_names_only_settings_and_secrets(compose: dict[str, Any]) -> None:
    known = {variable.name for variable in settings.variables()}
    used = variables((DOCKER / "config.yml").read_text())
    for name in compose["services"]["conserver"]["environment"]:
        bare = name.removesuffix("_FILE")
        assert bare in known | used, f"{name} is read by nobody"


def test_its_configuration_loads_with_the_secrets_that_are_mounted(
    compose: dict[str, Any],
) -> None:
    service = compose["services"]["conserver"]
    environ = {
        name.removesuffix("_FILE"): "secret"
        for name in service["environment"]
        if name.endswith("_FILE")
    }
    found = config.load(DOCKER / "config.yml", environ)
    assert set(found.used_storages) == {"postgres", "s3", "elasticsearch"}


def test_the_secrets_are_made_once_and_fit_together(
    compose: dict[str, Any], tmp_path: Path
) -> None:
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    shutil.copy(ROOT / "scripts" / "make-secrets", scripts)
    subprocess.run(["sh", str(scripts / "make-secrets")], check=True, capture_output=True)
    made = {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    for secret in compose["secrets"].values():
        assert Path(secret["file"]).name in made
    password = made["redis_password"].strip()
    assert f">{password} " in made["redis_acl"]
    assert f":{password}@" in made["redis_url"]
    subprocess.run(["sh", str(scripts / "make-secrets")], check=True, capture_output=True)
    again = {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    assert again == made


def test_what_is_mounted_is_there(compose: dict[str, Any]) -> None:
    for entry in compose["configs"].values():
        name = re.sub(r"\$\{\w+:-(.*)\}", r"\1", entry["file"])
        assert (ROOT / name).is_file(), name


def test_what_can_be_set_is_explained(compose: dict[str, Any]) -> None:
    explained = set(re.findall(r"^# (\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    used = variables((ROOT / "docker-compose.yml").read_text())
    assert used - explained <= {"CONSERVER_GPU_MEMORY"}


def test_prometheus_scrapes_what_serves_metrics(compose: dict[str, Any]) -> None:
    """By the names and the port of the services; the queues once, under one name."""
    jobs = {
        job["job_name"]: job
        for job in yaml.safe_load((MONITORING / "prometheus.yml").read_text())["scrape_configs"]
    }
    environment = compose["services"]["conserver"]["environment"]
    port = re.sub(r"\$\{\w+:-(\d+)\}", r"\1", environment["CONSERVER_METRICS_PORT"])
    (hosts,) = jobs["conserver"]["dns_sd_configs"]
    assert set(hosts["names"]) <= compose["services"].keys()
    assert hosts["port"] == int(port)
    (queues,) = jobs["conserver-queues"]["static_configs"]
    assert queues["targets"] == [f"conserver:{port}"]
    assert jobs["conserver-queues"]["metrics_path"] == "/metrics/queues"
    assert {rule["target_label"] for rule in jobs["conserver-queues"]["relabel_configs"]} == {
        "instance"
    }


def test_grafana_is_given_its_data_source_and_its_dashboard(compose: dict[str, Any]) -> None:
    grafana = compose["services"]["grafana"]
    mounted = {
        one["target"]: compose["configs"][one["source"]]["file"] for one in grafana["configs"]
    }
    (source,) = yaml.safe_load((MONITORING / "grafana" / "datasources.yml").read_text())[
        "datasources"
    ]
    host, _, port = source["url"].removeprefix("http://").partition(":")
    assert compose["services"][host]["ports"][0].endswith(f":{port}")
    (provider,) = yaml.safe_load((MONITORING / "grafana" / "dashboards.yml").read_text())[
        "providers"
    ]
    folder = provider["options"]["path"]
    assert f"{folder}/conserver.json" in mounted
    assert grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] in mounted
    assert grafana["environment"]["GF_SECURITY_ADMIN_PASSWORD__FILE"].endswith(
        tuple(grafana["secrets"])
    )
