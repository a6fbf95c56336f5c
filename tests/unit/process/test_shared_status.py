"""SharedStatus: what one process writes another reads, and reading never fails."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conserver.process.shared_status import ITEMS_MAX, Phase, SharedStatus, State


@pytest.fixture
def status() -> Iterator[SharedStatus]:
    status = SharedStatus.create()
    yield status
    status.close()


def other_view(status: SharedStatus) -> SharedStatus:
    """As another process has it: through its own descriptor and mapping."""
    return SharedStatus(os.dup(status.fd))


def test_a_new_one_is_empty(status: SharedStatus) -> None:
    view = status.read()
    assert (view.heartbeats, view.state, view.items) == (0, State.STARTING, ())
    assert (view.items_done, view.items_failed, view.rss_bytes) == (0, 0, 0)


def test_what_one_side_writes_the_other_reads(status: SharedStatus) -> None:
    other = other_view(status)
    status.beat()
    status.beat()
    status.state = State.WORKING
    status.count(done=3)
    status.count(done=1, failed=2)
    status.set_memory(123 << 20)
    status.set_away({0: "refused", 3: "é" * 200, 63: "full", 64: "left out"})
    status.set_calls(16, 5, 2**32 - 1)
    view = other.read()
    assert (view.heartbeats, view.state) == (2, State.WORKING)
    assert (view.items_done, view.items_failed, view.rss_bytes) == (4, 2, 123 << 20)
    assert (view.capacity, view.busy, view.waiting) == (16, 5, 2**32 - 1)
    assert view.away == {0: "refused", 3: "é" * 128, 63: "full"}
    status.set_away({3: "another"})
    assert other.read().away == {3: "another"}
    assert other.state is State.WORKING
    other.close()


def test_an_item_goes_through_its_phases(status: SharedStatus) -> None:
    other = other_view(status)
    status.hold(7, "token", 2**40, "uuid", "chain")
    (held,) = other.read().items
    assert (held.slot, held.phase, held.link, held.limit_s) == (7, Phase.QUEUED, "", 0.0)
    assert (held.token, held.epoch, held.uuid, held.chain) == ("token", 2**40, "uuid", "chain")
    status.start_link(7, "links.tag", limit_s=1.5, chain_limit_s=60)
    (running,) = other.read().items
    assert (running.phase, running.link) == (Phase.RUNNING, "links.tag")
    assert (running.limit_s, running.chain_limit_s) == (1.5, 60)
    assert (running.token, running.epoch) == ("token", 2**40)
    status.set_phase(7, Phase.UNTIMED)
    assert other.read().items[0].phase is Phase.UNTIMED
    status.set_phase(7, Phase.RUNNING)
    status.set_phase(7, Phase.FINISHING)
    assert other.read().items[0].phase is Phase.FINISHING
    status.free(7)
    assert other.read().items == ()
    other.close()


def test_each_run_of_a_link_and_each_item_has_its_own_number(status: SharedStatus) -> None:
    status.hold(0, "a", 1, "u", "c")
    status.start_link(0, "first")
    (first,) = status.read().items
    status.start_link(0, "second")
    (second,) = status.read().items
    assert second.link_run != first.link_run
    assert second.chain_run == first.chain_run
    status.set_phase(0, Phase.UNTIMED)
    status.set_phase(0, Phase.RUNNING)
    assert status.read().items[0].link_run == second.link_run
    status.free(0)
    status.hold(0, "b", 2, "u", "c")
    status.start_link(0, "first")
    (third,) = status.read().items
    assert third.link_run != second.link_run
    assert third.chain_run != second.chain_run


def test_phases_in_which_an_item_is_at_work() -> None:
    at_work = {phase for phase in Phase if phase.at_work}
    assert at_work == {Phase.RUNNING, Phase.UNTIMED, Phase.FINISHING}


def test_every_slot_can_be_used(status: SharedStatus) -> None:
    for slot in range(ITEMS_MAX):
        status.hold(slot, f"token-{slot}", slot, f"uuid-{slot}", "chain")
    items = status.read().items
    assert [item.token for item in items] == [f"token-{slot}" for slot in range(ITEMS_MAX)]
    assert [item.slot for item in items] == list(range(ITEMS_MAX))


def test_long_text_is_cut_and_a_long_token_is_refused(status: SharedStatus) -> None:
    status.hold(0, "t" * 128, 1, "u" * 500, "é" * 30)
    status.start_link(0, "l" * 500)
    (item,) = status.read().items
    assert item.token == "t" * 128
    assert (item.uuid, item.link, item.chain) == ("u" * 128, "l" * 32, "é" * 20)
    with pytest.raises(ValueError, match="128 bytes"):
        status.hold(1, "t" * 129, 1, "u", "c")
    assert len(status.read().items) == 1


def test_reset_clears_it_for_every_reader(status: SharedStatus) -> None:
    other = other_view(status)
    status.hold(3, "token", 1, "uuid", "chain")
    status.count(done=9)
    status.beat()
    status.reset()
    assert other.read() == SharedStatus.create().read()
    other.close()


def test_closing_twice_is_harmless_and_leaves_no_descriptor() -> None:
    status = SharedStatus.create()
    other = SharedStatus(os.dup(status.fd))
    descriptors = (status.fd, other.fd)
    for each in (status, other, status):
        each.close()
    for descriptor in descriptors:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)


@given(st.binary(min_size=1, max_size=700), st.integers(0, 1200))
def test_a_reader_survives_any_bytes(noise: bytes, at: int) -> None:
    status = SharedStatus.create()
    os.pwrite(status.fd, noise, at)
    view = status.read()
    assert len(view.items) <= ITEMS_MAX
    status.close()
