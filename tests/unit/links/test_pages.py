"""Every link has a page in docs/links that names its options, with an example that is valid."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from conserver.config import model as config

ROOT = Path(__file__).parents[3]
# transcribe's page has its own tests; notify is built in, and no configuration names it.
LINKS = sorted(
    path.stem
    for path in (ROOT / "conserver" / "links").glob("*.py")
    if path.stem not in ("__init__", "transcribe", "notify")
)
ON_ANALYZE = ("check_and_tag", "detect_engagement")


def page(name: str) -> str:
    text = (ROOT / "docs" / "links" / f"{name}.md").read_text()
    # These say that they have the options of analyze.
    return text + page("analyze") if name in ON_ANALYZE else text


@pytest.mark.parametrize("name", LINKS)
def test_the_page_names_every_option(name: str) -> None:
    options = importlib.import_module(f"conserver.links.{name}").Options
    named = set(re.findall(r"`([a-z0-9_-]+)`", page(name)))
    assert not set(options.model_fields) - named


@pytest.mark.parametrize("name", LINKS)
def test_the_example_is_valid(name: str) -> None:
    block = re.search(r"```yaml\n(.*?)```", page(name), re.DOTALL)
    assert block is not None
    (example,) = config.parse(block.group(1), {}).links.values()
    assert example.module == f"links.{name}"
    module = importlib.import_module(f"conserver.links.{name}")
    module.Options.model_validate(example.options)
