"""PLY, ascii or binary: vertices with colours or texture coordinates, polygons with colours and object ids."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

import numpy as np

from vlkit.envs.simulator.assemble import Part, joined
from vlkit.envs.simulator.cache import Sources
from vlkit.envs.simulator.pictures import Picture, decoded, missing_picture
from vlkit.envs.simulator.polygons import triangulated
from vlkit.envs.simulator.scene import SceneData, SceneObject
from vlkit.errors import UserError

KINDS = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
    "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4",
    "double": "f8", "float64": "f8",
}  # fmt: skip
# Properties of a face that say what it belongs to; the first that is there counts.
OBJECT_IDS = ("object_id", "objectId", "instance_id", "segment_id", "face_segment")
CATEGORY_IDS = ("category_id", "face_category", "class_id")
UV_NAMES = (("s", "t"), ("u", "v"), ("texture_u", "texture_v"))  # of a vertex
MOST_ELEMENTS = 2**30
LARGEST_HEADER = 2**16


@dataclass(frozen=True)
class Property:
    """A property of an element; `count` is the type of a list's length, empty where it is one number."""

    name: str
    kind: str
    count: str = ""


@dataclass(frozen=True)
class Element:
    """A table of the file."""

    name: str
    length: int
    properties: tuple[Property, ...]


@dataclass(frozen=True, eq=False)
class Lists:
    """A list property of all rows: row i has `counts[i]` of the values, one row after the other."""

    counts: np.ndarray  # (rows,) int64
    values: np.ndarray  # (sum of counts,)


Table = dict[str, np.ndarray | Lists]


def read_ply(
    path: Path, sources: Sources, *, missing_textures: bool, texel_budget: int, ids_from_zero: bool = False
) -> SceneData:
    """The file's polygons as triangles, in the file's own axes, both sides drawn; an object for each object id.

    A face's `object_id` is its `instance`, and 0 is none; with `ids_from_zero`, 0 is an object like any other and each
    `instance` is one more than the file's id. A `category_id` becomes the category "category N". Raises UserError where
    the file is damaged or has no polygons.
    """
    data = sources.read(path)
    encoding, elements, comments, body = _header(data, path)
    tables = _tables(data, body, encoding, elements, path)
    corners = tables.get("vertex", {})
    if not all(isinstance(corners.get(axis), np.ndarray) for axis in "xyz"):
        raise UserError(f"{path} has no vertices with x, y and z; a scene needs them")
    vertices = np.stack([_flat(corners, axis) for axis in "xyz"], axis=1).astype(np.float32)
    rows = tables.get("face", {})
    polygons = rows.get("vertex_indices", rows.get("vertex_index"))
    if not isinstance(polygons, Lists):
        what = "tristrips" if "tristrips" in tables else "points alone"
        raise UserError(f"{path} has no polygons ({what}); a scene is a surface: save it as a mesh of triangles")
    indices = _whole(polygons.values, path)
    if len(indices) and (indices.min() < 0 or indices.max() >= len(vertices)):
        raise UserError(
            f"{path}: a face names vertex {int(indices.max() if indices.min() >= 0 else indices.min())}, but there are "
            f"{len(vertices)}; the file is damaged: export or fetch it again"
        )
    corner, face = triangulated(polygons.counts)
    instance, objects = _objects(rows, face, path, ids_from_zero)
    part = Part(
        vertices,
        indices[corner],
        vertex_colour=_colours(corners),
        colour=_face_colours(rows, face),
        double_sided=True,
        instance=instance,
    )
    scene = joined(path.name.partition(".")[0], [part], objects=objects)
    name = next((comment.partition(" ")[2] for comment in comments if comment.startswith("TextureFile ")), "").strip()
    uv = _uv(corners, rows, corner, indices, path) if name else None
    if uv is None:
        return scene
    picture = path.parent / name
    if not sources.exists(picture):
        if not missing_textures:
            raise missing_picture(name, path)
        return replace(scene, warnings=(f"the texture {name} is not there: its faces are drawn in their colour alone",))
    textures, noticed = decoded([Picture(sources.read(picture), ("repeat", "repeat"), str(picture))], texel_budget)
    if len([comment for comment in comments if comment.startswith("TextureFile ")]) > 1 and "texnumber" in rows:
        noticed = (*noticed, "only the first of the textures of a PLY is read")
    return replace(scene, uv=uv, texture=np.zeros_like(scene.texture), textures=textures, warnings=noticed)


