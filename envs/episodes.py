"""VLN-CE's episode files, real and generated: `<split>.json.gz`, and the demonstrations beside it in `<split>_gt.json.gz`.

Metres, y up; an agent that has not turned looks along -z; rotations are quaternions (x, y, z, w). What a generated file
says beyond the published ones stands in each episode's `info`, which other readers of these files pass over.
"""

import gzip
import json
import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from vlkit.errors import UserError
from vlkit.files import write_atomic
from vlkit.plugins import nearest

Point = tuple[float, float, float]  # x, y, z, metres

TOKENS = 200  # to which VLN-CE pads instructions
PAD, UNKNOWN = "<pad>", "<unk>"
NOWHERE: Point = (math.nan, math.nan, math.nan)  # the goal of an episode that a test split keeps to itself
RADIUS_M = 3.0  # of a goal whose radius the file does not say
OWN_INFO = ("geodesic_distance", "level", "goal_room")  # entries of `info` that are fields of Episode
EPISODE_KEYS = (
    *("episode_id", "trajectory_id", "scene_id", "start_position", "start_rotation"),
    *("info", "goals", "instruction", "reference_path"),
)
IDS = EPISODE_KEYS[:2]
INSIDE = "instruction."  # begins the name of a further key that stands within the instruction
INSTRUCTION_KEYS = ("instruction_text", "instruction_tokens")
PUBLISHED = "R2R_VLNCE_v1-3*"  # folders of the published release


@dataclass(frozen=True)
class Episode:
    """One walk that is asked for."""

    id: str
    trajectory_id: str  # episodes of one trajectory differ in their instructions alone
    scene: str  # file of the scene, below the folder of all scenes
    start_position: Point
    start_rotation: tuple[float, float, float, float]  # x, y, z, w
    goal: Point  # NOWHERE in a test split
    radius: float  # metres within which a stop succeeds
    geodesic_distance: float  # metres of the shortest way, NaN where the goal is not known
    instruction: str
    tokens: tuple[int, ...] = ()  # of the instruction, into the file's vocabulary, without padding
    reference_path: tuple[Point, ...] = ()
    level: str | None = None  # of a generated house
    room: int | None = None  # of a generated house: id of the room in which a stop must lie to succeed
    info: Mapping[str, Any] = field(default_factory=dict, hash=False)  # what else the file's `info` says
    further: Mapping[str, Any] = field(default_factory=dict, hash=False)  # keys of the file that are no field here
    quoted: tuple[str, ...] = ()  # of the two ids those that the file writes as text though they are numbers

    @property
    def yaw(self) -> float:
        """Radians to the left of -z, of the start."""
        x, y, z, w = self.start_rotation
        # Where the rotation takes the direction ahead, (0, 0, -1); exact for any length of the quaternion.
        return math.atan2(2 * (x * z + w * y), w * w + z * z - x * x - y * y)

    @property
    def goal_known(self) -> bool:
        """False in a test split."""
        return math.isfinite(self.goal[0])


@dataclass(frozen=True)
class GroundTruth:
    """A demonstration."""

    locations: tuple[Point, ...]  # the start, and where each step forward led
    actions: tuple[int, ...]  # 0 stop, 1 forward, 2 left, 3 right
    forward_steps: int


@dataclass(frozen=True)
class EpisodeFile:
    """What an episode file holds."""

    episodes: tuple[Episode, ...]
    vocabulary: tuple[str, ...] = ()  # `tokens` are places in it; empty where the file has none


# Finding files


def splits(folder: str | Path) -> tuple[str, ...]:
    """The splits whose episodes lie below the folder, by name; none where it is no folder."""
    files = [file for place in _places(Path(folder), "*") for file in (*place.glob("*.json.gz"), *place.glob("*.json"))]
    # In a folder of other things plain JSON is a split only below its own name.
    names = {file.name.partition(".")[0] for file in files if file.suffix == ".gz" or file.parent.name == file.stem}
    return tuple(sorted(name for name in names if not name.endswith("_gt")))


def episode_file(folder: str | Path, split: str) -> Path:
    """The episodes of a split; UserError that says which splits are there.

    Tried are SPLIT/SPLIT.json.gz, SPLIT.json.gz, both below R2R_VLNCE_v1-3*, as published, and each without `.gz`.
    """
    file = _found(Path(folder), split, split)
    if file is not None:
        return file
    if not Path(folder).is_dir():
        raise UserError(f"{folder} is no folder; name one with episodes, such as `vlkit data houses` writes")
    there = splits(folder)
    known = nearest(split, there) if there else " No episode file is there; name the folder that holds the splits."
    raise UserError(f"{folder} has no {split}/{split}.json.gz.{known}")


