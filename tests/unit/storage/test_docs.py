"""Every storage has a page, and its table of options is the one in the code."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from pydantic_core import PydanticUndefined

from storage.contract import Document, Storage, StorageOptions, Stored

PAGES = Path(__file__).parents[3] / "docs" / "storages"
KINDS = ("postgres", "s3", "elasticsearch", "file", "sqlite", "redis", "webhook", "mongo")


def options_of(kind: str) -> type[StorageOptions]:
    found: type[StorageOptions] = importlib.import_module(f"storage.{kind}").Options
    return found


def table(options: type[StorageOptions]) -> list[str]:
    """The rows for a page, in the order of the code, what all storages have last."""
    fields = options.model_fields
    names = [name for name in fields if name != "timeout_s"] + ["timeout_s"]
    return [
        f"| `{fields[name].alias or name}` | {_default(fields[name])} |"
        f" {fields[name].description} |"
        for name in names
    ]


def _default(field: Any) -> str:
    if field.default is PydanticUndefined and field.default_factory is None:
        return "needed"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if value in (None, "", {}, []):
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value}`"


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_lists_the_options_as_they_are(kind: str) -> None:
    page = (PAGES / f"{kind}.md").read_text()
    section = page.partition("\n## Options\n")[2].partition("\n## ")[0]
    listed = [line for line in section.splitlines() if line.startswith("| `")]
    rows = table(options_of(kind))
    assert listed == rows, "\n".join(["the table should be:", *rows])


@pytest.mark.parametrize("kind", KINDS)
def test_every_option_is_described_in_a_sentence(kind: str) -> None:
    for name, field in options_of(kind).model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name


def test_every_page_is_in_the_overview() -> None:
    overview = (PAGES / "README.md").read_text()
    pages = {path.name for path in PAGES.glob("*.md")} - {"README.md"}
    assert pages == {f"{kind}.md" for kind in KINDS}
    for page in pages:
        assert f"({page})" in overview


@pytest.mark.parametrize("kind", KINDS)
def test_examples_of_options_are_valid(kind: str) -> None:
    """The YAML on a page is a storage as the configuration has it."""
    import yaml

    page = (PAGES / f"{kind}.md").read_text()
    examples = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert examples
    for example in examples:
        for storage in yaml.safe_load(example)["storages"].values():
            module = importlib.import_module(storage["module"])
            module.Options.model_validate(storage.get("options", {}))


def test_the_example_of_an_own_storage_keeps_its_promises() -> None:
    page = (PAGES / "README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    module: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), module)
    storage = module["Storage"]("mine", module["Options"]())
    assert isinstance(storage, Storage)
    storage.open()
    old, new = Document("a", b'{"old": 1}', 1), Document("a", b'{"new": 1}', 2)
    assert storage.save_many([new]) == [Stored()]
    assert storage.save_many([old]) == [Stored(superseded=True)]
    assert storage.get("a") == new.body
    assert storage.delete("a")
    assert storage.get("a") is None
    storage.ready()
    storage.close()
