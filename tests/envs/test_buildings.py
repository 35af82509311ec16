import json
import math
import re
import resource
from itertools import pairwise
from pathlib import Path
from random import Random

import networkx
import numpy as np
import pytest

from vlkit.envs.buildings import buildings, generate, main
from vlkit.envs.directions import instructions, path_legs
from vlkit.envs.floor_plans import BODY_M, Building, Room, Viewpoint
from vlkit.envs.r2r import Episode, Scan, read_episodes, read_scans
from vlkit.errors import UserError

SPLITS = ("train", "val_seen", "val_unseen")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("buildings") / "world"
    generate(folder, seed=3, buildings_train=4, buildings_unseen=2, paths_train=20, paths_seen=4, paths_unseen=12)
    return folder


@pytest.fixture(scope="module")
def episodes(world: Path) -> dict[str, list[Episode]]:
    return {split: read_episodes(world / "annotations", split) for split in SPLITS}


@pytest.fixture(scope="module")
def scans(world: Path) -> dict[str, Scan]:
    return read_scans(world / "connectivity", (world / "connectivity" / "scans.txt").read_text().split())


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def wrapped(degrees: float) -> float:
    return (degrees + 180) % 360 - 180


# the files


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path, world: Path) -> None:
    numbers = {"buildings_train": 4, "buildings_unseen": 2, "paths_train": 20, "paths_seen": 4, "paths_unseen": 12}
    generate(tmp_path / "again", seed=3, **numbers)
    assert contents(tmp_path / "again") == contents(world)
    generate(tmp_path / "other", seed=4, buildings_train=1, buildings_unseen=1, paths_train=2)
    graph = "connectivity/synthetic_0001_connectivity.json"
    assert contents(tmp_path / "other")[graph] != contents(world)[graph]


def test_a_building_does_not_depend_on_how_many_are_made() -> None:
    few, many = list(buildings(7, 2)), list(buildings(7, 4))
    assert [building.viewpoints for building in few] == [building.viewpoints for building in many[:2]]
    assert few[0].viewpoints != few[1].viewpoints


def test_the_world_says_that_it_is_synthetic(world: Path) -> None:
    assert "no real buildings" in (world / "README.md").read_text()
    for split in SPLITS:
        items = json.loads((world / "annotations" / f"R2R_{split}.json").read_text())
        assert all(item["synthetic"] is True and item["scan"].startswith("synthetic_") for item in items)
    assert json.loads((world / "synthetic.json").read_text())["splits"]["train"] == {
        "buildings": 4,
        "paths": 80,
        "instructions": 240,
    }


def test_graphs_have_the_real_files_fields(world: Path) -> None:
    for file in (world / "connectivity").glob("*_connectivity.json"):
        items = json.loads(file.read_text())
        assert 30 <= sum(item["included"] for item in items) <= 90
        assert not all(item["included"] for item in items)
        assert len({item["image_id"] for item in items}) == len(items)
        visible, unobstructed = ([item[key] for item in items] for key in ("visible", "unobstructed"))
        for matrix in (np.array(visible), np.array(unobstructed)):
            assert matrix.dtype == bool
            assert matrix.shape == (len(items), len(items))
            assert (matrix == matrix.T).all()
            assert not matrix.diagonal().any()
        assert not (np.array(unobstructed) & ~np.array(visible)).any()
        for item in items:
            assert list(item) == ["image_id", "pose", "included", "visible", "unobstructed", "height"]
            assert re.fullmatch("[0-9a-f]{32}", item["image_id"])
            pose = np.array(item["pose"]).reshape(4, 4)
            rotation = pose[:3, :3]
            np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-6)
            assert np.linalg.det(rotation) == pytest.approx(1)
            assert pose[3].tolist() == [0, 0, 0, 1]
            assert rotation[:, 1].tolist() == [0, 0, -1]  # the camera's second axis looks down
            assert 1.4 < item["height"] < 1.6


def test_viewpoints_are_connected_and_as_far_apart_as_in_r2r(scans: dict[str, Scan]) -> None:
    lengths = []
    for scan in scans.values():
        assert np.isfinite(scan.distances).all()
        lengths += scan.edges[scan.adjacency].tolist()
    assert 2.0 < np.mean(lengths) < 2.6
    assert max(lengths) <= 3.4
    assert min(lengths) > 1.5


