"""What is found to be wrong before the API serves."""

from __future__ import annotations

import pytest

from conserver.errors import BootError
from conserver.http import server
from conserver.http.api import etags
from conserver.http.api.problems import ProblemError
from conserver.http.api.shapes import iso


def test_a_missing_extra_is_named() -> None:
    server.check_extra()
    with pytest.raises(BootError, match=r"extra `api`.*no_such_module"):
        server.check_extra(["os", "no_such_module"])


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("example.com", False),
    ],
)
def test_what_is_loopback(host: str, is_loopback: bool) -> None:
    assert server._is_loopback(host) is is_loopback


def test_moments() -> None:
    assert iso(0) == "1970-01-01T00:00:00.000Z"
    assert iso(1e15).startswith("9999-")


@pytest.mark.parametrize(
    ("if_match", "if_none_match", "tag", "holds"),
    [
        (None, None, None, True),
        ("*", None, None, False),
        ("*", None, '"a"', True),
        ('"a"', None, '"a"', True),
        ('"b", "a"', None, '"a"', True),
        ('W/"a"', None, '"a"', False),
        ('"b"', None, '"a"', False),
        (None, "*", None, True),
        (None, "*", '"a"', False),
        (None, 'W/"a"', '"a"', False),
        (None, '"b"', '"a"', True),
    ],
)
def test_conditions(
    if_match: str | None, if_none_match: str | None, tag: str | None, holds: bool
) -> None:
    if holds:
        etags.check(if_match, if_none_match, tag)
    else:
        with pytest.raises(ProblemError):
            etags.check(if_match, if_none_match, tag)