def ground_truth_file(folder: str | Path, split: str) -> Path | None:
    """The demonstrations beside a split's episodes, where there are some; UserError where there is no such split."""
    beside = episode_file(folder, split)
    return next((file for file in _spellings(beside.parent, f"{split}_gt") if file.is_file()), None)


def _found(folder: Path, split: str, stem: str) -> Path | None:
    files = (file for place in _places(folder, split) for file in _spellings(place, stem))
    return next((file for file in files if file.is_file()), None)


def _places(folder: Path, split: str) -> list[Path]:
    """Folders in which a split may lie, the first that has it counts."""
    published = sorted(folder.glob(PUBLISHED), reverse=True)  # ..._preprocessed, which has tokens, before the plain one
    return [place for base in (folder, *published) for place in (*sorted(base.glob(split)), base) if place.is_dir()]


def _spellings(place: Path, stem: str) -> tuple[Path, Path]:
    return place / f"{stem}.json.gz", place / f"{stem}.json"


# Reading


def read_episodes(file: str | Path) -> EpisodeFile:
    """Reads an episode file; UserError that names file, episode and field for whatever is wrong with it."""
    file = Path(file)
    content = _content(file)
    if not isinstance(content, dict) or not isinstance(content.get("episodes"), list):
        raise UserError(f"{file} is no episode file: it has no list 'episodes'; name a file of VLN-CE's format")
    vocabulary, pad = _vocabulary(content.get("instruction_vocab"), file)
    episodes = tuple(_episode(entry, file, i, len(vocabulary), pad) for i, entry in enumerate(content["episodes"]))
    seen: set[str] = set()
    for episode in episodes:
        if episode.id in seen:
            raise UserError(f"{file}: two episodes have the episode_id {episode.id}; give each its own")
        seen.add(episode.id)
    return EpisodeFile(episodes, vocabulary)


def read_ground_truth(file: str | Path) -> dict[str, GroundTruth]:
    """Reads demonstrations by the id of their episode; UserError for whatever is wrong."""
    file = Path(file)
    content = _content(file)
    if not isinstance(content, dict) or "episodes" in content:
        raise UserError(f"{file} is no file of demonstrations by episode; name the one that ends in _gt.json.gz")
    return {name: _ground_truth(entry, f"{file}, episode {name}") for name, entry in content.items()}


def _content(file: Path) -> Any:
    try:
        data = file.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
        return json.loads(data, parse_constant=_no_number, object_pairs_hook=_object)
    except FileNotFoundError as error:
        raise UserError(f"there is no file {file}; name one that exists") from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{file} is damaged ({error}); copy or download it again") from error
    except RecursionError as error:
        raise UserError(f"{file} is not valid JSON: it is nested too deeply; copy or download it again") from error
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror or error}; name a file that can") from error
    except ValueError as error:  # JSON's own errors, and those of text that is no UTF-8
        raise UserError(f"{file} is not valid JSON ({error}); copy or download it again") from error


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} stands in the place of a number")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):  # which JSON's own reader passes over, taking the last one
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} stands twice in one object")
    return values


def _vocabulary(values: Any, file: Path) -> tuple[tuple[str, ...], int]:
    """Its words, and the place of padding."""
    if values is None:
        return (), 0
    words = values.get("word_list") if isinstance(values, dict) else None
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise UserError(
            f"{file}: instruction_vocab has no 'word_list' of words; take the published file, or leave it out"
        )
    pad = values.get("PAD_INDEX", 0)
    if type(pad) is not int or pad < 0:
        raise UserError(f"{file}: instruction_vocab, 'PAD_INDEX' is {_shown(pad)}; expected a place in its word_list")
    return tuple(words), pad