def test_no_edge_leads_through_a_wall() -> None:
    for building in buildings(11, 3):
        for i, j in np.argwhere(np.triu(building.unobstructed)):
            a, b = building.viewpoints[i], building.viewpoints[j]
            storeys = set(building.rooms[a.room].storeys) & set(building.rooms[b.room].storeys)
            assert any(walkable(building, storey, a, b) for storey in storeys)


def walkable(building: Building, storey: int, a: Viewpoint, b: Viewpoint) -> bool:
    """Samples the way from a to b, and a hand's breadth to its left and right."""
    start, end = np.array(a.plan), np.array(b.plan)
    across = np.array([end[1] - start[1], start[0] - end[0]]) / np.linalg.norm(end - start)
    for aside in (-BODY_M / 2 + 0.01, 0.0, BODY_M / 2 - 0.01):
        before, place = None, start
        for share in np.linspace(0, 1, 60):
            point = start + share * (end - start) + aside * across
            cell = (int(np.searchsorted(building.xs, point[0])) - 1, int(np.searchsorted(building.ys, point[1])) - 1)
            if (storey, cell) not in building.room_at:
                return False
            if before not in (None, cell) and building.room_at[storey, before] != building.room_at[storey, cell]:
                gap = building.doors.get((storey, frozenset((before, cell))))
                axis = 1 if before[0] != cell[0] else 0  # along the wall
                lines = (building.xs, building.ys)[axis]
                centre = (lines[cell[axis]] + lines[cell[axis] + 1]) / 2
                if gap is None or min(abs(point[axis] - centre), abs(place[axis] - centre)) > gap / 2:
                    return False
            before, place = cell, point
    return True


def test_paths_are_shortest_and_as_long_as_in_r2r(
    world: Path, episodes: dict[str, list[Episode]], scans: dict[str, Scan]
) -> None:
    graphs = {name: networkx.Graph() for name in scans}
    for name, scan in scans.items():
        for i, j in np.argwhere(scan.adjacency):
            graphs[name].add_edge(scan.viewpoints[i], scan.viewpoints[j], weight=scan.edges[i, j])
    ends = [(episode.start, episode.goal) for split in SPLITS for episode in episodes[split] if episode.number == 0]
    assert len(set(ends)) == len(ends)
    for split in SPLITS:
        for item in json.loads((world / "annotations" / f"R2R_{split}.json").read_text()):
            path, graph = item["path"], graphs[item["scan"]]
            assert networkx.shortest_path(graph, path[0], path[-1], weight="weight") == path
            length = networkx.shortest_path_length(graph, path[0], path[-1], weight="weight")
            assert item["distance"] == round(length, 2)
            assert 5 <= item["distance"] <= 20
            assert 4 <= len(path) <= 7
            assert 0 <= item["heading"] <= 2 * math.pi


def test_unseen_buildings_occur_in_no_other_split(episodes: dict[str, list[Episode]]) -> None:
    of = {split: {episode.scan for episode in episodes[split]} for split in SPLITS}
    assert of["train"] == of["val_seen"]
    assert not of["val_unseen"] & of["train"]
    assert len({episode.id for split in SPLITS for episode in episodes[split]}) == sum(map(len, episodes.values()))


# the instructions


def test_each_path_has_three_different_instructions_of_some_length(episodes: dict[str, list[Episode]]) -> None:
    texts: dict[str, set[str]] = {}
    for split in SPLITS:
        for episode in episodes[split]:
            texts.setdefault(episode.path_id, set()).add(episode.instruction)
            assert 10 <= len(episode.instruction.split()) <= 40
            assert re.search(r"\b(stop|wait)\b", episode.instruction.lower())
            assert "  " not in episode.instruction
    assert all(len(different) == 3 for different in texts.values())


