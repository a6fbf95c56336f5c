"""scripts/bench: its arithmetic, its loads and its stand-ins; nothing is timed here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import orjson
import pytest
from benchmark import loads, plots, report
from benchmark.contest import Curve, Result, Row, Sample, Verdict, in_turn, percentile_ms
from benchmark.scene import KEY, SECRET, make_bucket, standin

from storage import elasticsearch, s3
from storage.contract import Document, Stored
from tests.contract.places import document


def sample(items: int, client_s: float, redis_s: float = 0.0, wall_s: float = 1.0) -> Sample:
    return Sample(items, wall_s, {"client": client_s, "redis": redis_s}, items * 3, items // 10)


def test_contenders_take_turns() -> None:
    order: list[str] = []

    def contender(name: str) -> Sample:
        order.append(name)
        return sample(100, 1.0)

    found = in_turn({"a": lambda: contender("a"), "b": lambda: contender("b")}, 2, lambda _: None)
    assert order == ["a", "b", "a", "b"]
    assert [len(result.samples) for result in found.values()] == [2, 2]


def test_costs_are_medians_per_item() -> None:
    result = Result("ours", [sample(100, 0.1, 0.2), sample(100, 0.3, 0.1), sample(100, 9.0, 0.3)])
    assert result.cpu_ms() == pytest.approx(3.0)
    assert result.servers_ms == pytest.approx(2.0)
    assert result.per_s == 100
    assert result.commands == 3
    assert result.calls == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("value", "target", "least", "met"),
    [(1, 2, False, True), (3, 2, False, False), (3, 2, True, True), (1, None, False, None)],
)
def test_verdicts(value: float, target: float | None, least: bool, met: bool | None) -> None:
    assert Verdict("it", value, target, "x", least).met is met


def test_percentiles() -> None:
    took_s = [number / 1000 for number in range(1, 101)]
    assert percentile_ms(took_s, 99) == pytest.approx(100)
    assert percentile_ms([0.002], 50) == pytest.approx(2)


def test_the_report_shows_what_was_measured(tmp_path: Path) -> None:
    curve = Curve("size", "bytes", "ms", [1.0, 100.0], {"conserver": [0.1, 0.2]})
    verdicts = [Verdict("CPU", 1.5, 2, "x"), Verdict("rate", 1, 3, "x", least=True)]
    row = Row(
        "tag", "one tag link", [Result("conserver", [sample(10, 0.1)])], verdicts, [], [curve]
    )
    assert "one tag link" in report.block(row)
    assert "| one tag link: CPU | 1.5 x | <= 2 x | met |" in report.table([row])
    assert "| one tag link: rate | 1 x | >= 3 x | missed |" in report.table([row])
    report.write_json(tmp_path / "bench.json", [row], {"items": 10})
    kept = json.loads((tmp_path / "bench.json").read_text())
    assert kept["rows"][0]["verdicts"][0]["met"] is True
    assert kept["rows"][0]["results"][0]["samples"][0]["cpu_s"]["client"] == 0.1
    assert plots.write(tmp_path / "plots", [row])  # draws, or says why it does not


def test_a_load_is_a_vcon_of_the_size_asked_for() -> None:
    size = len(orjson.dumps(loads.document(4000)))
    assert 4500 < size < 5000


@pytest.fixture(scope="module")
def addresses() -> Iterator[dict[str, str]]:
    with ExitStack() as stack:
        yield {kind: standin(stack, kind, 0.0)[0] for kind in ("s3", "elasticsearch")}


def test_the_s3_standin_honours_conditions(addresses: dict[str, str]) -> None:
    make_bucket(addresses["s3"], "vcons")
    options = s3.Options.model_validate(
        {
            "aws_bucket": "vcons",
            "endpoint_url": addresses["s3"],
            "aws_access_key_id": KEY,
            "aws_secret_access_key": SECRET,
        }
    )
    with closing(s3.Storage("s3", options)) as storage:
        storage.open()
        assert storage._conditional
        given = document(1)
        (first,) = storage.save_many([given])
        assert isinstance(first, Stored)
        assert first.etag
        again = Document(given.uuid, given.body, 2, first.etag)
        (second,) = storage.save_many([again])
        assert isinstance(second, Stored)
        assert second.etag != first.etag


def test_the_elasticsearch_standin_takes_bulks(addresses: dict[str, str]) -> None:
    options = elasticsearch.Options(url=addresses["elasticsearch"])
    with closing(elasticsearch.Storage("elasticsearch", options)) as storage:
        storage.open()
        assert storage.save_many([document(1), document(2)]) == [Stored(), Stored()]
