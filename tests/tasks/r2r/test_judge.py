"""`vlkit judge r2r` on small files of our own, and on the published run whose scores are known."""

import gzip
import json
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.r2r_judge import reference_scores
from vlkit import cli
from vlkit.envs.r2r import read_episodes, read_scans
from vlkit.errors import UserError
from vlkit.tasks.r2r.judge import confidence_intervals, judge, main
from vlkit.tasks.r2r.submission import Trajectory, read_submission, write_submission

# One house and one barn. The house: A --3-- B --4-- C --3-- D, C --2-- E, and X beside A, which is not included.
HOUSE = {"A": (0, 0, 0), "B": (3, 0, 0), "C": (3, 4, 0), "D": (0, 4, 0), "E": (3, 4, 2), "X": (0, 1, 0)}
HOUSE_EDGES = [("A", "B"), ("B", "C"), ("C", "D"), ("C", "E"), ("A", "X")]
BARN = {"P": (0, 0, 0), "Q": (2, 0, 0), "R": (4, 0, 0)}
BARN_EDGES = [("P", "Q"), ("Q", "R")]
ANNOTATIONS: list[dict[str, Any]] = [
    {"path_id": 1, "scan": "house", "path": ["A", "B", "C"], "heading": 0.0, "instructions": ["a", "b", "c", "d"]},
    {"path_id": 2, "scan": "barn", "path": ["P", "Q", "R"], "heading": 1.0, "instructions": ["a", "b", "c"]},
]
WALKS = {
    "1_0": "ABC",
    "1_1": "ABCE",
    "1_2": "ABCD",
    "1_3": "A",
    "2_0": "PQR",
    "2_1": "PQQ",
    "2_2": "P",
}


def write_scan(folder: Path, name: str, positions: dict[str, Any], edges: list[tuple[str, str]]) -> None:
    folder.mkdir(exist_ok=True)
    joined = {frozenset(edge) for edge in edges}
    items = [
        {
            "image_id": node,
            "pose": [1, 0, 0, x, 0, 1, 0, y, 0, 0, 1, z, 0, 0, 0, 1],
            "included": node != "X",
            "unobstructed": [frozenset((node, other)) in joined for other in positions],
            "visible": [True] * len(positions),
            "height": 1.5,
        }
        for node, (x, y, z) in positions.items()
    ]
    (folder / f"{name}_connectivity.json").write_text(json.dumps(items))


@pytest.fixture
def world(tmp_path: Path) -> Path:
    write_scan(tmp_path / "connectivity", "house", HOUSE, HOUSE_EDGES)
    write_scan(tmp_path / "connectivity", "barn", BARN, BARN_EDGES)
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/R2R_val_seen.json").write_text(json.dumps(ANNOTATIONS))
    other = [ANNOTATIONS[0] | {"path_id": 7}, ANNOTATIONS[1] | {"path_id": 8}]
    (tmp_path / "annotations/R2R_val_unseen.json").write_text(json.dumps(other))
    return tmp_path


def items(walks: dict[str, str]) -> list[dict[str, Any]]:
    return [{"instr_id": name, "trajectory": [[v, 0.0, 0.0] for v in walk]} for name, walk in walks.items()]


def arguments(world: Path, *extra: str) -> list[str]:
    return [
        *(
            "--predictions",
            str(world / "predictions.json"),
            "--annotations",
            str(world / "annotations/R2R_val_seen.json"),
        ),
        *("--connectivity", str(world / "connectivity"), "--output", str(world / "out.json"), "--resamples", "20"),
        *extra,
    ]


def judged(world: Path, content: Any, *extra: str) -> dict[str, Any]:
    (world / "predictions.json").write_text(json.dumps(content))
    assert main(arguments(world, *extra)) == 0
    document: dict[str, Any] = json.loads((world / "out.json").read_text())
    return document


def refused(world: Path, content: Any, *extra: str) -> str:
    (world / "predictions.json").write_text(json.dumps(content))
    with pytest.raises(UserError) as caught:
        main(arguments(world, *extra))
    assert not (world / "out.json").exists()
    return str(caught.value)


