"""The configuration file: what it accepts, what it refuses, and how it says so."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from conserver.config import model as config
from conserver.config.environment import Environment
from conserver.config.model import Config
from conserver.errors import EXIT_CONFIG, ConfigError, Problem

GOOD = """
links:
  tag:
    module: links.tag
    options: {tags: [a]}
  slow:
    module: my_package.slow
    hard_timeout_s: 30
storages:
  pg:
    module: storage.postgres
    options:
      password: ${PGPASSWORD}
      host: ${PGHOST:-localhost}
chains:
  calls:
    links: [tag, slow]
    storages: [pg]
    ingress_lists: [calls, more_calls]
    egress_lists: [done]
    timeout: 60
    enabled: 1
  mails:
    links: [tag]
    ingress_lists: [mails]
    enabled: 0
"""


def parse(text: str, environ: Mapping[str, str] | None = None) -> Config:
    """The configuration in `text`, read with `environ` and one password in it."""
    return config.parse(text, {"PGPASSWORD": "pa55", **(environ or {})})


def problems_in(text: str, environ: Mapping[str, str] | None = None) -> dict[str, Problem]:
    """What is wrong with `text`, by path."""
    with pytest.raises(ConfigError) as caught:
        parse(text, environ)
    assert caught.value.exit_code == EXIT_CONFIG
    return {problem.path: problem for problem in caught.value.problems}


def test_a_good_file() -> None:
    """vcon-server's grammar and ours are read together."""
    found = parse(GOOD)
    assert found.links["tag"].module == "links.tag"
    assert found.links["slow"].hard_timeout_s == 30
    assert found.links["slow"].options == {}
    assert found.storages["pg"].options == {"password": "pa55", "host": "localhost"}
    calls = found.chains["calls"]
    assert (calls.links, calls.storages) == (["tag", "slow"], ["pg"])
    assert calls.timeout == calls.soft_timeout_s == 60
    assert calls.retries == 5
    assert found.warnings == ()


def test_a_disabled_chain_is_not_served() -> None:
    """`enabled: 0` takes the chain's lists out of what is served."""
    found = parse(GOOD)
    assert list(found.enabled_chains) == ["calls"]
    assert found.ingress == {"calls": "calls", "more_calls": "calls"}
    assert list(found.used_links) == ["tag", "slow"]
    assert list(found.used_storages) == ["pg"]


def test_it_is_frozen_and_travels() -> None:
    """Nobody changes it, and a spawned child gets the same, warnings included."""
    found: Any = parse(GOOD + "tracers: {}\n")
    with pytest.raises(ValidationError):
        found.links = {}
    copy = pickle.loads(pickle.dumps(found))
    assert copy == found
    assert copy.warnings == found.warnings != ()


def test_passwords_are_not_in_the_repr() -> None:
    """The configuration may be printed in a traceback."""
    assert "pa55" not in repr(parse(GOOD))


@pytest.mark.parametrize(
    ("text", "environ", "expected"),
    [
        ("${A}", {"A": "x"}, "x"),
        ("${A}", {"A": ""}, ""),
        ("${A:-b}", {}, "b"),
        ("${A:-b}", {"A": ""}, "b"),
        ("${A:-}", {}, ""),
        ("${A:-http://h:1/p}", {}, "http://h:1/p"),
        ("1${A}2${B}3", {"A": "x", "B": "y"}, "1x2y3"),
        ("$${A}", {"A": "x"}, "${A}"),
        ("$A costs $5 and $$", {"A": "x"}, "$A costs $5 and $$"),
        ("${A}", {"A": "a: b # c\n- d"}, "a: b # c\n- d"),
    ],
)
def test_the_environment_is_put_in(text: str, environ: dict[str, str], expected: str) -> None:
    """References expand inside values only, and no value of a variable can break the YAML."""
    found = parse(f"links: {{a: {{module: links.a, options: {{o: ['{text}']}}}}}}", environ)
    assert found.links["a"].options == {"o": [expected]}


