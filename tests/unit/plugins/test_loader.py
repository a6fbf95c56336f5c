"""Plugins: found, checked, and refused with words that help."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from conserver.config import model as config
from conserver.config.model import Config
from conserver.errors import ConfigError
from conserver.plugins import loader as plugins
from conserver.plugins.module_names import resolve

LINK = """
from pydantic import BaseModel, ConfigDict, SecretStr
COSTLY = True
class Options(BaseModel):
    model_config = ConfigDict(extra="forbid")
    size: int = 3
    password: SecretStr | None = None
prepared = []
def prepare(options): prepared.append(options.size)
def run(vcon, options, context): return (vcon, options.size, context)
"""

STORAGE = """
from pydantic import BaseModel
class Options(BaseModel):
    timeout_s: float = 7
class Storage:
    def __init__(self, name, options): self.name, self.options = name, options
    def save_many(self, documents): return []
"""


def with_link(module: str, options: str = "{}") -> Config:
    return config.parse(
        f"links: {{x: {{module: {module}, options: {options}, hard_timeout_s: 9}}}}\n"
        "chains: {c: {links: [x], ingress_lists: [i]}}",
        {},
    )


def with_storage(module: str, options: str = "{}") -> Config:
    return config.parse(
        f"storages: {{x: {{module: {module}, options: {options}}}}}\n"
        "chains: {c: {storages: [x], ingress_lists: [i]}}",
        {},
    )


def problem_of(found: Config) -> str:
    with pytest.raises(ConfigError) as caught:
        plugins.load(found)
    (problem,) = caught.value.problems
    return str(problem)


def test_names_that_vcon_server_gives_to_what_we_have_are_known() -> None:
    assert resolve("links.jq_link") == "conserver.links.jq"
    assert resolve("storage.redis_storage") == "storage.redis"


def test_names_are_resolved() -> None:
    """`links.` is ours, `storage.` the package beside us, all else as it stands."""
    assert resolve("links.tag") == "conserver.links.tag"
    assert resolve("storage.postgres") == "storage.postgres"
    assert resolve("my_package.links.x") == "my_package.links.x"


def test_a_link_is_loaded(write: Any) -> None:
    """A module of anybody's is a link: its options merge over its defaults, its marks are read."""
    name = write(LINK)
    link = plugins.load(with_link(name, "{password: abc}")).links["x"]
    assert (link.name, link.module, link.costly) == ("x", name, True)
    assert link.options.size == 3
    assert link.options.password.get_secret_value() == "abc"
    assert link.hard_timeout_s == 9
    vcon: Any = object()
    context: Any = object()
    answer: Any = link.run(vcon, link.options, context)
    assert answer == (vcon, 3, context)
    link.prepare()
    assert sys.modules[name].prepared == [3]


def test_a_link_without_options_model_gets_the_plain_options(write: Any) -> None:
    """Models are for those who want them."""
    name = write("def run(vcon, options, context): return vcon\n")
    link = plugins.load(with_link(name, "{a: [1]}")).links["x"]
    assert link.options == {"a": [1]}
    assert not link.costly
    link.prepare()


def test_a_storage_is_loaded_and_made_on_demand(write: Any) -> None:
    """Each `make` gives a storage of its own, with validated options."""
    storage = plugins.load(with_storage(write(STORAGE), "{timeout_s: '5'}")).storages["x"]
    assert storage.timeout_s == 5
    first, second = storage.make(), storage.make()
    assert first is not second
    assert first.name == "x"


def test_our_own_modules_load() -> None:
    """The names that configurations use lead to our modules."""
    found = plugins.load(
        config.parse(
            "links: {t: {module: links.tag, options: {tags: [a]}}}\n"
            "storages: {p: {module: storage.postgres}}\n"
            "chains: {c: {links: [t], storages: [p], ingress_lists: [i]}}",
            {},
        )
    )
    assert found.links["t"].module == "links.tag"
    assert found.storages["p"].make().name == "p"