def _header(data: bytes, path: Path) -> tuple[str, list[Element], list[str], int]:
    if data[:4] not in (b"ply\n", b"ply\r"):
        raise UserError(f"{path} is no PLY file: it does not begin with the line 'ply'")
    end = data.find(b"end_header", 0, LARGEST_HEADER)
    if end < 0:
        raise UserError(f"{path} is cut off or damaged: its header has no end; fetch or export it again")
    body = end + len(b"end_header")
    body += 2 if data[body : body + 2] == b"\r\n" else 1
    encoding, comments = "", []
    elements: list[tuple[str, int, list[Property]]] = []
    for line in data[:end].decode("ascii", errors="replace").splitlines()[1:]:
        words = line.split()
        match words:
            case ["format", named, *_] if named in ("ascii", "binary_little_endian", "binary_big_endian"):
                encoding = named
            case ["comment" | "obj_info", *_]:
                comments.append(line.partition(" ")[2].strip())
            case ["element", name, length] if length.isascii() and length.isdigit() and int(length) <= MOST_ELEMENTS:
                elements.append((name, int(length), []))
            case ["property", "list", count, kind, name] if elements and {count, kind} <= KINDS.keys():
                elements[-1][2].append(Property(name, KINDS[kind], KINDS[count]))
            case ["property", kind, name] if elements and kind in KINDS:
                elements[-1][2].append(Property(name, KINDS[kind]))
            case []:
                pass
            case _:
                raise UserError(f"{path}: the header says {line[:60]!r}, which is no PLY; the file is damaged")
    if not encoding:
        raise UserError(
            f"{path}: the header names no format; expected ascii, binary_little_endian or binary_big_endian"
        )
    for name, _, properties in elements:
        names = [each.name for each in properties]
        if len(set(names)) != len(names):
            raise UserError(f"{path}: the element {name} has two properties of one name; the file is damaged")
    return encoding, [Element(name, length, tuple(properties)) for name, length, properties in elements], comments, body


def _tables(data: bytes, body: int, encoding: str, elements: list[Element], path: Path) -> dict[str, Table]:
    if encoding == "ascii":
        return _ascii_tables(data[body:], elements, path)
    order = "<" if encoding == "binary_little_endian" else ">"
    tables: dict[str, Table] = {}
    at = body
    for element in elements:
        tables[element.name], at = _binary_table(data, at, element, order, path)
    return tables


def _binary_table(data: bytes, at: int, element: Element, order: str, path: Path) -> tuple[Table, int]:
    lists = [each for each in element.properties if each.count]
    if not element.length or not element.properties:
        return {
            each.name: Lists(np.zeros(0, np.int64), np.zeros(0)) if each.count else np.zeros(0)
            for each in element.properties
        }, at
    # Every row has lists as long as the first one's, in nearly all files: then the rows are of one size.
    lengths = [_list_length(data, at, element, i, order, path) for i in range(len(lists))] if lists else []
    if max(lengths, default=0) * element.length <= len(data):
        dtype = _row(element, lengths, order)
    else:
        return _uneven_table(data, at, element, order, path)
    if dtype.itemsize * element.length <= len(data) - at:
        rows = np.frombuffer(data, dtype, count=element.length, offset=at)
        if all((rows[f"{each.name}#"] == n).all() for each, n in zip(lists, lengths, strict=True)):
            return _columns(rows, element, lengths), at + dtype.itemsize * element.length
    if not lists:
        _cut(path, element)
    return _uneven_table(data, at, element, order, path)


def _row(element: Element, lengths: list[int], order: str) -> np.dtype:
    fields: list[tuple[str, str] | tuple[str, str, tuple[int]]] = []
    length = iter(lengths)
    for each in element.properties:
        if each.count:
            fields += [(f"{each.name}#", order + each.count), (each.name, order + each.kind, (next(length),))]
        else:
            fields.append((each.name, order + each.kind))
    return np.dtype(fields)


def _columns(rows: np.ndarray, element: Element, lengths: list[int]) -> Table:
    table: Table = {}
    length = iter(lengths)
    for each in element.properties:
        values = np.ascontiguousarray(rows[each.name])
        values = values.astype(values.dtype.newbyteorder("="), copy=False)
        if each.count:
            table[each.name] = Lists(np.full(len(rows), next(length), np.int64), values.reshape(-1))
        else:
            table[each.name] = values
    return table


def _list_length(data: bytes, at: int, element: Element, which: int, order: str, path: Path) -> int:
    seen = 0
    for each in element.properties:
        size = np.dtype(each.kind).itemsize
        if not each.count:
            at += size
            continue
        length = _count(data, at, order + each.count, element, path)
        if seen == which:
            return length
        at += np.dtype(each.count).itemsize + length * size
        seen += 1
    raise AssertionError("there are as many lists as were counted")


def _count(data: bytes, at: int, kind: str, element: Element, path: Path) -> int:
    if at + np.dtype(kind).itemsize > len(data):
        _cut(path, element)
    length = float(np.frombuffer(data, kind, count=1, offset=at)[0])
    if not 0 <= length <= len(data):
        raise UserError(f"{path}: a list of {element.name} has {length:g} entries; the file is damaged or cut off")
    return int(length)