def test_a_number_may_come_from_the_environment() -> None:
    """What models know to be numbers and switches is read from text."""
    text = """
chains: {a: {ingress_lists: [a], retries: "${N:-7}", enabled: "${ON:-0}", timeout: "${T:-1.5}"}}
"""
    chain = parse(text).chains["a"]
    assert (chain.retries, chain.enabled, chain.soft_timeout_s) == (7, False, 1.5)


def test_a_missing_variable_is_a_problem_with_its_path() -> None:
    """No default and not set: told with path, line and remedy; so is a reference that is none."""
    found = problems_in("links: {a: {module: links.a, options: {k: ['${NOPE}', '${1x}']}}}")
    first, second = found["links.a.options.k[0]"], found["links.a.options.k[1]"]
    assert "needs $NOPE" in first.message
    assert "${NOPE:-default}" in first.hint
    assert "names no variable" in second.message
    assert "$${" in second.hint


def test_every_fault_is_reported_at_once_with_its_line() -> None:
    """Faults of all kinds in one file: each has a path, what is wrong, what is allowed, a hint."""
    text = """\
links:
  tag: {module: links.tag}
  bad: {modul: links.tag}
  odd: {module: "my module"}
storages:
  pg: {module: storage.postgres, options: [1]}
chains:
  calls:
    links: [tagg, 4]
    storages: [pq]
    ingress_lists: [calls, "DLQ:x"]
    retires: 3
    timeout: soon
    hard_timeout_s: -1
  other:
    ingress_lists: [calls, ""]
    enabled: 2
  third:
    links: tag
"""
    found = problems_in(text)
    assert {path: str(problem) for path, problem in found.items()} == {
        "links.bad.modul": "links.bad.modul: is not known here (line 3; did you mean `module`?)",
        "links.bad.module": "links.bad.module: is missing (line 3)",
        "links.odd.module": "links.odd.module: must be a module such as `links.tag` or"
        " `my_package.my_link`, not `my module` (line 4)",
        "storages.pg.options": "storages.pg.options: must be a mapping of names to values,"
        " not a list (line 6)",
        "chains.calls.links[0]": "chains.calls.links[0]: `tagg` is not defined under links"
        " (line 9; did you mean `tag`?)",
        "chains.calls.links[1]": "chains.calls.links[1]: must be text, not `4`"
        " (line 9; write it in quotes)",
        "chains.calls.storages[0]": "chains.calls.storages[0]: `pq` is not defined under storages"
        " (line 10; known: pg)",
        "chains.calls.ingress_lists[1]": "chains.calls.ingress_lists[1]: the name of a list must"
        " not begin with `DLQ:`, which Conserver uses itself (line 11)",
        "chains.calls.retires": "chains.calls.retires: is not known here"
        " (line 12; did you mean `retries`?)",
        "chains.calls.timeout": "chains.calls.timeout: must be a number of seconds, or have a unit"
        " as in 90s, 15m, 2h or 7d, not `soon` (line 13)",
        "chains.calls.hard_timeout_s": "chains.calls.hard_timeout_s: must be more than 0, not `-1`"
        " (line 14)",
        "chains.other.ingress_lists[0]": "chains.other.ingress_lists[0]: `calls` is already served"
        " by chain `calls` (line 16; one list, one chain)",
        "chains.other.ingress_lists[1]": "chains.other.ingress_lists[1]: the name of a list must"
        " not be empty (line 16)",
        "chains.other.enabled": "chains.other.enabled: must be true or false, not `2` (line 17)",
        "chains.third.links": "chains.third.links: must be a list, not `tag` (line 19)",
    }


