import gzip
import json
import math
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import networkx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vlkit.envs.r2r import Episode, Scan, annotations_file, read_episodes, read_scan, read_scans, splits
from vlkit.errors import UserError

Change = Callable[[list[dict[str, Any]]], object]


@pytest.fixture
def copied(small_world: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small_world, tmp_path / "world"))


def changed(file: Path, change: Change) -> Path:
    """Rewrites the file with its items changed; `change` alters them in place."""
    items = json.loads(file.read_text())
    change(items)
    file.write_text(json.dumps(items))
    return file


def item(**changes: Any) -> dict[str, Any]:
    whole = {"scan": "s", "path": ["v", "w"], "path_id": 7, "heading": 1.5, "instructions": ["Go.", "Walk."]} | changes
    return {key: value for key, value in whole.items() if value is not None}


def annotations(folder: Path, *items: Any, name: str = "R2R_train.json") -> Path:
    file = folder / name
    file.write_text(json.dumps(items))
    return file


# Graphs.


def test_a_scan_keeps_the_included_viewpoints_in_the_files_order(small_world: Path) -> None:
    scan = read_scan(small_world / "connectivity", "alpha")
    assert scan.viewpoints == ("a0", "a1", "a2", "a3", "a4", "a5", "a6")
    assert scan.excluded == {"x"}
    assert scan.index["a6"] == 6
    assert scan.positions[6].tolist() == [6.0, 3.0, 4.5]
    joined = {f"{scan.viewpoints[a]} {scan.viewpoints[b]}" for a, b in np.argwhere(np.triu(scan.adjacency))}
    assert joined == {"a0 a1", "a1 a2", "a0 a2", "a1 a3", "a2 a4", "a3 a4", "a3 a5", "a5 a6"}


def test_distances_are_those_along_the_graph(small_world: Path) -> None:
    scan = read_scan(small_world / "connectivity", "alpha")
    expected = [0.0, 3.0, 6.0, 6.0, 9.0, 9.0, 12.0]  # from a0, by hand
    np.testing.assert_allclose(scan.distances[0], expected)
    np.testing.assert_array_equal(scan.distances, scan.distances.T)


def test_a_viewpoint_that_is_joined_to_nothing_is_infinitely_far(small_world: Path) -> None:
    scan = read_scan(small_world / "connectivity", "beta")
    assert np.isinf(scan.distances[5, :5]).all()
    assert scan.distances[5, 5] == 0.0
    with pytest.raises(UserError, match="scan beta: no path from b0 to b5"):
        scan.shortest_path("b0", "b5")


def test_a_shortest_path_has_the_length_of_the_distance(small_world: Path) -> None:
    for name in ("alpha", "beta"):
        scan = read_scan(small_world / "connectivity", name)
        for a, start in enumerate(scan.viewpoints):
            for b, goal in enumerate(scan.viewpoints):
                if math.isfinite(scan.distances[a, b]):
                    path = [scan.index[viewpoint] for viewpoint in scan.shortest_path(start, goal)]
                    assert (path[0], path[-1]) == (a, b)
                    assert sum(scan.edges[path[:-1], path[1:]]) == pytest.approx(scan.distances[a, b])
    alpha = read_scan(small_world / "connectivity", "alpha")
    assert alpha.shortest_path("a0", "a5") == ("a0", "a1", "a3", "a5")
    assert alpha.shortest_path("a0", "a2") == ("a0", "a2")  # a1 lies on the line between them


def test_scans_are_read_once_each_in_the_order_of_their_names(small_world: Path) -> None:
    assert list(read_scans(small_world / "connectivity", ["beta", "alpha", "beta"])) == ["alpha", "beta"]


def test_a_missing_graph_is_named_with_the_nearest_one(small_world: Path) -> None:
    with pytest.raises(UserError, match=r"no graph for scan 'alphe': .* has no file alphe_connectivity.json.*'alpha'"):
        read_scans(small_world / "connectivity", ["beta", "alphe"])
    with pytest.raises(UserError, match="but 0 others. Point --connectivity at the folder"):
        read_scan(small_world / "annotations", "alpha")
    with pytest.raises(UserError, match="no graph"):
        read_scan(small_world / "nowhere", "a" * 300)


def one_way(items: list[dict[str, Any]]) -> None:
    items[4]["unobstructed"][0] = True


def twice(items: list[dict[str, Any]]) -> None:
    items[1]["image_id"] = "a0"


def same_place(items: list[dict[str, Any]]) -> None:
    items[1]["pose"] = items[0]["pose"]


