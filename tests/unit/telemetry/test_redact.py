"""What must not be shown is not shown, and nothing else is lost."""

from __future__ import annotations

import json

import pytest

from conserver.telemetry.redact import (
    HIDDEN,
    hide_everywhere,
    is_secret_name,
    printable,
    redact_fields,
    redact_json,
    redact_quoted,
    redact_text,
    redact_texts,
    secret_values,
)


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
        ("redis://s3cr3t@host:6379", "redis://***@host:6379"),
        ("https://s3cr3t:@host", "https://***@host"),
        ("redis://me@corp:pa55@host", "redis://me@corp:***@host"),
        ("redis://:se/cret@host/0", "redis://:***@host/0"),
        ("redis://u:12/34@host/0", "redis://u:***@host/0"),
        ("redis://:se?cret@host", "redis://:***@host"),
        ("redis://u:se#cret@host", "redis://u:***@host"),
        ("https://u:se/cret@host/x", "https://u:***@host/x"),
        ("redis://u:p'5@host", "redis://u:***@host"),
        ("unix://u:pa55@/run/x.sock?db=1", "unix://u:***@/run/x.sock?db=1"),
        (
            "redis+sentinel://u:p%3Aw@h1:1,h2,[::1]:2/main/2?sentinel_password=x&ssl_keyfile=k",
            "redis+sentinel://u:***@h1:1,h2,[::1]:2/main/2?sentinel_password=***&ssl_keyfile=k",
        ),
        ("postgresql://u:p@ss:w@host/db", "postgresql://u:***@host/db"),
        ("no url: a@b", "no url: a@b"),
        ("at https://h/x?mail=a@b:c", "at https://h/x?mail=a@b:c"),
        ("https://h:8080/users/me@corp.com", "https://h:8080/users/me@corp.com"),
        ("http://[::1]:8080/a@b", "http://[::1]:8080/a@b"),
        ("at (https://h:8080), a@b", "at (https://h:8080), a@b"),
        ("s3://bucket/me@x", "s3://bucket/me@x"),
        ("`redis://u:p@h`, mail me@x", "`redis://u:***@h`, mail me@x"),
        ('["http://u:pa55@h/x", "a@b"]', '["http://u:***@h/x", "a@b"]'),
        ('{"a":"amqp://a:b@c","m":"x@y"}', '{"a":"amqp://a:***@c","m":"x@y"}'),
        ("amqp://a:b@c,https://d:e@f/g", "amqp://a:***@c,https://d:***@f/g"),
        (
            "from amqp://a:b@c to https://d:e@f/g",
            "from amqp://a:***@c to https://d:***@f/g",
        ),
    ],
)
def test_passwords_in_urls(text: str, expected: str) -> None:
    """The password goes, wherever the URL stands; user, host and path stay."""
    assert redact_text(text) == expected
    assert redact_text(expected) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("redis://h:1?password=pa55", "redis://h:1?password=***"),
        ("rediss://h?ssl_password=k&db=1", "rediss://h?ssl_password=***&db=1"),
        ("redis://h?pass%77ord=pa55", "redis://h?pass%77ord=***"),
        ("redis://h?password=a@b#c", "redis://h?password=***"),
        ("https://h/x?a=1&api_key=k&key=k&b=2", "https://h/x?a=1&api_key=***&key=***&b=2"),
        ("https://h/k?X-Amz-Signature=f&X-Amz-Expires=5",
         "https://h/k?***"),
        ("PUT https://h/k?se=2026&sig=f failed", "PUT https://h/k?*** failed"),
        ("https://h/k?sigma=3&design=x", "https://h/k?sigma=3&design=x"),
        ("https://h/x?max_tokens=5&keyboard=us", "https://h/x?max_tokens=5&keyboard=us"),
    ],
)  # fmt: skip
def test_secret_parameters_of_urls(text: str, expected: str) -> None:
    """A parameter whose name says that it is a secret is hidden, and no other."""
    assert redact_text(text) == expected


def test_long_texts_are_redacted_in_no_time() -> None:
    """Neither a blob nor many URLs make it slower than their length does."""
    blob, urls = "a" * 500_000, "redis://u:p@h " * 20_000
    assert redact_text(f"{blob} ://{blob}").endswith(blob)
    assert redact_text(urls).count(HIDDEN) == 20_000