@pytest.mark.parametrize("name", ["", "a\\nb", "a\\rb", "conserver:x", "DLQ:x"])
@pytest.mark.parametrize("key", ["ingress_lists", "egress_lists"])
def test_bad_list_names(key: str, name: str) -> None:
    """Names that would break a protocol or collide with our own keys are refused on both sides."""
    lists = {"ingress_lists": '["good"]', "egress_lists": "[]", key: f'["{name}"]'}
    text = f"chains: {{a: {{{', '.join(f'{k}: {v}' for k, v in lists.items())}}}}}"
    assert f"chains.a.{key}[0]" in problems_in(text)


@pytest.mark.parametrize("key", ["storages", "ingress_lists", "egress_lists"])
def test_a_name_twice_in_one_chain(key: str) -> None:
    """A list or a storage that a chain names twice is a mistake; a link may well run twice."""
    text = f"""
links: {{x: {{module: links.x}}}}
storages: {{x: {{module: storage.x}}}}
chains: {{a: {{ingress_lists: [i], links: [x, x], {key}: [x, x]}}}}
""".replace("ingress_lists: [i], links: [x, x], ingress_lists", "links: [x, x], ingress_lists")
    assert list(problems_in(text)) == [f"chains.a.{key}"]


def test_a_list_in_two_chains_is_allowed_while_one_is_disabled() -> None:
    """So a chain can be replaced by another version of itself."""
    text = "chains: {{a: {{ingress_lists: [x], enabled: {0}}}, b: {{ingress_lists: [x]}}}}"
    assert parse(text.format("no")).ingress == {"x": "b"}
    assert list(problems_in(text.format("yes"))) == ["chains.b.ingress_lists[0]"]


def test_limits_must_fit_each_other() -> None:
    """A hard limit below the soft one, or a cap below the base, is refused."""
    text = "chains: {a: {ingress_lists: [x], timeout: 60, hard_timeout_s: 30}}"
    assert "hard_timeout_s must not be less" in problems_in(text)["chains.a"].message
    text = "chains: {a: {ingress_lists: [x], backoff_s: 60, backoff_max_s: 30}}"
    assert "backoff_max_s must not be less" in problems_in(text)["chains.a"].message


def test_doubled_names_are_not_lost_in_silence() -> None:
    """YAML would keep the last one; here it is told, with its path and lines."""
    text = (
        "chains:\n  a: {ingress_lists: [x]}\n  b: {ingress_lists: [y]}\n  a: {ingress_lists: [z]}\n"
    )
    problem = problems_in(text)["chains.a"]
    assert problem.message == "is there 2 times, in lines 2, 4"
    assert "keep one of them" in problem.hint


@pytest.mark.parametrize(
    "text", ["links: {no: {module: links.x}}", "links: {7: {module: links.x}}"]
)
def test_names_that_yaml_takes_for_something_else(text: str) -> None:
    """A bare `no` or `7` is not text; the remedy is told."""
    (problem,) = problems_in(text).values()
    assert problem.message == "the name must be text"
    assert "quotes" in problem.hint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("links: [", "line 2, column 1"),
        ("a: b: c", "line 1, column 5"),
        ("- a\n- b", "must be a mapping"),
        ("just text", "must be a mapping"),
        ("a: 1\n---\nb: 2", "this is no YAML"),
        ("a: \x00", "this is no YAML"),
        ("a: !!python/object:os.system x", "this is no YAML"),
    ],
)
def test_what_is_no_configuration_at_all(text: str, message: str) -> None:
    """Broken YAML is told with its place; nothing in a file is ever executed."""
    (problem,) = problems_in(text).values()
    assert message in problem.message


@pytest.mark.parametrize("text", ["", "\n# nothing\n", "links:\nstorages:\nchains:\n"])
def test_an_empty_file_is_allowed_and_noticed(text: str) -> None:
    """Nothing to do is no fault, but it is said."""
    (warning,) = parse(text).warnings
    assert warning.message == "no chain is enabled, so no list is served"
    assert "is the file empty, or cut short?" in warning.hint


def test_chains_that_are_all_disabled_are_noticed() -> None:
    """They are there: the file is whole."""
    (warning,) = parse("chains: {a: {ingress_lists: [i], enabled: 0}}").warnings
    assert warning.hint == "line 1; all are disabled"


