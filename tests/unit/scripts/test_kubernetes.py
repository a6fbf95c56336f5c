"""What scripts/kubernetes says: checked by the schemas of Kubernetes and against the code."""

from __future__ import annotations

import copy
import importlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from conserver.config import model as config
from conserver.config import settings
from conserver.http.api.lists import Backlog
from tests.conftest import absent
from tests.manifests import (
    KUBERNETES,
    OVERLAYS,
    ROOT,
    Manifest,
    built,
    container,
    environment,
    named,
    of_kind,
)

SCHEMAS = "1.33"
"""The version of Kubernetes whose schemas are asked."""
OTHERS = {"keda.sh", "monitoring.coreos.com"}
THEIRS = Path(__file__).parent / "schemas"
SLACK_S = 10
"""Between the end of a drain and the kill: the rest is returned, and processes end."""


def workloads(overlay: str) -> list[Manifest]:
    return of_kind(overlay, "Deployment")


def pod(deployment: Manifest) -> Manifest:
    found = deployment["spec"]["template"]["spec"]
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_it_fits_the_schemas_of_kubernetes(overlay: str) -> None:
    try:
        schemas = importlib.import_module("kubernetes_validate")
    except ImportError:
        absent("kubernetes-validate is not installed: scripts/install brings it")
    for one in built(overlay):
        if one["apiVersion"].partition("/")[0] not in OTHERS:
            schemas.validate(one, SCHEMAS, strict=True)


def faults(one: Manifest) -> list[tuple[str, str]]:
    """Where an object of KEDA or the Prometheus operator misses its schema, and how; the files of
    the schemas say where they come from.
    """
    try:
        jsonschema = importlib.import_module("jsonschema")
    except ImportError:
        absent("jsonschema is not installed: scripts/install brings it")
    schema = json.loads((THEIRS / f"{one['kind']}.json").read_text())
    if one["kind"] == "ScaledObject":
        # KEDA 2.17 brought it, which docs/kubernetes.md asks for; the schema is of 2.16.
        behaviors = ["static", "currentReplicas", "currentReplicasIfHigher"]
        schema["$defs"]["Fallback"]["properties"]["behavior"] = {"enum": behaviors}
    found = jsonschema.Draft202012Validator(schema).iter_errors(one)
    return [(fault.json_path, fault.message) for fault in found]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_it_fits_the_schemas_of_keda_and_of_the_prometheus_operator(overlay: str) -> None:
    for one in built(overlay):
        if one["apiVersion"].partition("/")[0] in OTHERS:
            assert not faults(one), one["kind"]


