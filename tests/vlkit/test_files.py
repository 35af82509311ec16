from pathlib import Path

import pytest

from vlkit.errors import UserError
from vlkit.files import write_atomic


def write(path: Path, text: str = "new") -> None:
    with write_atomic(path) as temporary:
        temporary.write_text(text)


def test_a_file_appears_whole_and_its_folders_with_it(tmp_path: Path) -> None:
    write(tmp_path / "a" / "b" / "file.txt")
    assert (tmp_path / "a" / "b" / "file.txt").read_text() == "new"
    assert [each.name for each in (tmp_path / "a" / "b").iterdir()] == ["file.txt"]


def fail(path: Path, error: Exception) -> None:
    with write_atomic(path) as temporary:
        temporary.write_text("half")
        raise error


def test_a_block_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    write(tmp_path / "file.txt", "old")
    with pytest.raises(KeyError):
        fail(tmp_path / "file.txt", KeyError())
    assert [each.read_text() for each in tmp_path.iterdir()] == ["old"]


@pytest.mark.parametrize("path", ["file.txt/new.txt", "file.txt/a/b/new.txt"])
def test_a_file_in_the_place_of_a_folder_is_named(tmp_path: Path, path: str) -> None:
    write(tmp_path / "file.txt")
    with pytest.raises(UserError, match=r"cannot write .*: .*/file\.txt is a file, not a folder; name another folder"):
        write(tmp_path / path)


def test_a_folder_in_the_place_of_the_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="folder: it is a folder; name a file"):
        write(tmp_path / "folder")
    assert [each.name for each in tmp_path.iterdir()] == ["folder"]


def test_any_other_reason_is_the_systems(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot write .*: No space left on device; free some space or name a folder"):
        fail(tmp_path / "file.txt", OSError(28, "No space left on device"))