def _uneven_table(data: bytes, at: int, element: Element, order: str, path: Path) -> tuple[Table, int]:
    # Rows of different size: where each begins depends on all before it, so one pass in Python finds the places. It
    # runs once a row, over a polygon mesh that mixes triangles and quads.
    steps = [
        (np.dtype(each.kind).itemsize, np.dtype(each.count).itemsize if each.count else 0)
        for each in element.properties
    ]
    starts: list[list[int]] = [[] for _ in steps]
    counts: list[list[int]] = [[] for _ in steps]
    read = [_counter(data, order + each.count) if each.count else None for each in element.properties]
    limit = len(data)
    try:
        for _ in range(element.length):
            for (size, head), start, lengths, count in zip(steps, starts, counts, read, strict=True):
                if count is None:
                    start.append(at)
                    at += size
                else:
                    length = count(at)
                    at += head
                    start.append(at)
                    lengths.append(length)
                    at += length * size
            if at > limit:
                _cut(path, element)
    except (IndexError, ValueError, OverflowError):
        _cut(path, element)
    raw = np.frombuffer(data, np.uint8)
    table: Table = {}
    for each, (size, _), start, lengths in zip(element.properties, steps, starts, counts, strict=True):
        first = np.array(start, dtype=np.int64)
        many = np.array(lengths, dtype=np.int64) if each.count else np.ones(len(first), np.int64)
        within = np.arange(int(many.sum())) - np.repeat(np.cumsum(many) - many, many)
        places = np.repeat(first, many) + within * size
        taken = raw[places[:, None] + np.arange(size)].view(order + each.kind).reshape(-1)
        values = taken.astype(taken.dtype.newbyteorder("="))
        table[each.name] = Lists(many, values) if each.count else values
    return table, at


def _counter(data: bytes, kind: str) -> Callable[[int], int]:
    if kind[1:] == "u1":
        return data.__getitem__
    size = np.dtype(kind).itemsize

    def count(at: int) -> int:
        length = np.frombuffer(data, kind, count=1, offset=at)[0] if at + size <= len(data) else -1
        if not 0 <= length <= len(data):
            raise ValueError
        return int(length)

    return count


def _ascii_tables(body: bytes, elements: list[Element], path: Path) -> dict[str, Table]:
    numbers = _numbers(body, path)
    tables: dict[str, Table] = {}
    at = 0
    for element in elements:
        table, at = _ascii_table(numbers, at, element, path)
        for each in element.properties:
            column = table[each.name]
            if isinstance(column, np.ndarray) and each.kind[0] != "f" and _is_whole(column):
                table[each.name] = column.astype(np.int64)
        tables[element.name] = table
    return tables


def _ascii_table(numbers: np.ndarray, at: int, element: Element, path: Path) -> tuple[Table, int]:
    lists = [each for each in element.properties if each.count]
    if not element.length or not element.properties:
        return _binary_table(b"", 0, element, "<", path)[0], at
    if not lists:
        width = len(element.properties)
        end = at + width * element.length
        if end > len(numbers):
            _cut(path, element)
        rows = numbers[at:end].reshape(element.length, width)
        return {each.name: rows[:, i] for i, each in enumerate(element.properties)}, end
    if len(lists) == 1:
        before = element.properties.index(lists[0])
        after = len(element.properties) - before - 1
        if at + before < len(numbers) and 0 <= numbers[at + before] <= len(numbers):
            length = int(numbers[at + before])
            width = before + 1 + length + after
            end = at + width * element.length
            if end <= len(numbers):
                rows = numbers[at:end].reshape(element.length, width)
                if (rows[:, before] == length).all():
                    others = [*range(before), *range(before + 1 + length, width)]
                    names = [each.name for each in element.properties if not each.count]
                    table: Table = {name: rows[:, i] for name, i in zip(names, others, strict=True)}
                    values = rows[:, before + 1 : before + 1 + length].reshape(-1)
                    table[lists[0].name] = Lists(np.full(element.length, length, np.int64), values)
                    return table, end
    return _uneven_ascii_table(numbers, at, element, path)


def _uneven_ascii_table(numbers: np.ndarray, at: int, element: Element, path: Path) -> tuple[Table, int]:
    values = numbers.tolist()
    starts: list[list[int]] = [[] for _ in element.properties]
    counts: list[list[int]] = [[] for _ in element.properties]
    limit = len(values)
    try:
        for _ in range(element.length):
            for each, start, lengths in zip(element.properties, starts, counts, strict=True):
                length = 1
                if each.count:
                    length = int(values[at])
                    at += 1
                    if not 0 <= length <= limit:
                        _cut(path, element)
                    lengths.append(length)
                start.append(at)
                at += length
            if at > limit:
                _cut(path, element)
    except (IndexError, ValueError, OverflowError):
        _cut(path, element)
    table: Table = {}
    for each, start, lengths in zip(element.properties, starts, counts, strict=True):
        many = np.array(lengths, dtype=np.int64) if each.count else np.ones(len(start), np.int64)
        within = np.arange(int(many.sum())) - np.repeat(np.cumsum(many) - many, many)
        taken = numbers[np.repeat(np.array(start, dtype=np.int64), many) + within]
        table[each.name] = Lists(many, taken) if each.count else taken
    return table, at