def test_those_schemas_find_what_is_wrong() -> None:
    [scaled] = of_kind("api", "ScaledObject")
    wrong = copy.deepcopy(scaled)
    wrong["spec"]["maxReplicas"] = 3
    wrong["spec"]["fallback"]["behavior"] = "none"
    wrong["spec"]["triggers"][0]["metadata"]["targetValue"] = 6
    del wrong["spec"]["scaleTargetRef"]["name"]
    assert {path for path, _ in faults(wrong)} == {
        "$.spec",
        "$.spec.fallback.behavior",
        "$.spec.scaleTargetRef",
        "$.spec.triggers[0].metadata.targetValue",
    }


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_pod_has_no_more_rights_than_it_needs(overlay: str) -> None:
    for deployment in workloads(overlay):
        spec, one = pod(deployment), container(deployment)
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] == 10001, "as in the Dockerfile"
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        assert one["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert one["resources"]["limits"]["memory"]
        writable = {m["mountPath"] for m in one["volumeMounts"] if not m.get("readOnly")}
        assert writable == {"/tmp", "/data"}, "what a process writes has a place, and no more"
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        assert volumes.keys() == {mount["name"] for mount in one["volumeMounts"]}
        assert all(len(volume) == 2 for volume in volumes.values()), "one source each"
    dockerfile = (ROOT / "scripts/docker/Dockerfile").read_text()
    assert "USER 10001:10001" in dockerfile
    assert "WORKDIR /data" in dockerfile


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_secrets_are_files_and_not_in_here(overlay: str) -> None:
    assert not of_kind(overlay, "Secret")
    text = yaml.safe_dump_all(built(overlay))
    assert "secretKeyRef" not in text
    page = (ROOT / "docs" / "kubernetes.md").read_text()
    for deployment in workloads(overlay):
        mounts = {mount["mountPath"] for mount in container(deployment)["volumeMounts"]}
        for name, value in environment(deployment).items():
            if name.endswith("_FILE"):
                folder, _, key = value.rpartition("/")
                assert folder in mounts, f"{name} is in a folder that is mounted"
                assert key in page, f"docs/kubernetes.md says how {key} is made"
        for volume in pod(deployment)["volumes"]:
            if "secret" in volume:
                assert volume["secret"]["secretName"] in page
                assert volume["secret"]["defaultMode"] == 0o440


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_its_variables_are_settings(overlay: str) -> None:
    known = {one.name for one in settings.variables()}
    for deployment in workloads(overlay):
        given = environment(deployment)
        unknown = {name for name in given if not {name, name.removesuffix("_FILE")} & known}
        assert unknown <= {"POSTGRES_PASSWORD_FILE"}, "what its config.yml asks for besides"
        settings.load(given)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_stop_drains_before_it_is_killed(overlay: str) -> None:
    for deployment in workloads(overlay):
        drain_s = float(environment(deployment)["CONSERVER_SHUTDOWN_TIMEOUT_S"])
        hook = container(deployment).get("lifecycle", {}).get("preStop")
        before_s = float(hook["exec"]["command"][1]) if hook else 0
        grace_s = pod(deployment)["terminationGracePeriodSeconds"]
        assert grace_s >= before_s + drain_s + SLACK_S


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_selects_pods_finds_them(overlay: str) -> None:
    pods = [one["spec"]["template"] for one in workloads(overlay)]

    def chosen(selector: dict[str, str]) -> list[Manifest]:
        return [p for p in pods if selector.items() <= p["metadata"]["labels"].items()]

    for deployment in workloads(overlay):
        labels = deployment["spec"]["selector"]["matchLabels"]
        assert len(chosen(labels)) == 1
        for spread in pod(deployment)["topologySpreadConstraints"]:
            assert spread["labelSelector"]["matchLabels"] == labels
    disruptions = of_kind(overlay, "PodDisruptionBudget")
    assert len(disruptions) == len(workloads(overlay)), "one for each"
    for one in disruptions:
        assert len(chosen(one["spec"]["selector"]["matchLabels"])) == 1
        assert one["spec"]["maxUnavailable"] == 1
    policies = of_kind(overlay, "NetworkPolicy")
    everybody = named(overlay, "NetworkPolicy", "conserver")
    assert len(chosen(everybody["spec"]["podSelector"]["matchLabels"])) == len(pods)
    assert everybody["spec"]["ingress"] == []
    ports = [_ports(p) for policy in policies for p in _selected(policy, chosen)]
    assert ports
    for service in of_kind(overlay, "Service"):
        [target] = chosen(service["spec"]["selector"])
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= _ports(target)
    for policy in policies:
        for rule in policy["spec"].get("ingress", ()):
            [target] = chosen(policy["spec"]["podSelector"]["matchLabels"])
            assert {port["port"] for port in rule["ports"]} <= _ports(target)
    for monitor in of_kind(overlay, "PodMonitor"):
        [target] = chosen(monitor["spec"]["selector"]["matchLabels"])
        assert {one["port"] for one in monitor["spec"]["podMetricsEndpoints"]} <= _ports(target)


def _selected(policy: Manifest, chosen: Any) -> list[Manifest]:
    found: list[Manifest] = chosen(policy["spec"]["podSelector"]["matchLabels"])
    return found


def _ports(template: Manifest) -> set[str]:
    [one] = template["spec"]["containers"]
    return {port["name"] for port in one.get("ports", ())}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_all_of_it_is_in_one_namespace(overlay: str) -> None:
    assert {one["metadata"].get("namespace") for one in built(overlay)} == {"conserver"}


def test_probes_fit_a_consumer_and_a_server() -> None:
    workers, api = (
        named("api", "Deployment", "conserver"),
        named("api", "Deployment", "conserver-api"),
    )
    assert "livenessProbe" not in container(workers), "Redis that is away restarts no worker"
    assert container(workers)["readinessProbe"]["exec"]["command"] == ["conserver", "health"]
    routes = (ROOT / "conserver/http/api/probes.py").read_text()
    for probe in ("livenessProbe", "readinessProbe"):
        assert f'"{container(api)[probe]["httpGet"]["path"]}"' in routes
    assert container(api)["livenessProbe"]["httpGet"]["path"] == "/livez"


def test_images_are_targets_of_the_dockerfile() -> None:
    targets = set(
        re.findall(r"^FROM run AS (\w+)", (ROOT / "scripts/docker/Dockerfile").read_text(), re.M)
    )
    used = {
        container(deployment)["image"] for overlay in OVERLAYS for deployment in workloads(overlay)
    }
    assert used == {f"conserver:{target}" for target in targets}
    assert container(named("gpu", "Deployment", "conserver"))["image"] == "conserver:cuda"


def test_a_gpu_is_given_back_before_the_next_pod_takes_it() -> None:
    workers = named("gpu", "Deployment", "conserver")
    assert container(workers)["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert workers["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}


def test_its_configuration_loads_with_the_secrets_that_are_mounted() -> None:
    _config_map("cpu")
    given = environment(named("cpu", "Deployment", "conserver"))
    environ = {name.removesuffix("_FILE"): "secret" for name in given if name.endswith("_FILE")}
    found = config.load(KUBERNETES / "base" / "config.yml", environ)
    assert set(found.used_storages) == {"postgres"}


def _config_map(overlay: str) -> str:
    [found] = of_kind(overlay, "ConfigMap")
    name = found["metadata"]["name"]
    for deployment in workloads(overlay):
        volumes = {volume["name"]: volume for volume in pod(deployment)["volumes"]}
        assert volumes["config"]["configMap"]["name"] == name
    assert re.fullmatch(r"conserver-config-\w{10}", name), "a change of it rolls pods out"
    return str(name)


# ---- autoscaling ----


def test_the_autoscaler_asks_a_route_that_there_is() -> None:
    scaled = named("api", "ScaledObject", "conserver")
    [trigger] = scaled["spec"]["triggers"]
    assert trigger["type"] == "metrics-api"
    told = trigger["metadata"]
    assert all(isinstance(value, str) for value in told.values()), "KEDA's metadata are texts"
    service = named("api", "Service", "conserver-api")["metadata"]
    host, _, path = told["url"].removeprefix("http://").partition("/")
    assert host == f"{service['name']}.{service['namespace']}.svc"
    lists = yaml.safe_load((KUBERNETES / "base/config.yml").read_text())["chains"]["main"]
    assert path == f"v1/lists/{lists['ingress_lists'][0]}/backlog"
    assert told["valueLocation"] in Backlog.model_fields
    assert told["authMode"] == "bearer"
    auth = named("api", "TriggerAuthentication", trigger["authenticationRef"]["name"])
    assert [one["parameter"] for one in auth["spec"]["secretTargetRef"]] == ["token"]
    assert auth["spec"]["secretTargetRef"][0]["name"] in _page()


def test_it_wants_three_quarters_per_pod_of_what_a_pod_does_at_once() -> None:
    scaled = named("api", "ScaledObject", "conserver")
    workers = named("api", "Deployment", "conserver")
    given = environment(workers)
    at_once = int(given["CONSERVER_WORKERS"]) * int(given["CONSERVER_VCON_CONCURRENCY"])
    [trigger] = scaled["spec"]["triggers"]
    assert float(trigger["metadata"]["targetValue"]) == 0.75 * at_once
    assert "replicas" not in workers["spec"], "the number is the autoscaler's"
    assert scaled["spec"]["scaleTargetRef"]["name"] == workers["metadata"]["name"]
    assert named("cpu", "Deployment", "conserver")["spec"]["replicas"] == 2


def _page() -> str:
    return Path(ROOT / "docs" / "kubernetes.md").read_text()
