"""plugins/returns.py: a link whose author forgot `return vcon` is found before it runs."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

import conserver.links
from conserver.config import model
from conserver.plugins import loader, returns

IN_DOUBT = {
    "forgotten": ("vcon.add_tag('a', 'b')", returns.NEVER),
    "a bare return": ("vcon.add_tag('a', 'b')\nreturn", returns.NEVER),
    "nothing to do": ("if not vcon.tags:\n    return\nreturn vcon", returns.SOMETIMES),
    "one branch": ("if vcon.tags:\n    return vcon\nvcon.add_tag('a', 'b')", returns.SOMETIMES),
    "in a loop": ("for _ in vcon.dialogs:\n    return vcon", returns.SOMETIMES),
    "caught": ("try:\n    return vcon\nexcept ValueError:\n    pass", returns.SOMETIMES),
    "suppressed": ("with suppress(ValueError):\n    return vcon", returns.SOMETIMES),
    "left loop": ("while True:\n    if vcon.tags:\n        break", returns.NEVER),
    "inside": ("def helper():\n    return vcon\nhelper()", returns.NEVER),
    "matched": ("match vcon.form:\n    case 'jws':\n        return vcon", returns.SOMETIMES),
}
MEANT = {
    "returned": "return vcon",
    "said": "return None",
    "either": "if vcon.tags:\n    return vcon\nelse:\n    return None",
    "raised": "raise ValueError",
    "one of them raises": "if vcon.tags:\n    return vcon\nraise ValueError",
    "tried": "try:\n    return vcon\nexcept ValueError:\n    raise",
    "finally": "try:\n    return vcon\nfinally:\n    vcon.tags",
    "with": "with open('x'):\n    return vcon",
    "for ever": "while True:\n    if vcon.tags:\n        return vcon",
    "matched": "match 1:\n    case 'jws':\n        return vcon\n    case _:\n        return None",
}


def module(folder: Path, body: str) -> ModuleType:
    """A link's module with this body of `run`."""
    path = folder / "a_link.py"
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    path.write_text(
        f"from contextlib import suppress\n\ndef run(vcon, options, context):\n{lines}\n"
    )
    spec = importlib.util.spec_from_file_location("a_link", path)
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.mark.parametrize("name", IN_DOUBT)
def test_what_is_not_said_is_doubted(name: str, tmp_path: Path) -> None:
    body, doubt = IN_DOUBT[name]
    assert returns.doubt_of(module(tmp_path, body).run) == doubt


@pytest.mark.parametrize("name", MEANT)
def test_what_is_said_is_meant(name: str, tmp_path: Path) -> None:
    assert returns.doubt_of(module(tmp_path, MEANT[name]).run) == ""


@pytest.mark.parametrize("run", [lambda *_: None, print, object()])
def test_what_has_no_source_is_let_be(run: object) -> None:
    assert returns.doubt_of(run) == ""  # type: ignore[arg-type]


def test_our_own_links_are_above_doubt() -> None:
    folder = Path(conserver.links.__file__).parent
    for path in folder.glob("*.py"):
        if "\ndef run(" in path.read_text(encoding="utf-8"):
            found = importlib.import_module(f"conserver.links.{path.stem}")
            assert returns.doubt_of(found.run) == "", path.stem


def test_a_configuration_tells_its_doubts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the link's path; for links in vcon-server's form, too."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "night_ours.py").write_text("def run(vcon, options, context):\n    vcon.tags\n")
    (tmp_path / "night_old.py").write_text("def run(vcon_uuid, link_name, opts={}):\n    pass\n")
    config = model.parse(
        """
        links: {ours: {module: night_ours}, old: {module: night_old}, fine: {module: links.diet}}
        chains: {main: {links: [ours, old, fine], ingress_lists: [in]}}
        """,
        {},
    )
    found = {one.path: str(one) for one in returns.doubts(loader.load(config))}
    assert found.keys() == {"links.ours.module", "links.old.module"}
    assert "never returns a value" in found["links.ours.module"]
