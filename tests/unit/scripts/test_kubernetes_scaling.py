"""A day of load against the autoscaler that scripts/kubernetes configures.

Simulated by the second: items arrive, pods work on them, and the HorizontalPodAutoscaler decides
every 15 s by its documented formula [1] with the behaviour of our ScaledObject, on the number that
GET /v1/lists/{name}/backlog would give. KEDA itself decides between none and one pod [2].

[1] https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/#algorithm-details
[2] https://keda.sh/docs/latest/reference/scaledobject-spec/
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.manifests import environment, named

SYNC_S = 15
"""How often the HorizontalPodAutoscaler decides: its default."""
TOLERANCE = 0.1
"""It changes nothing while the metric is so near to the target: its default."""
START_S = 60
"""Until a new pod works: a place on a node, the image, the start."""
DAY_S = 86_400
HOUR_S = 3600


@dataclass
class Item:
    """One vCon, and how often a pod that went has handed it back."""

    came_s: int
    work_s: int
    ended_s: int = -1
    handed_back: int = 0


@dataclass
class Pod:
    """What a pod works on: (end, item). drain_until_s: when it is killed, once it has to go."""

    ready_s: int
    work: list[tuple[int, Item]] = field(default_factory=list)
    drain_until_s: int | None = None


class Autoscaler:
    """The HorizontalPodAutoscaler with a ScaledObject's behaviour, and KEDA's part of it."""

    def __init__(self, spec: dict[str, Any], minimum: int | None = None) -> None:
        self._minimum: int = spec["minReplicaCount"] if minimum is None else minimum
        self._maximum: int = spec["maxReplicaCount"]
        self._cooldown_s: int = spec["cooldownPeriod"]
        [trigger] = spec["triggers"]
        self._target = float(trigger["metadata"]["targetValue"])
        behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
        self._up, self._down = behavior["scaleUp"], behavior["scaleDown"]
        self._recommended: deque[tuple[int, int]] = deque()
        self._changes: deque[tuple[int, int]] = deque()
        self._active_s = 0

    def decide(self, now_s: int, replicas: int, metric: int) -> int:
        """The new number of replicas."""
        if metric > 0:
            self._active_s = now_s
        if replicas == 0:
            return self._changed(now_s, 0, 1 if metric > 0 else 0)
        if self._minimum == 0 and metric == 0 and now_s - self._active_s >= self._cooldown_s:
            return self._changed(now_s, replicas, 0)
        wanted = self._wanted(replicas, metric)
        self._recommended.append((now_s, wanted))
        while self._recommended[0][0] <= now_s - HOUR_S:
            self._recommended.popleft()
        if wanted < replicas:  # The highest of the window, but nothing above what there is.
            wanted = min(replicas, max(self._recent(now_s, self._down)))
        elif wanted > replicas:  # The lowest of the window, but nothing below what there is.
            wanted = max(replicas, min(self._recent(now_s, self._up)))
        wanted = min(max(wanted, 1, self._minimum), self._maximum)
        if wanted > replicas:
            wanted = min(wanted, self._limit_up(now_s, replicas))
        elif wanted < replicas:
            wanted = max(wanted, self._limit_down(now_s, replicas))
        return self._changed(now_s, replicas, wanted)

    def _recent(self, now_s: int, behavior: dict[str, Any]) -> list[int]:
        """What was recommended in a stabilization window, the latest included."""
        since_s = now_s - behavior["stabilizationWindowSeconds"]
        return [n for at_s, n in self._recommended if at_s > since_s or at_s == now_s]

    def _wanted(self, replicas: int, metric: int) -> int:
        """AverageValue: the sum is divided by the target; near to it nothing is changed."""
        if abs(metric / (self._target * replicas) - 1) <= TOLERANCE:
            return replicas
        return math.ceil(metric / self._target)

    def _limit_up(self, now_s: int, replicas: int) -> int:
        limits: list[int] = []
        for policy in self._up["policies"]:
            added = self._sum(now_s - policy["periodSeconds"], 1)
            start = replicas - added
            more = start * policy["value"] / 100 if policy["type"] == "Percent" else policy["value"]
            limits.append(math.ceil(start + more))
        return max(limits, default=replicas)

    def _limit_down(self, now_s: int, replicas: int) -> int:
        limits: list[int] = []
        for policy in self._down["policies"]:
            assert policy["type"] == "Pods"
            start = replicas + self._sum(now_s - policy["periodSeconds"], -1)
            limits.append(start - policy["value"])
        return min(limits)

    def _sum(self, since_s: int, sign: int) -> int:
        return sum(abs(n) for at_s, n in self._changes if at_s > since_s and n * sign > 0)

    def _changed(self, now_s: int, replicas: int, wanted: int) -> int:
        if wanted != replicas:
            self._changes.append((now_s, wanted - replicas))
        return wanted


@dataclass
class Day:
    """What came of it. replicas: (second, number) of every change; asked: the metric at each."""

    items: list[Item]
    replicas: list[tuple[int, int]]
    pod_seconds: int

    def turns(self, within_s: int) -> int:
        """How often less was followed by more within that time."""
        found, down_s = 0, -DAY_S
        for (_, before), (at_s, after) in zip(self.replicas, self.replicas[1:], strict=False):
            if after < before:
                down_s = at_s
            elif at_s - down_s < within_s:
                found += 1
        return found


def simulate(
    arrivals: Callable[[int], float],
    spec: dict[str, Any],
    *,
    capacity: int,
    drain_s: float,
    work_s: tuple[int, int],
    minimum: int | None = None,
    scales_down: bool = True,
) -> Day:
    """One day. arrivals: items per second; capacity: what a pod works on at once."""
    chance = random.Random(7)
    autoscaler = Autoscaler(spec, minimum)
    waiting: deque[Item] = deque()
    pods = [Pod(0) for _ in range(max(autoscaler.decide(0, 1, 0), 1))]
    day = Day([], [(0, len(pods))], 0)
    came = 0.0
    for now_s in range(DAY_S):
        came += arrivals(now_s)
        while came >= 1:
            came -= 1
            item = Item(now_s, chance.randint(*work_s))
            day.items.append(item)
            waiting.append(item)
        _work(pods, waiting, now_s, capacity)
        living = [pod for pod in pods if pod.drain_until_s is None]
        day.pod_seconds += len(living)
        if now_s % SYNC_S:
            continue
        backlog = len(waiting) + sum(len(pod.work) for pod in pods)
        wanted = autoscaler.decide(now_s, len(living), backlog)
        if wanted < len(living) and scales_down:
            for pod in chance.sample(living, len(living) - wanted):
                pod.drain_until_s = now_s + int(drain_s)
        pods += [Pod(now_s + START_S) for _ in range(wanted - len(living))]
        left = sum(pod.drain_until_s is None for pod in pods)
        if left != day.replicas[-1][1]:
            day.replicas.append((now_s, left))
    return day


def _work(pods: list[Pod], waiting: deque[Item], now_s: int, capacity: int) -> None:
    """A second of all pods: what is done ends, who has to go goes, who has room takes."""
    for pod in list(pods):
        for end_s, item in pod.work:
            if end_s <= now_s:
                item.ended_s = now_s
        pod.work = [(end_s, item) for end_s, item in pod.work if end_s > now_s]
        if pod.drain_until_s is not None and (not pod.work or pod.drain_until_s <= now_s):
            for _, item in pod.work:  # Handed back, to the head of the list.
                item.handed_back += 1
                waiting.appendleft(item)
            pods.remove(pod)
    for pod in pods:
        if pod.drain_until_s is None and pod.ready_s <= now_s:
            while waiting and len(pod.work) < capacity:
                item = waiting.popleft()
                pod.work.append((now_s + item.work_s, item))


def workday(now_s: int) -> float:
    """Items per second: a night with few, a morning and an afternoon, and 400 at once at three."""
    hour = now_s / HOUR_S
    level = 0.02
    if 7 <= hour <= 19:
        level += 2.4 * math.sin(math.pi * (hour - 7) / 12) * (0.75 if 12 <= hour < 13 else 1)
    return level + (400 if now_s == 15 * HOUR_S else 0)


def quiet_weekend(now_s: int) -> float:
    """Three items an hour, and one busy quarter of an hour."""
    return 1 if now_s % 1200 == 600 else 0.5 if 14 <= now_s / HOUR_S < 14.25 else 0


@pytest.fixture(scope="module")
def spec() -> dict[str, Any]:
    found = named("api", "ScaledObject", "conserver")["spec"]
    assert isinstance(found, dict)
    return found


def pod(overlay: str) -> dict[str, Any]:
    """How much a pod works on at once, and how long it may drain."""
    given = environment(named(overlay, "Deployment", "conserver"))
    return {
        "capacity": int(given["CONSERVER_WORKERS"]) * int(given["CONSERVER_VCON_CONCURRENCY"]),
        "drain_s": float(given["CONSERVER_SHUTDOWN_TIMEOUT_S"]),
    }


def late(day: Day, limit_s: int) -> list[Item]:
    """Items that took so much longer than the work on them."""
    return [
        item
        for item in day.items
        if (item.ended_s if item.ended_s >= 0 else DAY_S) - item.came_s - item.work_s > limit_s
    ]


LATE_S = 2 * START_S


def test_a_workday_is_followed_without_flapping(spec: dict[str, Any]) -> None:
    day = simulate(workday, spec, work_s=(5, 20), **pod("api"))
    for_ever = simulate(workday, spec, work_s=(5, 20), scales_down=False, **pod("api"))
    assert len(day.items) > 60_000
    assert max(count for _, count in day.replicas) > 10, "it grows"
    assert day.pod_seconds < for_ever.pod_seconds * 0.4, "and shrinks"
    assert day.turns(within_s=600) == 0
    assert not any(item.handed_back for item in day.items)
    assert not late(day, LATE_S)


def test_recordings_that_take_minutes_are_not_cut_short(spec: dict[str, Any]) -> None:
    def third(now_s: int) -> float:
        return workday(now_s) / 3

    day = simulate(third, spec, work_s=(30, 200), **pod("gpu"))
    assert day.turns(within_s=600) == 0
    assert not any(item.handed_back for item in day.items)
    assert not late(day, LATE_S)
    # With the time to drain that is enough for seconds, pods that go take work with them.
    hasty = simulate(third, spec, work_s=(30, 200), capacity=pod("gpu")["capacity"], drain_s=25)
    assert any(item.handed_back for item in hasty.items)


def test_more_per_pod_than_it_works_on_would_swing(spec: dict[str, Any]) -> None:
    """Why targetValue is what it is."""
    [trigger] = spec["triggers"]
    greedy = {"metadata": {**trigger["metadata"], "targetValue": "16"}}
    day = simulate(workday, {**spec, "triggers": [greedy]}, work_s=(5, 20), **pod("api"))
    assert day.turns(within_s=600) > 50


def test_nobody_is_there_while_nothing_waits_and_somebody_as_soon_as_it_does(
    spec: dict[str, Any],
) -> None:
    day = simulate(quiet_weekend, spec, work_s=(5, 20), minimum=0, **pod("api"))
    assert min(count for _, count in day.replicas) == 0
    assert not late(day, LATE_S), "the first item waits for its pod, and no more"
    assert not any(item.handed_back for item in day.items), "a pod that works is never the last"


def test_a_pod_that_works_is_not_idle_for_the_autoscaler(spec: dict[str, Any]) -> None:
    """With what waits alone, a recording of an hour would lose its pod after the cooldown."""
    day = simulate(
        lambda now_s: 1 if now_s == 10 else 0,
        spec,
        capacity=8,
        drain_s=25,
        work_s=(HOUR_S, HOUR_S),
        minimum=0,
    )
    [item] = day.items
    assert item.handed_back == 0
    assert item.ended_s - item.came_s <= HOUR_S + LATE_S
    assert day.replicas[-1][1] == 0