@pytest.mark.usefixtures("forgets_secrets")
def test_secrets_of_the_configuration_are_hidden_wherever_they_stand() -> None:
    """Values under secret names, and what URLs carry, at every depth of the options."""
    options = {
        "api_key": "sk-1234567",
        "headers": {"Authorization": "Bearer t0ken-of-ours"},
        "url": "postgres://u:p%40ssw0rd@h/db?sslpassword=k3y-of-tls",
        "tokens": ["n0-secret-here"],
        "model": "gpt-4-turbo",
        "max_tokens": 12345678,
    }
    hide_everywhere(secret_values(options))
    for told in ("sk-1234567", "t0ken-of-ours", "p@ssw0rd", "p%40ssw0rd", "k3y-of-tls"):
        assert redact_text(f"refused: `{told}`") == f"refused: `{HIDDEN}`"
    for told in ("n0-secret-here", "gpt-4-turbo", "12345678", "max_tokens"):
        assert redact_text(told) == told


@pytest.mark.usefixtures("forgets_secrets")
def test_short_secrets_and_plain_words_are_left_alone() -> None:
    """They stand in texts that mean something else; what is longer is hidden as a whole."""
    hide_everywhere(["x1", "conserver", "", HIDDEN, "l0ngsecret", "l0ngsecret-and-more"])
    text = "conserver x1 l0ngsecret-and-more l0ngsecret"
    assert redact_text(text) == f"conserver x1 {HIDDEN} {HIDDEN}"


def test_texts_at_every_depth_keep_what_their_names_mean() -> None:
    """What a command shows as JSON: an item's `token` is its name, and no secret."""
    value = {"token": "t-1", "all": ["redis://u:p@h", 3, None, ("http://x@y",)]}
    assert redact_texts(value) == {
        "token": "t-1",
        "all": ["redis://u:***@h", 3, None, ["http://***@y"]],
    }


@pytest.mark.usefixtures("forgets_secrets")
def test_a_secret_is_hidden_as_json_and_as_addresses_write_it() -> None:
    secret = 'n0"w\\here\n é'
    hide_everywhere([secret])
    for quoted in ("n0%22w%5Chere%0A%20%C3%A9", "n0%22w%5Chere%0A+%C3%A9"):
        assert redact_text(f"GET /lists/{quoted}?a") == f"GET /lists/{HIDDEN}?a"
    assert redact_quoted('items{list="n0\\"w\\\\here\\n é"} 1') == 'items{list="***"} 1'
    for ascii_only in (True, False):
        body = json.dumps({"a": [secret, 1.50], secret: "é"}, ensure_ascii=ascii_only).encode()
        assert json.loads(redact_json(body)) == {"a": [HIDDEN, 1.5], HIDDEN: "é"}


@pytest.mark.usefixtures("forgets_secrets")
def test_secrets_that_are_not_utf8_are_hidden() -> None:
    """A variable of the environment may have such bytes, and YAML such characters."""
    secrets = ["pass-w\udcfcrd", "pass-w\ud800rd"]
    hide_everywhere(secrets)
    assert redact_text("refused: {}, {}".format(*secrets)) == f"refused: {HIDDEN}, {HIDDEN}"
    assert json.loads(redact_json(json.dumps(secrets).encode())) == [HIDDEN, HIDDEN]


@pytest.mark.parametrize("body", [b' {"a" : 1.50}', b"[123456789012345678901234567890]", b"{", b""])
def test_json_that_has_no_secret_stays_as_it_is(body: bytes) -> None:
    assert redact_json(body) is body


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'["\\"redis://u:p@h/\\"", "\\n"]', b'["\\"redis://u:***@h/\\"","\\n"]'),
        (b"{ redis://u:p@h", b"{ redis://u:***@h"),
    ],
)
def test_urls_in_json_lose_their_passwords(body: bytes, expected: bytes) -> None:
    """JSON stays JSON; what is no JSON is redacted as a text."""
    assert redact_json(body) == expected


def test_nested_values() -> None:
    """Mappings and lists are walked; an empty secret is shown as empty, which is no secret."""
    value = {
        "options": {"host": "db", "password": "x", "urls": ["redis://u:p@h"]},
        "token": "",
        "n": 3,
    }
    assert redact_fields(value) == {
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