def _numbers(body: bytes, path: Path) -> np.ndarray:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # older numpy warns of a word that is no number and returns what was before
            return np.fromstring(body, dtype=np.float64, sep=" ")
    except (ValueError, DeprecationWarning) as error:
        raise UserError(f"{path}: there is a word among its numbers; the file is damaged: export it again") from error


def _cut(path: Path, element: Element) -> NoReturn:
    raise UserError(f"{path} is cut off or damaged: its {element.length} rows of {element.name} are not all there")


def _flat(table: Table, name: str) -> np.ndarray:
    values = table[name]
    assert isinstance(values, np.ndarray)
    return values


def _whole(values: np.ndarray, path: Path) -> np.ndarray:
    if not _is_whole(values):
        raise UserError(f"{path}: a face has a number that is not whole where it names a vertex or an object")
    return values.astype(np.int64)


def _is_whole(values: np.ndarray) -> bool:
    # NaN is not below, either.
    return values.dtype.kind != "f" or bool((np.abs(values) < 2**53).all() and (values == np.round(values)).all())


def _colours(table: Table) -> np.ndarray | None:
    for names in (("red", "green", "blue", "alpha"), ("diffuse_red", "diffuse_green", "diffuse_blue"), ("r", "g", "b")):
        columns = [table[name] for name in names if name in table]
        flat = [column for column in columns if isinstance(column, np.ndarray)]
        if len(flat) < 3 or len(flat) != len(columns):
            continue
        colours = np.full((len(flat[0]), 4), 255, np.uint8)
        for i, column in enumerate(flat):
            colours[:, i] = _shade(column)
        return colours
    return None


def _shade(column: np.ndarray) -> np.ndarray:
    numbers = np.nan_to_num(column.astype(np.float64), nan=255.0)
    if column.dtype == np.uint16:
        numbers = numbers / 257
    elif column.dtype.kind == "f" and (numbers <= 1).all():
        numbers = numbers * 255
    return np.round(np.clip(numbers, 0, 255)).astype(np.uint8)


def _face_colours(rows: Table, face: np.ndarray) -> np.ndarray | tuple[float, ...]:
    colours = _colours(rows)
    return (1.0, 1.0, 1.0, 1.0) if colours is None else colours[face].astype(np.float32) / np.float32(255)


def _objects(
    rows: Table, face: np.ndarray, path: Path, ids_from_zero: bool
) -> tuple[np.ndarray | int, tuple[SceneObject, ...]]:
    ids = next((rows[name] for name in OBJECT_IDS if name in rows), None)
    kinds = next((rows[name] for name in CATEGORY_IDS if name in rows), None)
    if ids is None:
        ids = kinds
    if not isinstance(ids, np.ndarray):
        return 0, ()
    whole = _whole(ids, path) + int(ids_from_zero)
    whole = np.where((whole > 0) & (whole < 2**31), whole, 0)  # -1 and 0 mean that nobody labelled the face
    present, first = np.unique(whole, return_index=True)
    categories = [""] * len(present)
    if isinstance(kinds, np.ndarray):
        category = _whole(kinds, path)[first]
        categories = [f"category {int(number)}" if number > 0 else "" for number in category]
    objects = tuple(
        SceneObject(int(each), f"object_{int(each)}", category)
        for each, category in zip(present, categories, strict=True)
        if each > 0
    )
    return whole[face].astype(np.int32), objects


def _uv(corners: Table, rows: Table, corner: np.ndarray, indices: np.ndarray, path: Path) -> np.ndarray | None:
    """(faces, 3, 2) of each corner, by MeshLab's names; None where the file has none."""
    per_face = rows.get("texcoord")
    pair = next((pair for pair in UV_NAMES if set(pair) <= corners.keys()), None)
    if isinstance(per_face, Lists):
        if len(per_face.values) != 2 * len(indices):
            raise UserError(
                f"{path}: its faces have {len(per_face.values)} texture coordinates for {len(indices)} corners; "
                "expected two each"
            )
        uv = per_face.values.reshape(-1, 2)[corner]
    elif pair:
        uv = np.stack([_flat(corners, name) for name in pair], axis=1)[indices[corner]]
    else:
        return None
    # (0, 0) is the lower left corner of their picture and the upper left one of ours.
    return np.stack([uv[..., 0], 1 - uv[..., 1].astype(np.float64)], axis=-1).astype(np.float32)