def _episode(entry: Any, file: Path, number: int, words: int, pad: int) -> Episode:
    where = f"{file}, episode {number} of the list"
    if not isinstance(entry, dict):
        raise UserError(f"{where} is {_shown(entry)}; expected an object {{...}}")
    name = _id(entry, "episode_id", where)
    where = f"{file}, episode {name}"
    trajectory = _id(entry, "trajectory_id", where) if "trajectory_id" in entry else name
    scene = _text(entry, "scene_id", where)
    start = _point(entry.get("start_position"), f"{where}: 'start_position'")
    rotation = _numbers(entry.get("start_rotation"), 4, f"{where}: 'start_rotation'")
    if not 0.9 < math.hypot(*rotation) < 1.1:
        raise UserError(
            f"{where}: 'start_rotation' is {list(rotation)}, of length {math.hypot(*rotation):g}; expected 1"
        )
    info = _part(entry, "info", where)
    goal, radius = _goal(entry.get("goals"), where)
    told = _part(entry, "instruction", where)
    distance = math.nan
    if goal is not NOWHERE:
        distance = _number(info.get("geodesic_distance"), f"{where}: info, 'geodesic_distance'", low=0.0)
    level, room = info.get("level"), info.get("goal_room")
    if level is not None and not isinstance(level, str):
        raise UserError(f"{where}: info, 'level' is {_shown(level)}; expected text")
    if room is not None and (type(room) is not int or room < 0):
        raise UserError(f"{where}: info, 'goal_room' is {_shown(room)}; expected a room's number")
    path = entry.get("reference_path")
    further = {key: value for key, value in entry.items() if key not in EPISODE_KEYS}
    further |= {INSIDE + key: value for key, value in told.items() if key not in INSTRUCTION_KEYS}
    return Episode(
        id=name,
        trajectory_id=trajectory,
        scene=scene,
        start_position=start,
        start_rotation=(rotation[0], rotation[1], rotation[2], rotation[3]),
        goal=goal,
        radius=radius,
        geodesic_distance=distance,
        instruction=_text(told, "instruction_text", where),
        tokens=_tokens(told.get("instruction_tokens"), where, words, pad),
        reference_path=() if path is None else _points(path, f"{where}: 'reference_path'"),
        level=level,
        room=room,
        info={key: value for key, value in info.items() if key not in OWN_INFO},
        further=further,
        quoted=tuple(key for key in IDS if isinstance(entry.get(key), str) and _whole(entry[key])),
    )


def _goal(goals: Any, where: str) -> tuple[Point, float]:
    """Position and radius of the one goal; NOWHERE where the file keeps it to itself"""
    if goals is None:
        return NOWHERE, RADIUS_M
    if not isinstance(goals, list) or len(goals) != 1 or not isinstance(goals[0], dict):
        raise UserError(f"{where}: 'goals' is {_shown(goals)}; expected a list of one goal, with position and radius")
    radius = goals[0].get("radius")
    return (
        _point(goals[0].get("position"), f"{where}: goals[0], 'position'"),
        RADIUS_M if radius is None else _number(radius, f"{where}: goals[0], 'radius'", above=0.0),
    )


def _tokens(values: Any, where: str, words: int, pad: int) -> tuple[int, ...]:
    """The tokens without the padding at their end"""
    tokens = [] if values is None else values
    if not isinstance(tokens, list) or not all(type(each) is int and each >= 0 for each in tokens):
        raise UserError(f"{where}: 'instruction_tokens' is {_shown(values)}; expected a list of whole numbers")
    if words and max(tokens, default=0) >= words:
        raise UserError(
            f"{where}: 'instruction_tokens' holds {max(tokens)}, and the file's word_list ends at {words - 1}; take "
            "episodes and vocabulary of one release"
        )
    count = len(tokens)
    while count and tokens[count - 1] == pad:
        count -= 1
    return tuple(tokens[:count])


def _ground_truth(entry: Any, where: str) -> GroundTruth:
    if not isinstance(entry, dict):
        raise UserError(f"{where} is {_shown(entry)}; expected locations, actions and forward_steps")
    actions, steps = entry.get("actions"), entry.get("forward_steps")
    if not isinstance(actions, list) or not all(type(each) is int and 0 <= each <= 5 for each in actions):
        raise UserError(f"{where}: 'actions' is {_shown(actions)}; expected a list of whole numbers from 0 to 5")
    if type(steps) is not int or steps < 0:
        raise UserError(f"{where}: 'forward_steps' is {_shown(steps)}; expected a whole number, 0 or more")
    return GroundTruth(_points(entry.get("locations"), f"{where}: 'locations'"), tuple(actions), steps)


def _id(entry: Mapping[str, Any], name: str, where: str) -> str:
    value = entry.get(name)
    if type(value) not in (int, str) or value == "":
        raise UserError(f"{where}: {name!r} is {_shown(value)}; expected a whole number or text")
    return str(value)


def _text(entry: Mapping[str, Any], name: str, where: str) -> str:
    value = entry.get(name)
    if not isinstance(value, str) or not value.strip():
        raise UserError(f"{where}: {name!r} is {_shown(value)}; expected text")
    return value


def _part(entry: Mapping[str, Any], name: str, where: str) -> dict[str, Any]:
    """An object within the episode; an empty one where there is none."""
    value = entry.get(name)
    if value is not None and not isinstance(value, dict):
        raise UserError(f"{where}: {name!r} is {_shown(value)}; expected an object {{...}}")
    return value or {}


def _points(values: Any, where: str) -> tuple[Point, ...]:
    if not isinstance(values, list) or not values:
        raise UserError(f"{where} is {_shown(values)}; expected a list of at least one point")
    return tuple(_point(value, f"{where}[{i}]") for i, value in enumerate(values))


def _point(value: Any, where: str) -> Point:
    x, y, z = _numbers(value, 3, where)
    return x, y, z


