"""storage.file: how the files lie, and what a crash or another process does to them."""

from __future__ import annotations

import fcntl
import gzip
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from storage.contract import Rejected, Stored, Unavailable
from storage.file import Options, Storage
from tests.contract.places import document, one, opening

Open = Callable[..., Storage]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "vcons"


@pytest.fixture
def opened(root: Path) -> Iterator[Open]:
    """Makes open storages in the test's folder."""

    def make(**options: Any) -> Storage:
        given = {"path": root, **options}
        return Storage("file", Options.model_validate(given))

    with opening(make) as opened:
        yield opened


def files(root: Path) -> set[str]:
    """The vCons' files, without what is beside them."""
    return {
        str(path.relative_to(root))
        for path in root.rglob("*.json*")
        if not path.relative_to(root).parts[0].startswith(".")
    }


def test_files_lie_by_date(opened: Open, root: Path) -> None:
    given, undated = document(7), document(8, created_at="once upon a time")
    opened().save_many([given, undated])
    assert files(root) == {f"2025/03/04/{given.uuid}.json", f"{undated.uuid}.json"}
    file = root / f"2025/03/04/{given.uuid}.json"
    assert file.read_bytes() == given.body
    assert file.stat().st_mtime_ns == 7000
    assert list((root / ".new").iterdir()) == []


def test_files_can_lie_flat(opened: Open, root: Path) -> None:
    given = document()
    storage = opened(organize_by_date=False)
    one(storage, given)
    assert files(root) == {f"{given.uuid}.json"}
    assert storage.get(given.uuid) == given.body


def test_files_can_be_compressed_always_to_the_same_bytes(opened: Open, root: Path) -> None:
    given = document(notes="again and again " * 100)
    storage = opened(compression=True)
    one(storage, given)
    (name,) = files(root)
    assert name == f"2025/03/04/{given.uuid}.json.gz"
    first = (root / name).read_bytes()
    assert gzip.decompress(first) == given.body
    assert storage.get(given.uuid) == given.body
    one(storage, given)
    assert (root / name).read_bytes() == first


def test_a_change_of_options_leaves_no_second_file(opened: Open, root: Path) -> None:
    given = document(1)
    one(opened(), given)
    later = document(2, given.uuid, said="later")
    storage = opened(compression=True)
    assert one(storage, later) == Stored()
    assert files(root) == {f"2025/03/04/{given.uuid}.json.gz"}
    assert opened().get(given.uuid) == later.body


def test_a_vcon_whose_date_changes_moves(opened: Open, root: Path) -> None:
    given = document(1)
    storage = opened()
    one(storage, given)
    later = document(3, given.uuid, created_at="2026-01-01T00:00:00Z")
    assert one(storage, later) == Stored()
    assert files(root) == {f"2026/01/01/{given.uuid}.json"}
    assert one(storage, document(2, given.uuid)) == Stored(superseded=True)
    assert files(root) == {f"2026/01/01/{given.uuid}.json"}


def test_files_of_vcon_server_are_found_and_older_than_ours(opened: Open, root: Path) -> None:
    dated, flat = document(), document()
    (root / "2025/03/04").mkdir(parents=True)
    (root / f"2025/03/04/{dated.uuid}.json").write_bytes(dated.body)
    (root / f"{flat.uuid}.json.gz").write_bytes(gzip.compress(flat.body))
    storage = opened()
    assert storage.get(dated.uuid) == dated.body
    assert storage.get(flat.uuid) == flat.body
    now_us = (root / f"2025/03/04/{dated.uuid}.json").stat().st_mtime_ns // 1000
    newer = document(now_us + 1, dated.uuid, said="newer")
    assert one(storage, newer) == Stored()
    assert storage.get(dated.uuid) == newer.body
    assert storage.delete(flat.uuid)
    assert storage.get(flat.uuid) is None