def test_a_missing_module() -> None:
    """A module that is not there is told with the name that was probably meant."""
    assert problem_of(with_link("links.tga")) == (
        "links.x.module: there is no module `links.tga` (did you mean `links.tag`?)"
    )
    assert problem_of(with_storage("storage.postgress")) == (
        "storages.x.module: there is no module `storage.postgress`"
        " (did you mean `storage.postgres`?)"
    )
    assert "must be installed where Conserver runs" in problem_of(with_link("nobody.has.this"))
    assert "there is no module `json.nothing`" in problem_of(with_link("json.nothing"))


def test_a_missing_dependency(write: Any) -> None:
    """A module that misses a package names it, and the extra that brings it."""
    assert "needs the module `nobody_has_this`" in problem_of(
        with_link(write("import nobody_has_this.at_all"))
    )
    # msg-2: what is missing is not the package, which is there.
    found = problem_of(with_link(write("import orjson.exporter")))
    assert "needs the module `orjson.exporter`" in found
    assert "`orjson` is installed" in found
    # adapter-2: no package of this name may be installed beside ours.
    found = problem_of(with_storage(write("from storage.base import Storage as Base")))
    assert "needs `storage.base` of vcon-server, which has no stand-in here" in found
    assert "install" not in found
    text = "raise ModuleNotFoundError('no', name='psycopg.pq')"
    assert problem_of(with_storage(write(text))).endswith("(pip install 'conserver[postgres]')")


def test_a_module_that_is_neither(write: Any) -> None:
    """A module without `run`, or without `Storage`, is no plugin."""
    assert "`json` is no link: it has no `run`" in problem_of(with_link("json"))
    assert "`json` is no storage: it has no class `Storage`" in problem_of(with_storage("json"))
    assert "has no class `Storage`" in problem_of(with_storage(write("class Storage: pass")))


def test_a_plugins_own_fault_passes_through(write: Any) -> None:
    """Whatever a module raises when it is imported is the cause, with its place."""
    name = write("x = 1\nfrom json import nothing_of_that_name\n")
    with pytest.raises(ConfigError) as caught:
        plugins.load(with_link(name))
    (problem,) = caught.value.problems
    assert "ImportError: cannot import name 'nothing_of_that_name'" in problem.message
    assert problem.hint.endswith(f"{name}.py:2")
    assert isinstance(caught.value.__cause__, ImportError)
    assert "SyntaxError" in problem_of(with_link(write("def run(:")))
    assert "ZeroDivisionError" in problem_of(with_link(write("1 / 0")))


RUN = "def run(vcon, options, context): return vcon\n"


def test_a_module_that_ends_the_process_is_refused(write: Any) -> None:
    """`sys.exit()` is what a module raises like any other: it must not end the daemon."""
    name = write("import sys\nsys.exit(3)\n")
    assert f"links.x.module: `{name}` cannot be imported: SystemExit: 3" in problem_of(
        with_link(name)
    )
    assert "cannot be imported: SystemExit (" in problem_of(with_link(write("raise SystemExit\n")))
    assert "cannot be imported: CancelledError" in problem_of(
        with_link(write("import asyncio\nraise asyncio.CancelledError\n"))
    )


@pytest.mark.parametrize("raised", ["KeyError('size')", "SystemExit(4)"])
def test_whatever_a_model_of_options_raises_is_its_fault(write: Any, raised: str) -> None:
    """pydantic takes a ValueError for a wrong value, and lets all else through."""
    name = write(
        "from pydantic import BaseModel, field_validator\n"
        "class Options(BaseModel):\n"
        "    size: int = 1\n"
        "    @field_validator('size')\n"
        "    @classmethod\n"
        f"    def _check(cls, value): raise {raised}\n" + RUN
    )
    kind = raised.partition("(")[0]
    assert f"links.x: `{name}` cannot be used: {kind}: " in problem_of(with_link(name, "{size: 2}"))