def test_turns_in_words_are_those_of_the_path(episodes: dict[str, list[Episode]], scans: dict[str, Scan]) -> None:
    """Computed anew from the files: heading 0 is +y and clockwise is positive, as in R2R."""
    turn = r"(?:turn|go|make a|turn slightly|bear|veer|turn sharply|make a sharp) (left|right)"
    door = r"door on (?:the|your) (left|right)(?! and stop| and wait)"
    spoken = re.compile(
        rf"\b(?:{turn}|(?:take|go through|walk through) the \w+ {door}|take the \w+ (left|right)|(turn around|turn back))\b"
    )
    checked = 0
    for episode in (episode for split in SPLITS for episode in episodes[split]):
        scan = scans[episode.scan]
        points = [scan.positions[scan.index[viewpoint]] for viewpoint in episode.path]
        before, expected = math.degrees(episode.heading), []
        for a, b in pairwise(points):
            towards = math.degrees(math.atan2(b[0] - a[0], b[1] - a[1]))
            change = wrapped(towards - before)
            if abs(change) > 22.5:
                expected.append("around" if abs(change) > 155 else "left" if change < 0 else "right")
            before = towards
        text = re.sub(r"(stop|wait)[^.]*\.$", "", episode.instruction.lower())
        said = [next(filter(None, match.groups())) for match in spoken.finditer(text)]
        said = ["around" if word.startswith("turn ") else word for word in said]
        assert said == expected, episode
        checked += len(said)
    assert checked > 300


def test_stairs_in_words_are_those_of_the_path(episodes: dict[str, list[Episode]], scans: dict[str, Scan]) -> None:
    climbs = 0
    for episode in (episode for split in SPLITS for episode in episodes[split]):
        heights = [scans[episode.scan].positions[scans[episode.scan].index[viewpoint]][2] for viewpoint in episode.path]
        up, down = heights[-1] - heights[0] > 1, heights[0] - heights[-1] > 1
        words = episode.instruction.lower()
        assert bool(re.search(r"\b(go up|climb|walk up) the stairs", words)) == up
        assert bool(re.search(r"\b(go down|descend|walk down) the stairs", words)) == down
        climbs += up + down
    assert climbs > 20


def viewpoint(number: int, room: int, x: float, y: float, z: float = 1.5) -> Viewpoint:
    return Viewpoint(
        id=f"{number:032x}", room=room, plan=(x, y), position=(x, y, z), heading=0.0, height=1.5, included=True
    )


@pytest.fixture
def hall() -> Building:
    """A hallway to the east; doors to the south at 1, 5 and 7 m, to the north at 5 m; cells are 2 m wide.

    6 |       |  D . |        D: den, 9 then 10 further in
    4 | ----- hallway -----   0 1 2 3 4
    2 | A   |     | B | C     5 below 0, 6 below 2, 7 below 3, 8 beside 7
    """
    rooms = (
        Room("hallway", "hallway", (0,), frozenset((x, 1) for x in range(5))),
        Room("attic", "room", (0,), frozenset([(0, 0)])),
        Room("bath", "room", (0,), frozenset([(2, 0)])),
        Room("cellar", "room", (0,), frozenset([(3, 0), (4, 0)])),
        Room("den", "room", (0,), frozenset([(2, 2), (2, 3)])),
    )
    walls = [((0, 1), (0, 0)), ((2, 1), (2, 0)), ((3, 1), (3, 0)), ((2, 1), (2, 2))]
    places = [(0, 1, 3), (0, 3, 3), (0, 5, 3), (0, 7, 3), (0, 9, 3), (1, 1, 1), (2, 5, 1), (3, 7, 1), (3, 9, 1), (4, 5, 5), (4, 5, 7)]  # fmt: skip
    return Building(
        name="hall",
        xs=(0, 2, 4, 6, 8, 10),
        ys=(0, 2, 4, 6, 8),
        rooms=rooms,
        doors={(0, frozenset(wall)): 0.9 for wall in walls},
        viewpoints=tuple(viewpoint(i, *place) for i, place in enumerate(places)),
    )


def test_legs_count_doors_as_one_comes_to_them(hall: Building) -> None:
    out, along, into = path_legs(hall, [5, 0, 1, 2, 3, 7], heading=math.pi / 2)
    assert (out.turn, out.rooms[0].name, out.rooms[1].name) == (-90, "attic", "hallway")
    assert (along.turn, along.side, along.hops, along.ahead) == (90, "right", 3, "same")
    assert along.passed == {"left": 1, "right": 1}  # the attic's own door lies behind
    assert along.door == {"left": 0, "right": 2}
    assert along.last_metres == 6
    assert (into.side, into.rooms[1].name, into.last_hops, into.ahead) == ("right", "cellar", 0, "")
    on = path_legs(hall, [0, 1, 2, 9, 10], heading=0.0)[-1]
    assert (on.side, on.last_hops, on.ahead) == ("left", 1, "")