BROKEN_GRAPHS: dict[str, tuple[Change, str]] = {
    "one direction": (one_way, "a0 and a3 are joined in one direction only"),
    "twice": (twice, "1 viewpoints appear twice"),
    "same place": (same_place, "a0 and a1 are joined but at one place"),
    "NaN pose": (lambda items: items[2]["pose"].__setitem__(3, math.nan), "pose of viewpoint a2 holds a number"),
    "far away": (lambda items: items[2]["pose"].__setitem__(3, 1e300), "beyond 100000 m"),
    "huge number": (lambda items: items[2]["pose"].__setitem__(3, 10**400), "not a connectivity file"),
    "short pose": (lambda items: items[2]["pose"].pop(), "pose of 16 numbers"),
    "unobstructed": (lambda items: items[2]["unobstructed"].pop(), "unobstructed with one entry an item"),
    "all unobstructed": (
        lambda items: [each["unobstructed"].pop() for each in items],
        "unobstructed with one entry an item",
    ),
    "no key": (lambda items: items[3].pop("included"), "KeyError: 'included'"),
    "no object": (lambda items: items.append([]), "not a connectivity file"),  # type: ignore[arg-type]
    "empty": (lambda items: items.clear(), "none of its 0 viewpoints is included"),
    "nothing included": (lambda items: [each.update(included=False) for each in items], "none of its 8 viewpoints"),
}


@pytest.mark.parametrize("name", BROKEN_GRAPHS)
def test_a_broken_graph_is_refused_with_its_file_named(copied: Path, name: str) -> None:
    change, message = BROKEN_GRAPHS[name]
    file = changed(copied / "connectivity" / "alpha_connectivity.json", change)
    with pytest.raises(UserError, match=message) as raised:
        read_scan(copied / "connectivity", "alpha")
    assert str(file) in str(raised.value)


def test_a_strange_pose_of_an_excluded_viewpoint_does_no_harm(copied: Path) -> None:
    changed(
        copied / "connectivity" / "alpha_connectivity.json", lambda items: items[3]["pose"].__setitem__(3, math.nan)
    )
    assert len(read_scan(copied / "connectivity", "alpha").viewpoints) == 7


# Annotations.


def test_an_r2r_item_yields_one_episode_an_instruction(tmp_path: Path) -> None:
    episodes = read_episodes(annotations(tmp_path, item()))
    assert [episode.id for episode in episodes] == ["7_0", "7_1"]
    expected = Episode("7_1", "7", "s", ("v", "w"), heading=1.5, instruction="Walk.", language="en", number=1)
    assert episodes[1] == expected
    assert (episodes[1].start, episodes[1].goal) == ("v", "w")


def test_a_path_that_passes_a_viewpoint_twice_is_kept_as_r4r_has_them(tmp_path: Path) -> None:
    file = annotations(tmp_path, item(path=["v", "w", "v", "u"]), name="R4R_val_seen.json")
    assert read_episodes(file)[0].path == ("v", "w", "v", "u")


def test_rxr_keeps_every_language_and_counts_the_instructions_of_a_path(tmp_path: Path) -> None:
    lines = [
        item(instructions=None, instruction_id=100 + i, instruction=text, language=language, path_id=path_id)
        for i, (text, language, path_id) in enumerate(
            [("Go.", "en-IN", 1), ("जाओ", "hi-IN", 1), ("వెళ్ళు", "te-IN", 2), ("Walk.", "en-US", 1)]
        )
    ]
    file = tmp_path / "rxr_val_seen_guide.jsonl.gz"
    with gzip.open(file, "wt", encoding="utf-8") as out:
        out.write("\n".join(json.dumps(line, ensure_ascii=False) for line in lines) + "\n\n")
    episodes = read_episodes(tmp_path, "val_seen")
    assert [(episode.id, episode.language, episode.number) for episode in episodes] == [
        ("100", "en-IN", 0),
        ("101", "hi-IN", 1),
        ("102", "te-IN", 0),
        ("103", "en-US", 2),
    ]
    assert episodes[1].instruction == "जाओ"


def test_reverie_items_of_one_path_are_told_apart_by_their_object(tmp_path: Path) -> None:
    file = annotations(tmp_path, item(objId=3, id="7_3"), item(objId=9, id="7_9"))
    assert [episode.id for episode in read_episodes(file)] == ["7_3_0", "7_3_1", "7_9_0", "7_9_1"]


def test_a_test_split_gives_the_start_alone(small_world: Path) -> None:
    episodes = read_episodes(small_world / "annotations", "test")
    assert [episode.path for episode in episodes[::3]] == [("a1",), ("b2",)]