@pytest.mark.parametrize(
    ("text", "path", "line"),
    [
        ("links: {}\nchains:\n  x:\n    links: [&b [*b]]\n", "chains.x.links[0][0]", 4),
        ("links:\n  a: &a\n    options:\n      inner: *a\n", "links.a.options.inner", 2),
        ("links:\n  a: &a\n    <<: *a\n", "links.a.<<", 2),
    ],
)
def test_an_alias_of_what_it_stands_in_is_refused(text: str, path: str, line: int) -> None:
    """It was followed until the interpreter gave up, after 5,000 lines of traceback."""
    problem = problems_in(text)[path]
    assert "without end" in problem.message
    assert f"line {line} " in problem.hint


def test_aliases_that_end_are_followed() -> None:
    """What YAML has them for: one set of options for two links."""
    found = parse(
        "links: {a: {module: links.a, options: &o {x: 1}}, b: {module: links.b, options: *o}}\n"
        "chains: {c: {links: [a, b], ingress_lists: [i]}}"
    )
    assert found.links["a"].options == found.links["b"].options == {"x": 1}


def test_aliases_of_aliases_do_not_fill_the_memory() -> None:
    """Ten lines stood for 10^9 values: the supervisor grew by gigabytes and never answered."""
    lines = [f"    a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    text = "links:\n  x:\n    a0: &a0 [1]\n" + "\n".join(lines)
    (problem,) = problems_in(text).values()
    assert problem.message == "stands for more than 1,000,000 values"
    assert "it holds aliases of aliases" in problem.hint


def test_what_is_too_deep_is_refused() -> None:
    """Long before the interpreter could not follow it."""
    (problem,) = problems_in(f"links: {'[' * 200}{']' * 200}").values()
    assert problem.message == "line 1: deeper than 100 levels"


def test_a_secret_that_cannot_be_read_hides_nothing(tmp_path: Path) -> None:
    """Its place is told, beside what else is wrong."""
    environ = Environment({"KEY_FILE": str(tmp_path / "gone")})
    with pytest.raises(ConfigError) as caught:
        config.parse("links: {a: {module: links.a, options: {key: '${KEY}'}}}\nlinkz: {}", environ)
    unknown, secret = sorted(caught.value.problems, key=lambda problem: "$KEY" in problem.message)
    assert unknown.path == "linkz"
    assert secret.path == "links.a.options.key"
    assert secret.message.startswith("needs $KEY: KEY_FILE: `")
    assert "line 1" in secret.hint


def test_an_unknown_section() -> None:
    """A misspelt section would be a chain that is never served."""
    problem = problems_in("chain: {}")["chain"]
    assert problem.message == "is not known here"
    assert "did you mean `chains`?" in problem.hint


def test_a_file_of_vcon_server_loads_with_warnings() -> None:
    """What vcon-server knew and nobody uses here is named, each with what to do instead."""
    text = """
imports: {helper: {module: my_helper, pip_name: my-helper}}
tracers: {t: {module: tracers.t}}
followers: {f: {url: "http://h"}}
links:
  tag: {module: links.tag, ingress-lists: [], egress-lists: [], options: {tags: [a]}}
  own: {module: own_link, pip_name: "git+https://h/own.git"}
chains:
  calls: {links: [tag, own], ingress_lists: [calls], tracers: [t], enabled: 1}
"""
    found = parse(text)
    assert {warning.path for warning in found.warnings} == {
        "imports",
        "tracers",
        "followers",
        "links.tag.ingress-lists",
        "links.tag.egress-lists",
        "links.own.pip_name",
        "chains.calls.tracers",
    }
    assert all(
        "is not used" in str(warning) and "line " in str(warning) for warning in found.warnings
    )
    assert found.links["own"].module == "own_link"


CALLS = "chains: {main: {ingress_lists: [calls]}}\n"


def test_keys_of_partners_are_secrets_one_or_several_for_a_list() -> None:
    found = parse(CALLS + "ingress_auth: {calls: partner-key-1}")
    assert [key.get_secret_value() for key in found.ingress_auth["calls"]] == ["partner-key-1"]
    assert "partner-key-1" not in repr(found) + found.model_dump_json()
    found = parse(CALLS + 'ingress_auth: {calls: [one, " two ", "${NONE:-}"]}')
    assert [key.get_secret_value() for key in found.ingress_auth["calls"]] == ["one", "two"]
    assert not found.warnings


@pytest.mark.parametrize("value", ["5", "{a: b}", "[5]", "[[a]]"])
def test_what_is_no_key_of_a_partner(value: str) -> None:
    assert "ingress_auth.calls" in problems_in(f"{CALLS}ingress_auth: {{calls: {value}}}")


def test_keys_of_partners_that_nobody_can_use_are_warned_of() -> None:
    found = parse(CALLS + "ingress_auth: {call: key, calls: []}")
    told = [str(warning) for warning in found.warnings]
    assert len(told) == 2
    assert "ingress_auth.call: is a list that no chain takes from" in told[0]
    assert "did you mean `calls`?" in told[0]
    assert "ingress_auth.calls: has no key" in told[1]


def test_going_round_in_circles_is_noticed() -> None:
    """A chain whose egress leads back to itself, through others too, is warned of."""
    text = """
chains:
  a: {ingress_lists: [a], egress_lists: [b]}
  b: {ingress_lists: [b], egress_lists: [a, out]}
  c: {ingress_lists: [c], egress_lists: [a]}
"""
    assert [warning.path for warning in parse(text).warnings] == [
        "chains.a.egress_lists",
        "chains.b.egress_lists",
    ]


def test_files(tmp_path: Path) -> None:
    """A file is read from its path; one that cannot be read says why and who names it."""
    path = tmp_path / "config.yml"
    path.write_text(GOOD, encoding="utf-8")
    assert config.load(path, {"PGPASSWORD": "x"}).chains.keys() == {"calls", "mails"}
    for bad in (tmp_path / "none.yml", tmp_path):
        with pytest.raises(ConfigError, match="CONSERVER_CONFIG_FILE"):
            config.load(bad, {})
    path.write_bytes(b"links: \xff")
    with pytest.raises(ConfigError, match="not UTF-8"):
        config.load(path, {})


def test_secrets_are_not_in_error_messages() -> None:
    """A wrong value of a secret is reported without showing it."""
    text = "links: {a: {module: links.a, options: {}, api_key: pa55w0rd}}"
    assert "pa55w0rd" not in str(problems_in(text))


def test_models_stand_for_chains() -> None:
    assert parse(CALLS + "models: {whisper-1: main}").models == {"whisper-1": "main"}


@pytest.mark.parametrize(
    ("chain", "why"),
    [
        ("mian", "`mian` is not defined under chains (line 2; did you mean `main`?)"),
        ("idle", "the chain `idle` has no ingress_lists (line 2; it can get no work)"),
        ("7", ""),
    ],
)
def test_a_model_that_stands_for_nothing(chain: str, why: str) -> None:
    text = "chains: {main: {ingress_lists: [calls]}, idle: {}}\n"
    problem = problems_in(text + f"models: {{whisper-1: {chain}}}")["models.whisper-1"]
    assert why in str(problem)


def test_a_tab_is_told_as_one() -> None:
    with pytest.raises(ConfigError, match=r"line 2.*indent with blanks, not with tabs"):
        config.parse("chains:\n\ta: {ingress_lists: [x]}\n", {})
    with pytest.raises(ConfigError, match="this is no YAML") as caught:
        config.parse("chains: {a: {", {})
    assert "tabs" not in str(caught.value)


def test_a_file_that_is_not_there_names_both_ways_to_say_which(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--config or CONSERVER_CONFIG_FILE says which"):
        config.load(tmp_path / "nope.yml", {})
