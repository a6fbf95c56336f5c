"""The runner's groups name tests that exist: a name of before would scatter them again, unseen."""

from __future__ import annotations

from pathlib import Path

from tests.parallel import GROUPS, group_of

ROOT = Path(__file__).parents[3]


def test_groups_name_tests_that_exist() -> None:
    for name in GROUPS:
        file, _, test = name.partition("::")
        text = (ROOT / file).read_text(encoding="utf-8")
        assert not test or f"def {test}(" in text, name


def test_a_test_is_in_the_group_of_its_name_or_of_its_file_or_alone() -> None:
    file, test = (
        "tests/process/test_audio.py",
        "tests/fault/test_items.py::test_two_chains_on_one_vcon",
    )
    assert group_of(f"{file}::test_anything[a::b]") == "audio"
    assert group_of(f"{test}[x]") == "stored scenes"
    alone = "tests/unit/links/test_tag.py::test_one"
    assert group_of(f"{alone}[a]") == f"{alone}[a]"