def test_a_split_is_found_by_the_name_of_its_file(tmp_path: Path) -> None:
    names = ("R2R_train.json", "R2R_val_unseen.json", "rxr_val_seen_guide.jsonl.gz", "REVERIE_test.json", "notes.txt")
    for name in (*names, "config.json"):
        (tmp_path / name).touch()
    assert splits(tmp_path) == ["test", "train", "val_seen", "val_unseen"]
    assert annotations_file(tmp_path, "val_seen").name == "rxr_val_seen_guide.jsonl.gz"
    assert annotations_file(tmp_path / "notes.txt", "train").name == "notes.txt"  # a file is taken at its word


def test_a_split_that_is_not_there_names_those_that_are(small_world: Path, tmp_path: Path) -> None:
    folder = small_world / "annotations"
    with pytest.raises(UserError, match=r"no file of split 'val_sen'; it holds test, train, val_unseen"):
        read_episodes(folder, "val_sen")
    with pytest.raises(UserError, match=r"say which split of it, one of test, train, val_unseen"):
        read_episodes(folder)
    with pytest.raises(UserError, match=r"no annotations at .*nowhere.json: give the JSON file"):
        read_episodes(tmp_path / "nowhere.json")
    annotations(tmp_path, item(), name="R2R_train.json")
    annotations(tmp_path, item(), name="R4R_train.json")
    with pytest.raises(UserError, match=r"2 files of split 'train' \(R2R_train.json, R4R_train.json\); name one"):
        read_episodes(tmp_path, "train")


BROKEN_ITEMS: dict[str, tuple[list[Any], str]] = {
    "no scan": ([item(), item(scan=None)], "item 1 cannot be used: it has no 'scan'; an item needs scan"),
    "no instruction": ([item(instructions=None)], "it has no 'instruction_id'"),
    "path a word": ([item(path="v w")], "its path is str"),
    "heading a word": ([item(heading="north")], "its heading is str"),
    "instructions a text": ([item(instructions="Go.")], "its instructions is str"),
    "path_id a list": ([item(path_id=[1])], "its path_id is list"),
    "path_id true": ([item(path_id=True)], "its path_id is bool"),
    "empty path": ([item(path=[])], "item 0 .path 7.: its path must list viewpoint ids, at least the start"),
    "number in path": ([item(path=["v", 3])], "its path must list viewpoint ids"),
    "NaN heading": ([item(heading=math.nan)], "has heading nan; expected radians"),
    "huge heading": ([item(heading=10**400)], "item 0 cannot be used"),
    "no instructions": ([item(instructions=[])], "has no instruction; write one"),
    "empty instruction": ([item(instructions=["Go.", "  \n"])], "instruction 7_1 is empty; write one"),
    "no text": ([item(instructions=[None])], "instruction 7_0 is empty"),
    "10 000 words": ([item(instructions=["go " * 10_000])], "instruction 7_0 has 10000 words, at most 2000 are read"),
    "duplicate": ([item(), item(path_id=8), item()], "2 instruction ids appear more than once, first .'7_0', '7_1'."),
    "no object": ([item(), 3], "item 1 is no object but int"),
    "nothing": ([], "holds no instruction"),
}


@pytest.mark.parametrize("name", BROKEN_ITEMS)
def test_a_broken_item_is_refused_with_its_file_and_number(tmp_path: Path, name: str) -> None:
    items, message = BROKEN_ITEMS[name]
    file = annotations(tmp_path, *items)
    with pytest.raises(UserError, match=message) as raised:
        read_episodes(file)
    assert str(file) in str(raised.value)