@pytest.mark.parametrize("raised", ["ValueError('no such\\n folder')", "SystemExit('no')"])
def test_whatever_prepare_raises_is_told_beside_all_else(write: Any, raised: str) -> None:
    """It hid the faults of all others, behind a traceback."""
    name = write(RUN + f"def prepare(options): raise {raised}\n")
    found = config.parse(
        f"links: {{a: {{module: links.tga}}, b: {{module: {name}}}}}\n"
        "chains: {c: {links: [a, b], ingress_lists: [i]}}",
        {},
    )
    with pytest.raises(ConfigError) as caught:
        plugins.load(found)
    first, second = caught.value.problems
    assert first.path == "links.a.module"
    assert second.path == "links.b"
    assert second.message.startswith(f"`{name}` cannot be prepared: {raised.partition('(')[0]}: no")
    assert "\n" not in second.message
    assert second.hint.endswith(f"{name}.py:2")


@pytest.mark.parametrize("raised", ["KeyboardInterrupt", "GeneratorExit"])
def test_an_operators_interrupt_is_nobodys_fault(write: Any, raised: str) -> None:
    """Ctrl-C while a large library is imported ends the command."""
    at_import, at_prepare = (
        write(f"raise {raised}\n"),
        write(RUN + "def prepare(o): raise o['e']\n"),
    )
    kind: type[BaseException] = {"KeyboardInterrupt": KeyboardInterrupt}.get(raised, GeneratorExit)
    with pytest.raises(kind):
        plugins.load(with_link(at_import))
    link = plugins.load(with_link(at_prepare)).links["x"]
    link.options["e"] = kind
    with pytest.raises(kind):
        link.prepare()


def test_values_are_not_in_what_a_module_raises(write: Any) -> None:
    """A model of its own that `prepare` fills would show the password that did not fit."""
    name = write(
        "from pydantic import BaseModel\n"
        "class Login(BaseModel): password: int\n" + RUN + "def prepare(o): Login(password='pa55')\n"
    )
    with pytest.raises(ConfigError) as caught:
        plugins.load(with_link(name)).prepare()
    assert "cannot be prepared: ValidationError: password: Input should be" in str(caught.value)
    assert "pa55" not in str(caught.value)


def test_wrong_options(write: Any) -> None:
    """Options are refused by path, with a suggestion, and a secret is not shown."""
    name = write(LINK)
    assert problem_of(with_link(name, "{sise: 4}")) == (
        "links.x.options.sise: is not known here (did you mean `size`?)"
    )
    assert "must be a whole number, not `big`" in problem_of(with_link(name, "{size: big}"))
    text = problem_of(with_link(name, "{password: [s3cret]}"))
    assert "links.x.options.password" in text
    assert "s3cret" not in text


def test_wrong_signatures(write: Any) -> None:
    """`run` must be callable the way it will be called."""
    assert "must take (vcon, options, context), not (vcon)" in problem_of(
        with_link(write("def run(vcon): return vcon"))
    )
    assert "must not be async" in problem_of(
        with_link(write("async def run(vcon, options, context): return vcon"))
    )
    assert plugins.load(with_link(write("def run(*whatever): return None"))).links


def test_every_fault_of_every_plugin_at_once() -> None:
    """Four broken plugins give four problems; what is fine or unused is not mentioned."""
    found = config.parse(
        """
links:
  good: {module: links.tag, options: {tags: [a]}}
  one: {module: links.nothing}
  two: {module: links.tag, options: {tags: []}}
  unused: {module: links.nobody}
storages:
  three: {module: storage.nothing}
  four: {module: storage.postgres, options: {pasword: x}}
chains:
  c: {links: [good, one, two], storages: [three, four], ingress_lists: [i]}
  idle: {links: [unused], ingress_lists: [j], enabled: 0}
""",
        {},
    )
    with pytest.raises(ConfigError) as caught:
        plugins.load(found)
    assert [problem.path for problem in caught.value.problems] == [
        "links.one.module",
        "links.two.options.tags",
        "storages.three.module",
        "storages.four.options.pasword",
    ]
    assert [problem.path for problem in plugins.unused_problems(found)] == ["links.unused.module"]


