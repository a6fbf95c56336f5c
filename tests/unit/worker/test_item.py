"""item.py: an item's document, its reverting to what Redis has, and its dead letter."""

from __future__ import annotations

import pytest

from conserver.config.model import ChainConfig
from conserver.errors import Rejected
from conserver.queue.names import name_of
from conserver.queue.record import Claimed, Progress, Source
from conserver.vcon.document import Vcon
from conserver.worker.item import ChainOutcome, Item, OutcomeKind, Route
from tests.queues import document

TEXT = document("u1", subject="as it came")


def route(name: str = "main") -> Route:
    return Route(name, ChainConfig(ingress_lists=["in"]), (), (), (), None, 0.0)


def item(text: bytes = TEXT, payload: bytes = b"u1", **fields: object) -> Item:
    claimed = Claimed("token", 7, 1, False, 0, "in", b"", payload, Source.STORED, text)
    made = Item(claimed, route(), Progress(), 0, 0.0, uuid="u1", text=text, vcon=Vcon.parse(text))
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def opened(made: Item) -> Vcon:
    assert made.vcon is not None
    return made.vcon


def test_an_untouched_document_is_not_changed_and_keeps_its_bytes() -> None:
    one = item(text := b' {"uuid": "u1", "n": 1.0} ')
    one.dump_vcon()
    assert not one.needs_write
    assert one.body is text


def test_reading_data_is_no_change() -> None:
    one = item()
    assert opened(one).data["subject"] == "as it came"
    one.dump_vcon()
    assert not one.needs_write


def test_a_changed_document_is_dumped_once() -> None:
    one = item()
    opened(one).data["subject"] = "new"
    assert one.draft is None, "not before dump_vcon"
    one.dump_vcon()
    assert one.needs_write
    assert one.body == document("u1", subject="new")
    assert one.body is one.body


def test_a_change_that_was_taken_back_is_none() -> None:
    one = item()
    opened(one).data["subject"] = "new"
    one.dump_vcon()
    opened(one).data["subject"] = "as it came"
    one.dump_vcon()
    assert not one.needs_write


def test_what_json_cannot_hold_is_rejected_when_it_is_dumped() -> None:
    one = item()
    opened(one).data["subject"] = object()
    with pytest.raises(Rejected, match="cannot be written as JSON"):
        one.dump_vcon()


def test_a_written_document_is_the_base_of_later_changes() -> None:
    one = item(unsaved=True)
    assert one.needs_write
    opened(one).add_tag("a", "1")
    one.dump_vcon()
    body = one.body
    one.document_written(body, 12)
    assert (one.text, one.revision, one.needs_write) == (body, 12, False)
    assert opened(one).base is body
    one.dump_vcon()
    assert not one.needs_write


def test_revert_to_saved_drops_progress_and_changes_and_nothing_else() -> None:
    saved = Progress(links=["a"], attempts=2).dump()
    one = item(saved_state=saved, unsaved=True, progress=Progress(links=["a", "b"], owed=["x"]))
    opened(one).add_tag("a", "1")
    one.dump_vcon()
    one.revert_to_saved()
    assert one.progress == Progress(links=["a"], attempts=2)
    assert (one.vcon, one.draft, one.body, one.unsaved) == (None, None, TEXT, True)


def test_a_dead_letter_names_the_storage_or_the_link_that_it_is_for() -> None:
    one = item(outcome=ChainOutcome(OutcomeKind.FAILED, "no", "ValueError", "trace", "transcribe"))
    by_link = one.dead_letter_reason("failed", "no")
    assert (by_link["link"], by_link["type"], by_link["traceback"]) == (
        "transcribe",
        "ValueError",
        "trace",
    )
    by_storage = one.dead_letter_reason("rejected", "too large", storage="s3")
    assert by_storage["storage"] == "s3"
    assert "link" not in by_storage
    assert {"uuid": "u1", "list": "in", "chain": "main", "token": "token"}.items() <= (
        by_storage.items()
    )


@pytest.mark.parametrize(
    ("payload", "uuid", "name"),
    [
        (b"u1", "u1", "u1"),
        (b"u1\n", "u1\n", "u1"),
        (b'{"vcon":"0.4.0","uuid":"u1","dialog":"text"}', "", "u1"),
        (b"no uuid", "no uuid", "no uuid"),
    ],
)
def test_log_and_dead_letter_have_one_name_for_it(payload: bytes, uuid: str, name: str) -> None:
    one = item(uuid=uuid)
    one.claimed.payload = payload
    assert one.log_fields()["vcon"] == name == name_of(payload)
    assert one.dead_letter_reason("rejected", "no")["uuid"] == name


def test_a_dead_letter_holds_no_secret() -> None:
    """A dead letter is kept in Redis for days, and `conserver dlq` shows it."""
    trace = "get('https://u:pa55@h/?api_key=k3y')\nValueError: redis://pa55@h"
    one = item(outcome=ChainOutcome(OutcomeKind.FAILED, "no", "ValueError", trace, "transcribe"))
    why = one.dead_letter_reason("failed", "cannot reach redis://:pa55@h")
    assert why["error"] == "cannot reach redis://:***@h"
    assert why["traceback"] == "get('https://u:***@h/?api_key=***')\nValueError: redis://***@h"
    assert why["token"] == "token"
