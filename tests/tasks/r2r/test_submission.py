"""Submission files: every format that is read, everything that can be wrong with one, and what is written."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlkit import judging
from vlkit.envs.r2r import Episode
from vlkit.errors import UserError
from vlkit.judging import shown
from vlkit.tasks.r2r.submission import Trajectory, read_submission, write_submission


def write(folder: Path, content: Any, name: str = "predictions.json") -> Path:
    path = folder / name
    data = (
        content
        if isinstance(content, bytes)
        else (content if isinstance(content, str) else json.dumps(content)).encode()
    )
    path.write_bytes(data)
    return path


def episode(identifier: str) -> Episode:
    return Episode(
        id=identifier,
        path_id=identifier.partition("_")[0],
        scan="house",
        path=("a", "b"),
        heading=0.0,
        instruction="go",
        language="en",
        number=0,
    )


ENTRIES: dict[str, list[Any]] = {
    "the official one": [["a", 0.5, 0.0], ["b", 1.5, -0.5]],
    "whole numbers as angles": [["a", 0, 0], ["b", 1, 0]],
    "viewpoints alone": ["a", "b"],
    "lists of one viewpoint": [["a"], ["b"]],
    "moves of several hops": [["a", "b"]],
    "no elevation": [["a", 0.5], ["b", 1.5]],
    "a fourth value": [["a", 0.5, 0.0, False], ["b", 1.5, 0.0, True]],
    "a mixture": ["a", ["b", 0.5, 0.0]],
}


@pytest.mark.parametrize("form", ENTRIES)
def test_every_form_of_a_trajectory_is_read(form: str, tmp_path: Path) -> None:
    item = {"instr_id": "1_0", "trajectory": ENTRIES[form], "predObjId": 4, "details": {"score": 0.1}}
    (trajectory,), problems = read_submission(write(tmp_path, [item]))
    assert (trajectory.id, trajectory.viewpoints) == ("1_0", ("a", "b"))
    assert not problems.counts


def test_angles_are_kept_where_each_entry_has_them(tmp_path: Path) -> None:
    items = [{"instr_id": f"{i}_0", "trajectory": entries} for i, entries in enumerate(ENTRIES.values())]
    trajectories, _ = read_submission(write(tmp_path, items))
    assert [trajectory.headings for trajectory in trajectories] == [
        (0.5, 1.5), (0.0, 1.0), (), (), (), (), (0.5, 1.5), ()
    ]  # fmt: skip
    assert trajectories[0].elevations == (0.0, -0.5)


LINES = '{"instruction_id": 7, "path": ["a", "b"]}\n{"instruction_id": "8", "path": ["a"]}\n'
CONTAINERS: dict[str, bytes] = {
    "JSON lines": LINES.encode(),
    "JSON lines of Windows": LINES.replace("\n", "\r\n").encode(),
    "JSON lines with gaps": b"\n" + LINES.replace("\n", "\n\n").encode(),
    "no newline at the end": LINES.encode()[:-1],
    "gzip": gzip.compress(LINES.encode()),
    "a byte order mark": b"\xef\xbb\xbf" + LINES.encode(),
    "a JSON list": json.dumps([json.loads(line) for line in LINES.splitlines()]).encode(),
    "an indented JSON list": json.dumps([json.loads(line) for line in LINES.splitlines()], indent=2).encode(),
}


@pytest.mark.parametrize("form", CONTAINERS)
def test_every_container_is_read_whatever_its_name(form: str, tmp_path: Path) -> None:
    trajectories, problems = read_submission(write(tmp_path, CONTAINERS[form], "predictions.txt"))
    assert trajectories == [Trajectory("7", ("a", "b")), Trajectory("8", ("a",))]
    assert not problems.counts


ITEMS: dict[str, tuple[Any, str, str]] = {
    "a string": ("1_0", "1 item is no object", "item 1: 1_0"),
    "no id": ({"trajectory": ["a"]}, "1 item has no usable id", "item 1 has keys trajectory"),
    "an id that is a list": ({"instr_id": [1], "trajectory": ["a"]}, "1 item has no usable id", "item 1: [1]"),
    "an id that is true": ({"instr_id": True, "trajectory": ["a"]}, "1 item has no usable id", "item 1: True"),
    "no trajectory": ({"instr_id": "1_0"}, "1 item has no trajectory", "item 1, 1_0: None"),
    "a trajectory that is text": ({"instr_id": "1_0", "trajectory": "a"}, "1 item has no trajectory", "item 1, 1_0: a"),
    "nothing in it": ({"instr_id": "1_0", "trajectory": []}, "1 trajectory is empty", "item 1, 1_0"),
    "a number for a viewpoint": (
        {"instr_id": "1_0", "trajectory": [["a", 0.0, 0.0], [3, 0.0, 0.0]]},
        "1 trajectory has an entry that is no viewpoint",
        "item 1, 1_0: trajectory[1] is [3, 0.0, 0.0]",
    ),
    "an object for an entry": (
        {"instr_id": "1_0", "trajectory": [{"viewpoint": "a"}]},
        "1 trajectory has an entry that is no viewpoint",
        "trajectory[0] is {'viewpoint': 'a'}",
    ),
    "a heading that is not a number": (
        {"instr_id": "1_0", "trajectory": [["a", 0.0, 0.0], ["b", float("nan"), 0.0]]},
        "1 trajectory has a heading or elevation that is not a finite number",
        "trajectory[1] is ['b', nan, 0.0]",
    ),
    "an elevation that is null": (
        {"instr_id": "1_0", "trajectory": [["a", 0.0, None]]},
        "1 trajectory has a heading or elevation that is not a finite number",
        "trajectory[0] is ['a', 0.0, None]",
    ),
    "a heading of 400 digits": (
        {"instr_id": "1_0", "trajectory": [["a", 10**400, 0.0]]},
        "1 trajectory has a heading or elevation that is not a finite number",
        "characters)",
    ),
    "too many entries": (
        {"instr_id": "1_0", "trajectory": ["a"] * 10_001},
        "1 trajectory is too long",
        "item 1, 1_0: 10001 entries",
    ),
    "too many in one move": (
        {"instr_id": "1_0", "trajectory": [["a"] * 6000, ["a"] * 6000]},
        "1 trajectory is too long",
        "item 1, 1_0: 12000 viewpoints",
    ),
}


@pytest.mark.parametrize("what", ITEMS)
def test_an_item_that_cannot_be_used_is_named_and_the_others_are_read(what: str, tmp_path: Path) -> None:
    item, kind, case = ITEMS[what]
    good = {"instr_id": "0_0", "trajectory": ["a"]}
    trajectories, problems = read_submission(write(tmp_path, [good, item, good]))
    assert len(trajectories) == 2
    assert kind in str(problems)
    assert case in str(problems)
    assert "->" in str(problems)


FILES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "blank": (b" \n\t", "is empty"),
    "cut off": (b'[{"instr_id": "1_0",', "line 1, column 21: the file ends in the middle"),
    "cut off on line 2": (b'[\n{"instr_id": "1', "line 2, column 14: not JSON"),
    "lines, cut off": (LINES.encode()[:-9], "line 2, column"),
    "not JSON": (b"instr_id,trajectory\n1_0,a\n", "line 1, column 1: not JSON"),
    "a number": (b"12", "holds int 12"),
    "an object over several lines": (
        b'{\n "summary": {},\n "rows": []\n}',
        "holds one object, with keys summary, rows",
    ),
    "not text": (b"[\xff\xfe]", "byte 1: not UTF-8"),
    "broken gzip": (gzip.compress(LINES.encode())[:-12], "gzip file is broken or ends in the middle"),
    "gzip of nothing": (b"\x1f\x8b rest", "gzip file is broken"),
    "nested too deeply": (b"[" * 100_000, "not a submission"),
    "a number of 5000 digits": (b"[" + b"9" * 5000 + b"]", "not a submission"),
}


@pytest.mark.parametrize("what", FILES)
def test_a_file_that_cannot_be_read_is_one_message(what: str, tmp_path: Path) -> None:
    content, message = FILES[what]
    with pytest.raises(UserError) as caught:
        read_submission(write(tmp_path, content))
    assert message in str(caught.value)
    assert str(tmp_path / "predictions.json") in str(caught.value)


def test_a_file_that_is_not_there_a_folder_and_one_too_large_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="No such file"):
        read_submission(tmp_path / "none.json")
    with pytest.raises(UserError, match="Is a directory"):
        read_submission(tmp_path)
    monkeypatch.setattr(judging, "BYTES_AT_MOST", 1 << 20)
    bomb = write(tmp_path, gzip.compress(b" " * (1 << 21)))
    with pytest.raises(UserError, match="over 1 MiB"):
        read_submission(bomb)


def test_of_many_cases_the_first_are_listed_and_all_counted(tmp_path: Path) -> None:
    items: list[Any] = [{"instr_id": f"{i}_0", "trajectory": []} for i in range(12)] + [3]
    _, problems = read_submission(write(tmp_path, items))
    assert problems.counts == {"empty": 12, "not_object": 1}
    assert "12 trajectories are empty" in str(problems)
    assert "item 4, 4_0" in str(problems)
    assert "item 5, 5_0" not in str(problems)
    assert "and 7 more" in str(problems)


def test_nothing_of_a_file_reaches_the_terminal_raw() -> None:
    for value in ("\x1b[31mred\n", "\ud800", "é", "", "a" * 1000, ["x"] * 1000, None):
        text = shown(value)
        assert text.isascii()
        assert text.isprintable()
        assert 0 < len(text) < 100


FORMATS: dict[str, Callable[[bytes], list[dict[str, Any]]]] = {
    "s.json": json.loads,
    "s.json.gz": lambda data: json.loads(gzip.decompress(data)),
    "s.jsonl": lambda data: [json.loads(line) for line in data.splitlines()],
    "s.jsonl.gz": lambda data: [json.loads(line) for line in gzip.decompress(data).splitlines()],
}


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=20)
@given(
    paths=st.lists(st.lists(st.text(min_size=1, max_size=4), min_size=1, max_size=5), min_size=1, max_size=4),
    angles=st.booleans(),
)
def test_what_is_written_is_read_back(
    name: str, paths: list[list[str]], angles: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    trajectories = [
        Trajectory(
            str(i),
            tuple(path),
            headings=tuple(0.1 * k for k in range(len(path))) if angles else (),
            elevations=(0.5,) * len(path) if angles else (),
        )
        for i, path in enumerate(paths)
    ]
    file = tmp_path_factory.mktemp("written") / name
    write_submission(file, reversed(trajectories), [episode(trajectory.id) for trajectory in trajectories])
    again, problems = read_submission(file)
    assert not problems.counts
    assert [(each.id, each.viewpoints) for each in again] == [(each.id, each.viewpoints) for each in trajectories]
    items = FORMATS[name](file.read_bytes())
    if ".jsonl" in name:
        assert items[0] == {"instruction_id": 0, "path": paths[0]}
    else:
        assert items[0]["instr_id"] == "0"
        assert items[0]["trajectory"][0] == [paths[0][0], 0.0, 0.5 if angles else 0.0]
    assert [file.name for file in file.parent.iterdir()] == [name]


def test_the_same_trajectories_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one.json.gz", "two.json.gz"):
        write_submission(tmp_path / name, [Trajectory("1_0", ("a",))], [episode("1_0")])
    assert (tmp_path / "one.json.gz").read_bytes() == (tmp_path / "two.json.gz").read_bytes()


def test_a_file_that_the_judge_would_refuse_is_not_written(tmp_path: Path) -> None:
    trajectories = [
        Trajectory("1_0", ("a",)),
        Trajectory("1_0", ("a", "b")),
        Trajectory("2_0", ()),
        Trajectory("3_0", ("a",), headings=(float("nan"),), elevations=(0.0,)),
        Trajectory("9_0", ("a",)),
    ]
    with pytest.raises(UserError) as caught:
        write_submission(tmp_path / "s.json", trajectories, [episode(f"{i}_0") for i in range(1, 5)])
    for message in (
        "1 id is used more than once\n    1_0",
        "1 trajectory is empty\n    2_0",
        "1 trajectory has a heading or elevation that is not a finite number\n    3_0",
        "1 instruction has no trajectory\n    4_0",
        "1 trajectory has an id that is not in the annotations\n    9_0",
    ):
        assert message in str(caught.value)
    assert list(tmp_path.iterdir()) == []