def test_the_output_holds_the_hand_computed_scores(world: Path) -> None:
    document = judged(world, items(WALKS))
    rows = {row["instr_id"]: row for row in document["per_instruction"]}
    assert list(rows) == list(WALKS)
    # House: 7 m to the goal C; E lies 2 m past it, D 3 m, A 7 m before. Barn: 4 m to R, Q lies 2 m before it.
    assert {name: row["nav_error"] for name, row in rows.items()} == {
        "1_0": 0, "1_1": 2, "1_2": 3, "1_3": 7, "2_0": 0, "2_1": 2, "2_2": 4
    }  # fmt: skip
    assert {name: row["success"] for name, row in rows.items()} == {
        "1_0": 1, "1_1": 1, "1_2": 0, "1_3": 0, "2_0": 1, "2_1": 1, "2_2": 0
    }  # fmt: skip
    assert document["summary"] == pytest.approx(
        {
            "length": (7 + 9 + 10 + 0 + 4 + 2 + 0) / 7,
            "nav_error": (0 + 2 + 3 + 7 + 0 + 2 + 4) / 7,
            "oracle success_rate": 5 / 7,  # as success, and 1_2 passes its goal
            "success_rate": 4 / 7,
            "spl": (1 + 7 / 9 + 0 + 0 + 1 + 1 + 0) / 7,
        },
        rel=0,
        abs=1e-12,
    )
    for name, metric in document["metrics"].items():
        assert metric["mean"] == pytest.approx(np.mean([row[name] for row in rows.values()]))
        assert metric["low"] <= metric["mean"] <= metric["high"]
    assert document["counts"] == {
        "annotated": 7, "scored": 7, "missing": 0, "unknown": 0, "duplicates": 0, "not_scored": 0, "turns": 1
    }  # fmt: skip
    assert (document["mode"], document["split"], document["benchmark"]) == ("fixed", "val_seen", "r2r")
    assert {len(each["sha256"]) for each in document["inputs"].values()} == {64}
    assert document["inputs"]["connectivity"]["scans"] == ["barn", "house"]


def test_compat_scores_the_first_three_instructions_of_a_path(world: Path) -> None:
    document = judged(world, items(WALKS), "--mode", "compat")
    assert [row["instr_id"] for row in document["per_instruction"]] == [name for name in WALKS if name != "1_3"]
    assert document["counts"]["not_scored"] == 1
    assert document["summary"]["success_rate"] == pytest.approx(4 / 6)
    without = judged(world, items({name: walk for name, walk in WALKS.items() if name != "1_3"}), "--mode", "compat")
    assert without["counts"]["not_scored"] == 0
    assert without["metrics"] == document["metrics"]


def test_the_order_of_the_file_changes_nothing(world: Path) -> None:
    assert judged(world, items(WALKS))["metrics"] == judged(world, items(WALKS)[::-1])["metrics"]


