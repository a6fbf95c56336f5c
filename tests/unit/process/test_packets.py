"""Packets of one connection."""

from __future__ import annotations

import socket

from conserver.process import packets


def test_news_are_packets_and_the_end() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with theirs:
            assert not packets.has_news(ours)
            assert packets.send(theirs, {"type": "hello"})
            assert packets.has_news(ours)
            assert packets.receive(ours) == ({"type": "hello"}, -1)
            assert not packets.has_news(ours)
        assert packets.has_news(ours)