def _numbers(values: Any, count: int, where: str) -> tuple[float, ...]:
    if not isinstance(values, list) or len(values) != count:
        raise UserError(f"{where} is {_shown(values)}; expected {count} numbers")
    return tuple(_number(value, where) for value in values)


def _number(value: Any, where: str, *, low: float = -math.inf, above: float = -math.inf) -> float:
    number = math.nan
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
    if not (math.isfinite(number) and low <= number and above < number):
        bound = f" of {low:g} or more" if low > -math.inf else f" above {above:g}" if above > -math.inf else ""
        raise UserError(f"{where} is {_shown(value)}; expected a finite number{bound}")
    return number


def _shown(value: Any) -> str:
    """A value within a message: missing, or what it is, cut."""
    text = "missing" if value is None else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


# Writing


def write_episodes(file: str | Path, episodes: Sequence[Episode], vocabulary: Sequence[str] = ()) -> None:
    """Writes an episode file that VLN-CE's readers take; the same episodes give the same bytes.

    Ids that are whole numbers are written as such. Without a vocabulary, episodes without tokens have none in the file.
    Raises UserError where an episode has more tokens than VLN-CE pads to, or one that the vocabulary lacks.
    """
    places = {word: i for i, word in enumerate(vocabulary)}
    pad = places.get(PAD, 0)
    content: dict[str, Any] = {"episodes": [_entry(episode, len(vocabulary), pad) for episode in episodes]}
    if vocabulary:
        content["instruction_vocab"] = {
            "word_list": list(vocabulary),
            "word2idx_dict": places,
            "stoi": places,
            "itos": list(vocabulary),
            "num_vocab": len(vocabulary),
            "UNK_INDEX": places.get(UNKNOWN, 1),
            "PAD_INDEX": pad,
        }
    _write(Path(file), content)


def write_ground_truth(file: str | Path, demonstrations: Mapping[str, GroundTruth]) -> None:
    """Writes demonstrations by the id of their episode; the same ones give the same bytes."""
    entries = {
        name: {
            "locations": [list(point) for point in each.locations],
            "actions": list(each.actions),
            "forward_steps": each.forward_steps,
        }
        for name, each in demonstrations.items()
    }
    _write(Path(file), entries)


def word_list(texts: Iterable[Iterable[str]]) -> list[str]:
    """The vocabulary of texts that are words already: padding, the unknown word, then all in order."""
    return [PAD, UNKNOWN, *sorted({word for text in texts for word in text} - {PAD, UNKNOWN})]


def _entry(episode: Episode, words: int, pad: int) -> dict[str, Any]:
    if len(episode.tokens) > TOKENS or (words and max(episode.tokens, default=0) >= words):
        raise UserError(
            f"episode {episode.id} has {len(episode.tokens)} tokens, the largest of them {max(episode.tokens)}; readers "
            f"take {TOKENS} tokens, and the vocabulary has {words} words"
        )
    own = {"geodesic_distance": episode.geodesic_distance} if episode.goal_known else {}
    named = {"level": episode.level, "goal_room": episode.room}
    instruction: dict[str, Any] = {"instruction_text": episode.instruction}
    if words or episode.tokens:
        instruction["instruction_tokens"] = [*episode.tokens, *[pad] * (TOKENS - len(episode.tokens))]
    entry: dict[str, Any] = {
        "episode_id": _as_written(episode.id, "episode_id" in episode.quoted),
        "trajectory_id": _as_written(episode.trajectory_id, "trajectory_id" in episode.quoted),
        "scene_id": episode.scene,
        "start_position": list(episode.start_position),
        "start_rotation": list(episode.start_rotation),
        "info": own | {name: value for name, value in named.items() if value is not None} | dict(episode.info),
    }
    if episode.goal_known:
        entry["goals"] = [{"position": list(episode.goal), "radius": episode.radius}]
    entry["instruction"] = instruction
    if episode.reference_path:
        entry["reference_path"] = [list(point) for point in episode.reference_path]
    for name, value in episode.further.items():
        (instruction if name.startswith(INSIDE) else entry)[name.removeprefix(INSIDE)] = value
    return entry


def _as_written(id: str, quoted: bool) -> int | str:
    return int(id) if _whole(id) and not quoted else id


def _whole(text: str) -> bool:
    """Whether it is how a whole number is written, and no other text for one."""
    digits = text.removeprefix("-")
    return digits.isascii() and digits.isdigit() and len(digits) < 19 and str(int(text)) == text


def _write(file: Path, content: Any) -> None:
    try:
        data = json.dumps(content, allow_nan=False).encode()
    except ValueError as error:
        raise UserError(f"cannot write {file}: a number in it is not finite; give finite positions") from error
    with write_atomic(file) as temporary:
        # Without a time of its own in it, so that the same content gives the same bytes.
        temporary.write_bytes(gzip.compress(data, mtime=0) if file.suffix == ".gz" else data)