def test_a_truncated_file_is_said_to_end_in_the_middle(tmp_path: Path) -> None:
    whole = json.dumps([item(), item(path_id=8)], indent=1)
    file = tmp_path / "R2R_train.json"
    for characters in (0, 1, 40, len(whole) // 2, len(whole) - 1):
        file.write_text(whole[:characters])
        with pytest.raises(UserError, match=r"R2R_train.json ends in the middle of line \d+; fetch it again"):
            read_episodes(file)
    file.write_text(whole.replace(",", ";", 1))
    with pytest.raises(UserError, match="is not JSON in line 3"):
        read_episodes(file)
    file.write_text('{"a": 1}')
    with pytest.raises(UserError, match="expected a list of items, found dict"):
        read_episodes(file)


def test_a_truncated_or_damaged_gzip_file_is_refused(tmp_path: Path) -> None:
    lines = "\n".join(json.dumps(item(path_id=i, instructions=[f"{i * 7919 % 9973}"] * 3)) for i in range(400))
    packed = gzip.compress(lines.encode())
    damaged = bytearray(packed)
    damaged[len(packed) // 2] ^= 255
    file = tmp_path / "rxr_train_guide.jsonl.gz"
    for data in (
        packed[: len(packed) // 2],
        packed[:-4],
        bytes(damaged),
        lines.encode(),
        gzip.compress(lines.encode()[:-5]),
    ):
        file.write_bytes(data)
        with pytest.raises(UserError, match="fetch it again"):
            read_episodes(file)


def test_a_file_that_is_no_text_or_may_not_be_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "R2R_train.json"
    for data in (b"\xff\xfe\x00", b"[" * 100_000, b"[" + b"1" * 5000 + b"]"):
        file.write_bytes(data)
        with pytest.raises(UserError, match="R2R_train.json"):
            read_episodes(file)
    (tmp_path / "connectivity").mkdir()
    (tmp_path / "connectivity" / "s_connectivity.json").mkdir()
    with pytest.raises(UserError, match="cannot read .*s_connectivity.json"):
        read_scan(tmp_path / "connectivity", "s")


# Whatever is in a file, reading it either works or raises UserError.

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The keys that lead to each value inside `value`."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(place for key, each in inside for place in places(each, (*at, key)))]


def mutated(value: Any, data: st.DataObject) -> Any:
    """One to three of its values replaced or taken out."""
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.sampled_from(places(value)))
        if not place:
            return data.draw(VALUES)
        holder = value
        for key in place[:-1]:
            holder = holder[key]
        if data.draw(st.booleans()):
            del holder[place[-1]]
        else:
            holder[place[-1]] = data.draw(VALUES)
    return value


FUZZ = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@FUZZ
@given(data=st.data())
def test_mutated_annotations_give_episodes_or_a_user_error(tmp_path: Path, data: st.DataObject) -> None:
    items = mutated([item(), item(path_id=8), item(objId=1, id="9_1", path_id=9)], data)
    file = tmp_path / "R2R_train.json"
    text = json.dumps(items)
    file.write_text(text[: data.draw(st.integers(0, 2 * len(text)))])
    with suppress(UserError):
        assert all(isinstance(episode, Episode) for episode in read_episodes(file))


@FUZZ
@given(data=st.data())
def test_a_mutated_graph_gives_a_scan_or_a_user_error(small_world: Path, tmp_path: Path, data: st.DataObject) -> None:
    items = mutated(json.loads((small_world / "connectivity" / "alpha_connectivity.json").read_text()), data)
    file = tmp_path / "alpha_connectivity.json"
    file.write_text(json.dumps(items))
    with suppress(UserError):
        scan = read_scan(tmp_path, "alpha")
        assert scan.distances.shape == scan.adjacency.shape


@given(data=st.binary(max_size=300))
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_at_all_give_a_user_error(tmp_path: Path, data: bytes) -> None:
    for name in ("R2R_train.json", "rxr_train_guide.jsonl", "rxr_train_guide.jsonl.gz"):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UserError):
            read_episodes(tmp_path / name)


# The published files.


def dijkstra(scan: Scan) -> np.ndarray:
    graph = networkx.Graph()
    graph.add_nodes_from(range(len(scan.viewpoints)))
    for a, b in np.argwhere(np.triu(scan.adjacency)).tolist():
        graph.add_edge(a, b, weight=math.dist(scan.positions[a], scan.positions[b]))
    distances = np.full(scan.adjacency.shape, math.inf)
    for a, row in networkx.all_pairs_dijkstra_path_length(graph):
        distances[a, list(row)] = list(row.values())
    return distances


@pytest.mark.reference
def test_every_published_graph_and_episode_can_be_read(reference: Path) -> None:
    folder = reference / "r2r" / "connectivity"
    names = [file.name.removesuffix("_connectivity.json") for file in folder.glob("*.json")]
    scans = read_scans(folder, names)
    assert len(scans) == 90
    counts = {}
    for split in splits(reference / "r2r" / "annotations"):
        episodes = read_episodes(reference / "r2r" / "annotations", split)
        counts[split] = (len({episode.path_id for episode in episodes}), len(episodes))
        for episode in episodes[::7]:
            scan = scans[episode.scan]
            numbers = [scan.index[viewpoint] for viewpoint in episode.path]
            assert scan.adjacency[numbers[:-1], numbers[1:]].all()
    assert counts == {"train": (4675, 14039), "val_seen": (340, 1021), "val_unseen": (783, 2349)}


@pytest.mark.reference
@pytest.mark.parametrize("name", ["17DRP5sb8fy", "8194nk5LbLH", "2azQ1b91cZZ"])
def test_distances_in_published_graphs_are_dijkstras(reference: Path, name: str) -> None:
    scan = read_scan(reference / "r2r" / "connectivity", name)
    np.testing.assert_allclose(scan.distances, dijkstra(scan), rtol=0, atol=1e-9)