def test_turning_on_the_spot_counts_in_ndtw_and_the_other_number_is_told(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    turning = WALKS | {"2_0": "PPQQR", "1_3": "AABBB"}
    document = judged(world, items(turning))
    still = judged(world, items(WALKS | {"1_3": "AB", "2_1": "PQ"}))
    assert document["counts"]["turns"] == 1 + 2 + 3
    assert document["metrics"]["length"] == still["metrics"]["length"]
    assert document["metrics"]["cls"] == still["metrics"]["cls"]
    assert document["metrics"]["ndtw"]["mean"] == pytest.approx(still["metrics"]["ndtw"]["mean"])  # B, C: 4 m once
    assert document["without_turns"] == {name: still["metrics"][name]["mean"] for name in ("ndtw", "sdtw")}
    assert still["without_turns"] == {}
    assert "6 entries repeat a viewpoint" in capsys.readouterr().out


def test_the_table_fits_80_columns_and_says_what_was_scored(
    world: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    judged(world, items(WALKS), "--mode", "compat")
    output = capsys.readouterr().out
    assert max(map(len, output.splitlines())) <= 80
    assert "SR, success rate" in output
    assert "66.67" in output
    assert "6 instructions for 2 paths in 2 buildings." in output
    assert "Ignored: 1 trajectory; compat scores instructions 0 to 2 of a path." in output


PROBLEMS: dict[str, tuple[dict[str, str], list[str]]] = {
    "one is missing": ({"2_1": ""}, ["1 instruction has no trajectory\n    2_1"]),
    "an unknown id": ({"9_9": "A"}, ["1 trajectory has an id that is not in the annotations\n    9_9"]),
    "another start": ({"1_0": "BC"}, ["1 trajectory does not start where its episode does\n    1_0: B, not A"]),
    "a hop without an edge": (
        {"1_0": "ABD", "1_1": "AACE"},
        [
            "2 trajectories hop between viewpoints that are not joined\n",
            "1_0: trajectory[1] to [2], B to D, scan house",
            "1_1: trajectory[1] to [2], A to C, scan house",
        ],
    ),
    "hops without edges": ({"1_0": "ACA"}, ["trajectory[0] to [1], A to C, scan house, and 1 more"]),
    "an unknown viewpoint": (
        {"1_0": "ABZ"},
        ["visits a viewpoint that its scan", "1_0: trajectory[2] is Z, scan house"],
    ),
    "an excluded viewpoint": ({"1_0": "AX"}, ["that its graph excludes", "1_0: trajectory[1] is X, scan house"]),
    "a viewpoint of the barn": ({"1_0": "APQ"}, ["of another scan", "1_0: trajectory[1] is P of barn, not house"]),
    "all at once": (
        {"1_0": "BD", "1_1": "ABZ", "2_0": "", "9_9": "A"},
        ["was not scored: 5 problems", "2_0", "9_9", "B, not A", "B to D", "is Z"],
    ),
}


@pytest.mark.parametrize("mode", ["fixed", "compat"])
@pytest.mark.parametrize("what", PROBLEMS)
def test_what_is_wrong_is_listed_and_nothing_is_written(what: str, mode: str, world: Path) -> None:
    changes, messages = PROBLEMS[what]
    walks = {name: walk for name, walk in (WALKS | changes).items() if walk}
    message = refused(world, items(walks), "--mode", mode)
    for part in messages:
        assert part in message


def test_an_item_that_cannot_be_read_is_not_reported_as_missing_too(world: Path) -> None:
    content = items(WALKS)
    content[0]["trajectory"] = []
    content[1]["trajectory"][1] = ["B", "north", 0.0]
    message = refused(world, content)
    assert "was not scored: 2 problems" in message
    assert "1_1: trajectory[1] is ['B', 'north', 0.0]" in message
    assert "no trajectory" not in message


def test_missing_unknown_and_duplicate_ids_are_allowed_on_request_and_counted(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    walks = {name: walk for name, walk in WALKS.items() if name != "1_2"} | {"9_9": "A"}
    content = items(walks) + items({"1_0": "A", "1_1": "A"})
    message = refused(world, content)
    assert "2 ids are used more than once\n    1_0, 1_1" in message
    flags = ["--allow-missing", "--allow-unknown", "--allow-duplicates"]
    for left_out, part in zip(flags, ["has no trajectory", "not in the annotations", "more than once"], strict=True):
        message = refused(world, content, *(flag for flag in flags if flag != left_out))
        assert message.count("->") == 1
        assert part in message
        assert left_out in message
    document = judged(world, content, *flags)
    assert document["counts"] == {
        "annotated": 7, "scored": 6, "missing": 1, "unknown": 1, "duplicates": 2, "not_scored": 0, "turns": 1
    }  # fmt: skip
    assert document["summary"]["success_rate"] == pytest.approx(4 / 6)  # 1_0's first trajectory counts
    assert "PARTIAL: no trajectory for 1 of 7 instructions" in capsys.readouterr().out


def test_predictions_for_another_split_are_recognised(world: Path) -> None:
    message = refused(world, items({f"{7 if name[0] == '1' else 8}{name[1:]}": walk for name, walk in WALKS.items()}))
    assert f"7 of its 7 ids are in {world / 'annotations/R2R_val_unseen.json'}" in message


def test_nothing_to_score_is_an_error(world: Path) -> None:
    assert "none of the 7 instructions" in refused(world, [], "--allow-missing")


def test_annotations_without_goals_are_refused(world: Path) -> None:
    starts = [item | {"path": item["path"][:1]} for item in ANNOTATIONS]
    (world / "annotations/R2R_val_seen.json").write_text(json.dumps(starts))
    assert "(a test split)" in refused(world, items(WALKS))


@pytest.mark.parametrize(("path", "message"), [(["A", "Q"], "viewpoint Q, which"), (["A", "X"], "viewpoint X, which")])
def test_annotations_and_graphs_that_do_not_belong_together_are_refused(
    path: list[str], message: str, world: Path
) -> None:
    (world / "annotations/R2R_val_seen.json").write_text(json.dumps([ANNOTATIONS[0] | {"path": path}]))
    assert message in refused(world, items(WALKS))


def test_a_goal_on_another_island_is_refused(world: Path) -> None:
    write_scan(world / "connectivity", "barn", BARN, BARN_EDGES[:1])
    assert "the graph of scan barn does not join" in refused(world, items(WALKS))


def test_an_input_is_never_overwritten_and_a_wrong_split_is_refused(world: Path) -> None:
    (world / "predictions.json").write_text(json.dumps(items(WALKS)))
    with pytest.raises(UserError, match="would overwrite an input"):
        main(arguments(world, "--output", str(world / "predictions.json")))
    with pytest.raises(UserError, match="--split val_unseen does not fit"):
        main(arguments(world, "--split", "val_unseen"))
    with pytest.raises(UserError, match="resamples = 0"):
        main(arguments(world, "--resamples", "0"))


def test_a_folder_of_annotations_needs_the_split(world: Path) -> None:
    (world / "predictions.json").write_text(json.dumps(items(WALKS)))
    folder = ["--annotations", str(world / "annotations")]
    with pytest.raises(UserError, match="val_seen, val_unseen"):
        main(arguments(world, *folder))
    assert main(arguments(world, *folder, "--split", "val_seen")) == 0
    assert json.loads((world / "out.json").read_text())["split"] == "val_seen"


def test_the_command_line_ends_in_0_1_or_2_without_a_traceback(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (world / "predictions.json").write_text(json.dumps(items(WALKS)))
    assert cli.main(["judge", "r2r", *arguments(world)]) == 0
    (world / "predictions.json").write_text("[{")
    assert cli.main(["judge", "r2r", *arguments(world)]) == 1
    assert cli.main(["judge", "r2r", "--mode", "strict"]) == 2
    errors = capsys.readouterr().err
    assert "line 1, column 3: the file ends in the middle" in errors
    assert "Traceback" not in errors


def test_rxr_is_scored_by_instruction_and_by_language(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    guide = [
        {
            "path_id": 1, "scan": "house", "path": ["A", "B", "C"], "heading": 0.0, "split": "val_seen",
            "instruction_id": number, "instruction": "go", "language": language,
        }
        for number, language in ((11, "en-US"), (12, "hi-IN"))
    ]  # fmt: skip
    file = world / "annotations/rxr_val_seen_guide.jsonl.gz"
    file.write_bytes(gzip.compress("\n".join(map(json.dumps, guide)).encode()))
    lines = '{"instruction_id": 11, "path": ["A", "B", "C"]}\n{"instruction_id": 12, "path": ["A", "B"]}\n'
    (world / "predictions.json").write_bytes(gzip.compress(lines.encode()))
    assert main(arguments(world, "--annotations", str(file))) == 0
    document = json.loads((world / "out.json").read_text())
    assert document["split"] == "val_seen"
    assert {name: means["success"] for name, means in document["languages"].items()} == {"en-US": 1, "hi-IN": 0}
    assert "hi-IN: NE 4.00 m, SR 0.00%" in capsys.readouterr().out
    with pytest.raises(UserError, match="use --mode fixed"):
        main(arguments(world, "--annotations", str(file), "--mode", "compat"))


def test_reverie_is_scored_whatever_else_its_items_hold(world: Path) -> None:
    item = ANNOTATIONS[0] | {"id": "1_42", "objId": 42, "instructions": ["a", "b"]}
    (world / "annotations/R2R_val_seen.json").write_text(json.dumps([item]))
    document = judged(world, [each | {"predObjId": 42} for each in items({"1_42_0": "ABC", "1_42_1": "A"})])
    assert document["summary"]["success_rate"] == 0.5


def test_what_an_agent_wrote_gets_the_scores_that_it_had_in_memory(world: Path) -> None:
    episodes = read_episodes(world / "annotations/R2R_val_seen.json")
    scans = read_scans(world / "connectivity", ["house", "barn"])
    trajectories = [Trajectory(name, tuple(walk)) for name, walk in WALKS.items()]
    before = judge(trajectories, episodes, scans)
    for name in ("s.json", "s.jsonl.gz"):
        write_submission(world / name, trajectories, episodes)
        read, problems = read_submission(world / name)
        after = judge(read, episodes, scans, problems=problems)
        assert after.means == before.means
        assert confidence_intervals(after, resamples=50) == confidence_intervals(before, resamples=50)


def random_world(folder: Path, rng: random.Random) -> list[dict[str, Any]]:
    """Connectivity and annotations of two random buildings -> a submission of random walks in them."""
    annotations: list[dict[str, Any]] = []
    submission: list[dict[str, Any]] = []
    for scan in ("one", "two"):
        nodes = {f"{scan}{i}": tuple(rng.uniform(-5, 5) for _ in range(3)) for i in range(rng.randrange(2, 10))}
        names = list(nodes)
        edges = [(names[i], names[rng.randrange(i)]) for i in range(1, len(names))]
        edges += [(a, b) for a, b in (rng.sample(names, 2) for _ in names)]
        near: dict[str, list[str]] = {name: [name] for name in names}
        for a, b in edges:
            near[a].append(b)
            near[b].append(a)
        write_scan(folder / "connectivity", scan, nodes, edges)

        def walk(near: dict[str, list[str]], start: str, steps: int) -> list[str]:
            path = [start]
            for _ in range(steps):
                path.append(rng.choice(near[path[-1]]))
            return path

        for _ in range(rng.randrange(1, 4)):
            path_id, start = len(annotations), rng.choice(names)
            path = walk(near, start, rng.randrange(1, 8))
            texts = ["go"] * rng.randrange(1, 5)
            annotations.append({"path_id": path_id, "scan": scan, "path": path, "heading": 0.0, "instructions": texts})
            for k in range(len(texts)):
                trajectory = [[node, 0.0, 0.0] for node in walk(near, start, rng.randrange(20))]
                submission.append({"instr_id": f"{path_id}_{k}", "trajectory": trajectory})
    (folder / "annotations.json").write_text(json.dumps(annotations))
    (folder / "predictions.json").write_text(json.dumps(submission))
    return submission


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32 - 1))
def test_random_walks_get_the_same_scores_from_networkx(seed: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        random_world(folder, random.Random(seed))
        files = (folder / "predictions.json", folder / "annotations.json", folder / "connectivity")
        plain = reference_scores(*files, ["one", "two"])
        trajectories, problems = read_submission(files[0])
        judgement = judge(
            trajectories, read_episodes(files[1]), read_scans(files[2], ["one", "two"]), problems=problems
        )
        assert [episode.id for episode in judgement.episodes] == list(plain)
        for i, episode in enumerate(judgement.episodes):
            row = {name: float(judgement.columns[name][i]) for name in plain[episode.id]}
            assert row == pytest.approx(plain[episode.id], rel=0, abs=1e-9)


def cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def flip(data: bytes, rng: random.Random) -> bytes:
    i = rng.randrange(len(data))
    return data[:i] + bytes([rng.randrange(256)]) + data[i + 1 :]


def drop(data: bytes, rng: random.Random) -> bytes:
    i = rng.randrange(len(data))
    return data[:i] + data[i + rng.randrange(1, 30) :]


def repeat(data: bytes, rng: random.Random) -> bytes:
    i = rng.randrange(len(data))
    return data[:i] + data[max(0, i - rng.randrange(60)) :]


def compress(data: bytes, rng: random.Random) -> bytes:
    return gzip.compress(data)


DAMAGES: list[Callable[[bytes, random.Random], bytes]] = [cut, flip, flip, drop, repeat, compress]


def test_a_damaged_file_is_scored_or_refused_but_never_a_traceback(world: Path) -> None:
    rng = random.Random(0)
    sound = json.dumps(items(WALKS)).encode()
    refusals = 0
    for _ in range(100):
        data = sound
        for damage in rng.sample(DAMAGES, rng.randrange(1, 4)):
            data = damage(data, rng) if data else data
        (world / "predictions.json").write_bytes(data)
        try:
            assert main(arguments(world)) == 0
        except UserError:
            refusals += 1
        else:
            json.loads((world / "out.json").read_text())
            (world / "out.json").unlink()
    assert 0 < refusals < 100
    assert not (world / "out.json").exists()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.sampled_from(list("ABCX")),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=3), children, max_size=2),
    max_leaves=5,
)
ITEM = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("instr_id", "instruction_id", "trajectory", "path"), JSON)
) | st.builds(
    lambda name, trajectory: {"instr_id": name, "trajectory": trajectory},
    st.sampled_from(list(WALKS)),
    JSON | st.lists(st.sampled_from(list("ABCX")) | st.tuples(st.sampled_from(list("ABC")), JSON, JSON), max_size=4),
)