def test_a_link_that_a_crash_left_unmade_is_made_by_the_repetition(
    opened: Open, root: Path
) -> None:
    given = document(5)
    storage = opened()
    one(storage, given)
    (link,) = (root / ".lookup").glob("*/*")
    link.unlink()
    assert one(storage, document(4, given.uuid)) == Stored(superseded=True)
    assert one(storage, given) == Stored()
    assert link.read_bytes() == given.body


def test_what_a_crash_left_half_written_is_swept_and_nothing_else(
    opened: Open, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened()
    (root / ".new" / "fresh").write_bytes(b"of another process")
    opened()
    assert [path.name for path in (root / ".new").iterdir()] == ["fresh"]


def test_a_lock_that_is_never_given_up_makes_it_unavailable(opened: Open, root: Path) -> None:
    storage = opened(timeout_s=1)
    given = document()
    one(storage, given)
    (lock,) = (root / ".locks").iterdir()
    held = os.open(lock, os.O_RDWR)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        outcome = one(storage, document(2, given.uuid))
    finally:
        os.close(held)
    assert isinstance(outcome, Unavailable)
    assert "lock" in outcome.reason
    assert one(storage, document(2, given.uuid)) == Stored()


def test_a_folder_taken_from_under_us_comes_back(opened: Open, root: Path) -> None:
    storage = opened()
    one(storage, document())
    for file in (root / "2025/03/04").iterdir():
        file.unlink()
    (root / "2025/03/04").rmdir()
    given = document()
    assert isinstance(one(storage, given), Unavailable)
    assert one(storage, given) == Stored()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_the_right_to_write_is_told_at_open(opened: Open, root: Path) -> None:
    root.mkdir(mode=0o500)
    with pytest.raises(PermissionError):
        opened()


def test_a_path_that_is_a_file_is_told_at_open(opened: Open, root: Path) -> None:
    root.write_bytes(b"")
    with pytest.raises(OSError, match=r"directory|exists"):
        opened()


def test_a_limit_of_size(opened: Open) -> None:
    small, large = document(), document(said="x" * 1000)
    outcomes = opened(max_file_size=500).save_many([small, large])
    assert outcomes[0] == Stored()
    assert isinstance(outcomes[1], Rejected)
    assert "max_file_size" in outcomes[1].reason


def test_permissions(opened: Open, root: Path) -> None:
    given = document()
    one(opened(file_permissions=0o640, dir_permissions=0o750), given)
    file = root / f"2025/03/04/{given.uuid}.json"
    assert file.stat().st_mode & 0o777 == 0o640
    assert file.parent.stat().st_mode & 0o777 == 0o750
    assert root.stat().st_mode & 0o777 == 0o750


def test_without_fsync_the_same_is_written(opened: Open) -> None:
    storage = opened(fsync=False)
    given = document()
    assert one(storage, given) == Stored()
    assert storage.get(given.uuid) == given.body


@pytest.mark.parametrize("written", ["0o640", "0640", "'0o640'", "'0640'", "'640'", "416"])
def test_permissions_in_all_their_spellings(written: str) -> None:
    """As docs have them, as vcon-server's example has them, and as YAML reads either."""
    import yaml

    given = yaml.safe_load(f"file_permissions: {written}")
    assert Options.model_validate(given).file_permissions == 0o640


@pytest.mark.parametrize("written", [644, 755, 0o040, "rw-r--r--", "0x1ff", "99999"])
def test_permissions_that_make_no_sense(written: object) -> None:
    with pytest.raises(ValueError, match="octal"):
        Options.model_validate({"file_permissions": written})


def test_a_colon_in_a_uuid_is_written_otherwise(opened: Open, root: Path) -> None:
    given = document(uuid="urn:a@b+c=d")
    storage = opened()
    one(storage, given)
    assert files(root) == {"2025/03/04/urn%3Aa@b+c=d.json"}
    assert storage.get(given.uuid) == given.body
