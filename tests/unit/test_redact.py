"""What must not be shown is not shown, and nothing else is lost."""

from __future__ import annotations

import pytest

from conserver.redact import HIDDEN, is_secret_name, printable, redact, redact_text


@pytest.mark.parametrize(
    "name",
    ["password", "PGPASSWORD", "api_key", "apiKey", "X-Api-Key", "Authorization", "auth_token",
     "aws_secret_access_key", "client_secret", "cookie"],
)  # fmt: skip
def test_names_of_secrets(name: str) -> None:
    """Names that say "secret" in any of the usual spellings are known."""
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name",
    ["vcon", "link", "max_tokens", "item_token", "password_file", "keyboard", "key", "passed"],
)
def test_harmless_names(name: str) -> None:
    """Names that merely resemble one are shown."""
    assert not is_secret_name(name)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("redis://user:pa55@host:6379/0", "redis://user:***@host:6379/0"),
        ("redis://:pa55@host", "redis://:***@host"),
        ("redis://user@host:6379", "redis://user@host:6379"),
        ("postgresql://u:p@ss:w@host/db", "postgresql://u:***@host/db"),
        ("no url: a@b", "no url: a@b"),
        ("at https://h/x?mail=a@b:c", "at https://h/x?mail=a@b:c"),
        (
            "from amqp://a:b@c to https://d:e@f/g",
            "from amqp://a:***@c to https://d:***@f/g",
        ),
    ],
)
def test_passwords_in_urls(text: str, expected: str) -> None:
    """The password goes, wherever the URL stands; user, host and path stay."""
    assert redact_text(text) == expected


def test_nested_values() -> None:
    """Mappings and lists are walked; an empty secret is shown as empty, which is no secret."""
    value = {
        "options": {"host": "db", "password": "x", "urls": ["redis://u:p@h"]},
        "token": "",
        "n": 3,
    }
    assert redact(value) == {
        "options": {"host": "db", "password": HIDDEN, "urls": ["redis://u:***@h"]},
        "token": "",
        "n": 3,
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain, with ümläuts, 通話 and \u00a0", "plain, with ümläuts, 通話 and \u00a0"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("two\nlines\t\x07", "two\\nlines\\t\\x07"),
        ("\x9b2J \u202egnp.exe \ud800", "\\x9b2J \\u202egnp.exe \\ud800"),
    ],
)
def test_control_characters_are_made_visible(text: str, expected: str) -> None:
    """What moves the cursor, colours or reverses text is written out; letters of any kind stay."""
    assert printable(text) == expected


def test_some_control_characters_may_be_wanted() -> None:
    """A traceback keeps its lines."""
    assert printable("a\n\tb\x1b", keep="\n\t") == "a\n\tb\\x1b"