@given(document=JSON | st.lists(ITEM | JSON, max_size=8))
def test_any_json_is_scored_or_refused_but_never_a_traceback(
    document: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp() / "any_json"
    if not folder.exists():
        folder.mkdir()
        write_scan(folder / "connectivity", "house", HOUSE, HOUSE_EDGES)
        write_scan(folder / "connectivity", "barn", BARN, BARN_EDGES)
        (folder / "annotations.json").write_text(json.dumps(ANNOTATIONS))
    (folder / "predictions.json").write_text(json.dumps(document))
    episodes = read_episodes(folder / "annotations.json")
    scans = read_scans(folder / "connectivity", ["house", "barn"])
    try:
        trajectories, problems = read_submission(folder / "predictions.json")
        judge(trajectories, episodes, scans, allow=("missing", "unknown", "duplicates"), problems=problems)
    except UserError as error:
        str(error).encode()  # a lone surrogate would fail here


@pytest.mark.reference
def test_the_published_run_gets_its_published_scores(reference: Path, tmp_path: Path) -> None:
    agents = reference / "r2r/agents"
    published = json.loads((agents / "published_scores.json").read_text())
    code = main(
        [
            *("--predictions", str(agents / published["file"]), "--mode", "compat"),
            *("--annotations", str(agents / "annotations_used/R2R_val_seen.json")),
            *("--connectivity", str(reference / "r2r/connectivity"), "--output", str(tmp_path / "out.json")),
        ]
    )
    document = json.loads((tmp_path / "out.json").read_text())
    assert code == 0
    assert document["summary"] == pytest.approx(published["published"], rel=0, abs=1e-9)
    assert document["counts"]["scored"] == len(document["per_instruction"]) == 1020
    assert document["counts"]["not_scored"] == 1


@pytest.mark.reference
def test_the_corrected_annotations_name_the_path_that_starts_elsewhere(reference: Path) -> None:
    agents = reference / "r2r/agents"
    with pytest.raises(UserError, match="3 trajectories do not start") as caught:
        main(
            [
                *("--predictions", str(next(agents.glob("seq2seq*.json")))),
                *("--annotations", str(reference / "r2r/annotations"), "--split", "val_seen"),
                *("--connectivity", str(reference / "r2r/connectivity")),
            ]
        )
    assert "4554_0, 4554_1" not in str(caught.value)
    assert "4554_0: " in str(caught.value)
    assert "two versions circulate" in str(caught.value)


@pytest.mark.reference
@pytest.mark.parametrize(("split", "length", "spl"), [("val_seen", 10.18, None), ("val_unseen", 9.48, 0.9984)])
def test_following_the_paths_gives_the_published_length_and_success(
    split: str, length: float, spl: float | None, reference: Path
) -> None:
    episodes = read_episodes(reference / "r2r/annotations", split)
    scans = read_scans(reference / "r2r/connectivity", {episode.scan for episode in episodes})
    shortest = [Trajectory(each.id, scans[each.scan].shortest_path(each.start, each.goal)) for each in episodes]
    means = judge(shortest, episodes, scans).means
    assert (means["nav_error"], means["success"]) == (0, 1)
    assert means["spl"] == pytest.approx(1)
    assert means["length"] == pytest.approx(length, abs=0.006)
    if spl is not None:
        followed = judge([Trajectory(each.id, each.path) for each in episodes], episodes, scans).means
        assert followed["spl"] == pytest.approx(spl, abs=5e-5)
        assert followed["ndtw"] == pytest.approx(1)