def test_instructions_say_what_the_legs_hold(hall: Building) -> None:
    path = [5, 0, 1, 2, 3, 7, 8]
    texts = instructions(hall, path, heading=math.pi / 2, rng=Random(0), count=20)
    assert len(set(texts)) == 20
    for text in texts:
        assert re.search(r"^(Turn|Go|Make a) left", text)
        assert re.search(r"\b(second|next) door on (the|your) right|about six metres", text)
        assert re.search(r"(wall|far end|end of the room)", text)
        if "past" in text:
            assert "past one door on the right" in text
    assert any("attic" in text for text in texts)
    assert any("attic" not in text for text in texts)


def test_a_path_too_long_to_tell_gets_no_instructions(hall: Building) -> None:
    back_and_forth = [5, 0, 1, 2, 9, 10, 9, 2, 3, 7, 8, 7, 3, 2, 6]
    assert instructions(hall, back_and_forth, heading=0.0, rng=Random(0)) == []


# the command, and mistakes


def test_the_command_writes_what_the_readers_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "world"
    assert main(["--out", str(out), "--seed", "5", "--buildings", "1", "--unseen", "1", "--paths", "3"]) == 0
    assert "(synthetic)" in capsys.readouterr().out
    assert len(read_episodes(out / "annotations", "train")) == 9
    assert main(["--out", str(out), "--seed", "6", "--buildings", "2", "--unseen", "1", "--paths", "3"]) == 0
    assert len(read_episodes(out / "annotations", "train")) == 18
    assert [file.name for file in out.parent.iterdir()] == ["world"]
    for wrong in ([], ["--out", str(out), "--buildings", "many"], ["--out", str(out), "--bildings", "3"]):
        with pytest.raises(SystemExit) as caught:
            main(wrong)
        assert caught.value.code == 2
    assert "unknown option --bildings. Did you mean '--buildings'?" in capsys.readouterr().err


def test_a_folder_with_anything_else_in_it_is_refused(tmp_path: Path) -> None:
    numbers = {"buildings_train": 1, "buildings_unseen": 1, "paths_train": 2, "paths_seen": 1, "paths_unseen": 1}
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years")
    with pytest.raises(UserError, match=r"holds 1 files that are not of generated buildings \(thesis.txt\)"):
        generate(mine, **numbers)
    world = tmp_path / "world"
    generate(world, **numbers)
    generate(world, **numbers)
    (world / "annotations" / "notes.txt").write_text("years")
    with pytest.raises(UserError, match="annotations/notes.txt"):
        generate(world, **numbers)
    assert (mine / "thesis.txt").exists()
    assert (world / "annotations" / "notes.txt").exists()
    (tmp_path / "empty").mkdir()
    generate(tmp_path / "empty", **numbers)
    assert contents(tmp_path / "empty")


def test_what_cannot_be_made_is_one_message_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        generate(tmp_path / "file")
    with pytest.raises(UserError, match=r"cannot write .*/file is a file, not a folder; name another folder"):
        generate(tmp_path / "file" / "world", buildings_train=1, buildings_unseen=1, paths_train=1)
    with pytest.raises(UserError, match=r"and 1000005 were asked for; ask for fewer paths and more buildings"):
        generate(tmp_path / "world", buildings_train=1, buildings_unseen=1, paths_train=1_000_000)
    for numbers in ({"buildings_train": 0}, {"buildings_unseen": 0}, {"paths_train": 0}, {"buildings_train": 10_000}):
        with pytest.raises(UserError, match="at least one of each is needed, and at most 9999 buildings"):
            generate(tmp_path / "world", **numbers)
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_leaves_the_earlier_world(tmp_path: Path) -> None:
    numbers = {"buildings_train": 1, "buildings_unseen": 1, "paths_train": 5}
    generate(tmp_path / "world", **numbers)
    before = contents(tmp_path / "world")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, limits[1]))
    try:
        with pytest.raises(UserError, match="cannot write .*free some space"):
            generate(tmp_path / "world", seed=1, **numbers)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert contents(tmp_path / "world") == before
    assert [file.name for file in tmp_path.iterdir()] == ["world"]
