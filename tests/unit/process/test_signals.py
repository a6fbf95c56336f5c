"""Signals are recorded, whoever gets them, and given back."""

from __future__ import annotations

import os
import select
import signal
import threading

import pytest

from conserver.process.signals import SignalInbox, Stop, held_back, let_in


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


def test_stop_is_set_for_good_and_can_be_cleared_as_a_descriptor() -> None:
    stop = Stop()
    assert (stop.requested, readable(stop.fileno())) == (False, False)
    stop.request()
    stop.request()
    assert readable(stop.fileno())
    stop.clear()
    assert not readable(stop.fileno())
    assert stop.requested
    stop.close()


def test_a_signal_that_was_held_back_is_not_lost() -> None:
    inbox = SignalInbox()
    with inbox.listening():
        with held_back():
            # To this thread: another that the test run has would take it, as it holds nothing back.
            signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
            assert inbox.take() == []
        assert [number for number, _ in inbox.take()] == [signal.SIGTERM]
    inbox.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_let_in_is_the_other_half_of_held_back(number: signal.Signals) -> None:
    with held_back():
        assert number in signal.pthread_sigmask(signal.SIG_BLOCK, [])
        let_in()
        assert number not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
