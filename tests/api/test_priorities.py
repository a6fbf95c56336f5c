"""A submission's priority says which list of its chain it goes to."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from tests.api.conftest import document
from tests.queues import Queue

Clients = Callable[[str], httpx.Client]


def test_a_job_goes_to_the_list_of_its_priority(submit: httpx.Client, queue: Queue) -> None:
    wanted = {"list": "calls", "uuid": "u1", "priority": "high"}
    assert submit.post("/v1/jobs", json=wanted).json()["list"] == "urgent"
    assert submit.post("/v1/jobs", json={**wanted, "priority": "normal"}).json()["list"] == "calls"
    assert submit.post("/v1/jobs", json={**wanted, "priority": ""}).json()["list"] == "calls"
    assert (len(queue.waiting("urgent")), len(queue.waiting("calls"))) == (1, 2)


def test_a_vcon_goes_to_the_list_of_its_priority(submit: httpx.Client, queue: Queue) -> None:
    query = {"list": "calls", "priority": "high"}
    answer = submit.post("/v1/vcons", params=query, content=document())
    assert answer.json()["list"] == "urgent"
    assert len(queue.waiting("urgent")) == 1


@pytest.mark.parametrize(
    ("name", "priority", "said"),
    [("calls", "low", "it has high, normal"), ("other", "high", "it has none")],
)
def test_a_priority_that_a_chain_has_not_is_refused(
    submit: httpx.Client, queue: Queue, name: str, priority: str, said: str
) -> None:
    for answer in (
        submit.post("/v1/jobs", json={"list": name, "uuid": "u1", "priority": priority}),
        submit.post("/v1/vcons", params={"list": name, "priority": priority}, content=document()),
    ):
        assert answer.status_code == 422
        assert said in answer.json()["detail"]
    assert not queue.waiting(name)


def test_a_token_for_other_lists_gets_no_further_by_a_priority(clients: Clients) -> None:
    wanted = {"list": "calls", "uuid": "u1", "priority": "high"}
    assert clients("narrow").post("/v1/jobs", json=wanted).status_code == 403
