"""Signals are recorded, whichever thread gets them, and the former handlers are restored."""

from __future__ import annotations

import os
import select
import signal
import threading

import pytest

from conserver.process.signals import SignalInbox, StopFlag, signals_blocked, unblock_signals


def readable(descriptor: int) -> bool:
    return bool(select.select([descriptor], [], [], 0)[0])


def test_an_inbox_keeps_the_signals_in_order_and_wakes_a_select() -> None:
    inbox = SignalInbox()
    with inbox.listening():
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGTERM)
        assert readable(inbox.fileno())
        inbox.clear()
        arrived = inbox.take()
    assert [number for number, _ in arrived] == [signal.SIGHUP, signal.SIGTERM]
    assert arrived[0][1] <= arrived[1][1]
    assert inbox.take() == []
    assert not readable(inbox.fileno())
    inbox.close()


def test_an_inbox_gives_the_handlers_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]
    inbox = SignalInbox()
    with inbox.listening():
        assert signal.getsignal(signal.SIGTERM) != before[0]
    after = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]
    assert after == before
    wakeup = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup)
    assert wakeup != inbox.fileno()
    inbox.close()


def test_a_signal_that_another_thread_gets_wakes_the_main_one() -> None:
    inbox = SignalInbox()
    with inbox.listening():
        sender = threading.Thread(
            target=lambda: signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
        )
        sender.start()
        sender.join()
        assert select.select([inbox.fileno()], [], [], 5)[0]
        inbox.clear()
        assert [number for number, _ in inbox.take()] == [signal.SIGTERM]
    inbox.close()


def test_a_stop_flag_stays_set_when_its_descriptor_is_cleared() -> None:
    stop, inbox = StopFlag(), SignalInbox()
    with inbox.listening():  # It restores the handlers that the flag replaces.
        stop.listen([signal.SIGTERM])
        assert (stop.requested, readable(stop.fileno())) == (False, False)
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert readable(stop.fileno())
        stop.clear()
        assert not readable(stop.fileno())
        assert stop.requested
    stop.close()
    inbox.close()


def test_a_signal_that_was_blocked_is_not_lost() -> None:
    inbox = SignalInbox()
    with inbox.listening():
        with signals_blocked():
            # To this thread: another thread of the test run, which blocks nothing, would take it.
            signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
            assert inbox.take() == []
        assert [number for number, _ in inbox.take()] == [signal.SIGTERM]
    inbox.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_child_unblocks_what_was_blocked_for_its_start(number: signal.Signals) -> None:
    with signals_blocked():
        assert number in signal.pthread_sigmask(signal.SIG_BLOCK, [])
        unblock_signals()
        assert number not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