def test_what_preparing_misses_is_reported_together(write: Any) -> None:
    """Heavy imports happen in `prepare`; what they miss is a boot error like any other."""
    text = "def run(vcon, options, context): return vcon\n"
    first = write(text + "def prepare(options): import faster_whisper_not_there\n")
    second = write(text + "def prepare(options): raise ModuleNotFoundError('n', name='boto3')\n")
    found = config.parse(
        f"links: {{a: {{module: {first}}}, b: {{module: {second}}}}}\n"
        "chains: {c: {links: [a, b], ingress_lists: [i]}}",
        {},
    )
    with pytest.raises(ConfigError) as caught:
        plugins.load(found).prepare()
    assert [problem.path for problem in caught.value.problems] == ["links.a", "links.b"]
    assert caught.value.problems[1].hint == "pip install 'conserver[s3]'"


def test_what_a_module_says_of_its_options_is_told_with_their_place(write: Any) -> None:
    """Of two links that want a model each, the message said `model` and not of which."""
    name = write(
        "from conserver.errors import ConfigError, Problem\n"
        "def run(vcon, options, context): return vcon\n"
        "def prepare(options):\n"
        "    raise ConfigError([Problem('model', 'is not here', 'get it'), Problem('', 'odd')])\n"
    )
    with pytest.raises(ConfigError) as caught:
        plugins.load(with_link(name)).prepare()
    [link] = with_link(name).links
    model, whole = caught.value.problems
    assert (model.path, model.message, model.hint) == (
        f"links.{link}.options.model",
        "is not here",
        "get it",
    )
    assert whole.path == f"links.{link}.options"


def test_wrong_options_do_not_hide_what_others_miss(write: Any) -> None:
    """They were told one after the other, each time the first was mended."""
    text = "def run(vcon, options, context): return vcon\n"
    missing = write(text + "def prepare(options): import faster_whisper_not_there\n")
    found = config.parse(
        f"links: {{a: {{module: links.tag, options: {{tagz: []}}}}, b: {{module: {missing}}}}}\n"
        "chains: {c: {links: [a, b], ingress_lists: [i]}}",
        {},
    )
    with pytest.raises(ConfigError) as caught:
        plugins.load(found)
    paths = [problem.path for problem in caught.value.problems]
    assert paths[-1] == "links.b"
    assert "links.a.options.tagz" in paths


def test_what_is_not_named_is_not_imported() -> None:
    """A configuration with one link loads that link's module and no other."""
    import subprocess

    code = (
        "import sys; from conserver.config import model as config;"
        "from conserver.plugins import loader as plugins;"
        "plugins.load(config.parse('links: {t: {module: links.delay}}\\n"
        "chains: {c: {links: [t], ingress_lists: [i]}}', {}));"
        "found = [m for m in sys.modules if m.startswith(('conserver.links.', 'storage.'))];"
        "given = ('storage.reading', 'storage.network');"
        "print([m for m in found if not m.startswith(given)])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=90,
        check=True,
    )
    assert done.stdout.strip() == "['conserver.links.delay']"


def test_options_that_are_no_model(write: Any) -> None:
    """`Options` must be what it claims to be."""
    name = write("class Options: pass\ndef run(vcon, options, context): return vcon\n")
    assert "no pydantic model" in problem_of(with_link(name))


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("link.tag", "did you mean `links.tag`?"),
        ("links.tagg", "did you mean `links.tag`?"),
        ("tag", "did you mean `links.tag`?"),
        ("company.links.scrub", "it must be installed where Conserver runs"),
    ],
)
def test_a_link_that_is_not_there_is_suggested(name: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        plugins.load_link("x", config.LinkConfig(module=name))
    (problem,) = caught.value.problems
    assert problem.hint == hint


def test_a_link_that_is_far_from_all_is_told_those_that_can_be_used() -> None:
    with pytest.raises(ConfigError) as caught:
        plugins.load_link("x", config.LinkConfig(module="links.deepgram_link"))
    hint = caught.value.problems[0].hint
    assert hint.startswith("known: links.analyze, ")
    assert "links.notify" not in hint


@pytest.mark.parametrize("name", ["storages.file", "storage.fil", "file"])
def test_a_storage_that_is_not_there_is_suggested(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        plugins.load_storage("x", config.StorageConfig(module=name))
    assert caught.value.problems[0].hint == "did you mean `storage.file`?"
