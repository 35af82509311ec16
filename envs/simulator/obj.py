"""Wavefront OBJ with its MTL: polygons, texture coordinates, materials, groups; read by whole columns, not by lines."""

import re
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vlkit.envs.simulator.assemble import Part, joined
from vlkit.envs.simulator.cache import Sources
from vlkit.envs.simulator.pictures import Picture, decoded, missing_picture
from vlkit.envs.simulator.polygons import triangulated
from vlkit.envs.simulator.scene import SceneData, SceneObject, Wrap
from vlkit.errors import UserError

NAMES = ("usemtl", "mtllib", "o", "g")
# How many words follow an option of a texture's line, before its file name; `-o`, `-s` and `-t` take one to three.
OPTIONS = {
    "-blendu": 1,
    "-blendv": 1,
    "-bm": 1,
    "-boost": 1,
    "-cc": 1,
    "-clamp": 1,
    "-imfchan": 1,
    "-mm": 2,
    "-texres": 1,
}


@dataclass(frozen=True)
class Material:
    """What of a material shows without light."""

    colour: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    picture: str = ""
    clamp: bool = False
    scale: tuple[float, float] = (1.0, 1.0)
    offset: tuple[float, float] = (0.0, 0.0)


def read_obj(path: Path, sources: Sources, *, missing_textures: bool, texel_budget: int) -> SceneData:
    """The file's polygons as triangles, in the file's own axes, both sides drawn; an object for each `o`, else each `g`.

    Raises UserError where the file is damaged, or names materials or pictures that are not there and `missing_textures`
    is False.
    """
    data = sources.read(path).replace(b"\\\r\n", b" ").replace(b"\\\n", b" ").replace(b"\r", b"\n")
    lines = _Lines(data)
    noticed: list[str] = []
    vertices, colours = _vertices(lines, path)
    uv = _columns(lines, "vt", path, (1, 2, 3))[:, :2] if len(lines.of("vt")) else np.zeros((0, 2))
    if uv.shape[1] == 1:
        uv = np.stack([uv[:, 0], np.zeros(len(uv))], axis=1)
    counts, corner_vertex, corner_uv, face_line = _faces(lines, len(vertices), len(uv), path)
    corner, polygon = triangulated(counts)
    line = face_line[polygon]
    faces = corner_vertex[corner]
    uv_index = corner_uv[corner]
    has_uv = (uv_index >= 0).all(axis=1)
    face_uv = uv[np.maximum(uv_index, 0)] if len(uv) else np.zeros((len(faces), 3, 2))

    used = lines.names("usemtl")
    names = list(dict.fromkeys(name for _, name in used))
    at = np.searchsorted([number for number, _ in used], line, side="right") - 1
    material = np.array([*(names.index(name) for _, name in used), -1])[at]  # the last entry: before the first `usemtl`
    library = _materials(lines, path, sources, missing_textures, noticed)
    pictures: dict[tuple[str, bool], int] = {}
    encoded: list[Picture] = []
    colour = np.ones((len(faces), 4))
    texture = np.full(len(faces), -1)
    for number in np.unique(material[material >= 0]):
        name = names[number]
        if name not in library:
            if not missing_textures:
                raise UserError(
                    f"{path} uses the material {name!r}, which is in none of its mtllib files; put the .mtl beside it, "
                    "or pass missing_textures=True to draw its faces white"
                )
            noticed.append(f"the material {name!r} is not there: its faces are white")
            continue
        look, own = library[name], material == number
        colour[own] = look.colour
        if not look.picture:
            continue
        key = (look.picture, look.clamp)
        if key not in pictures:
            picture = _picture(look, path, sources, missing_textures, noticed)
            pictures[key] = -1 if picture is None else len(encoded)
            encoded += [] if picture is None else [picture]
        texture[own & has_uv] = pictures[key]
        face_uv[own] = face_uv[own] * look.scale + look.offset
    face_uv = np.where((texture >= 0)[:, None, None], face_uv * (1, -1) + (0, 1), 0)  # OBJ's v goes up, ours down
    textures, halved = decoded(encoded, texel_budget)
    instance, objects = _objects(lines, line)
    part = Part(
        vertices,
        faces,
        uv=face_uv,
        vertex_colour=colours,
        texture=texture,
        colour=colour,
        double_sided=True,
        instance=instance,
    )
    name = path.name.partition(".")[0]
    return joined(name, [part], textures=textures, objects=objects, warnings=(*dict.fromkeys(noticed), *halved))


class _Lines:
    """The file's lines, sorted by their first word without a loop over them."""

    def __init__(self, data: bytes) -> None:
        self.data = np.frombuffer(data if data.endswith(b"\n") else data + b"\n", np.uint8)
        self.ends = np.flatnonzero(self.data == ord("\n"))
        self.starts = np.concatenate([[0], self.ends[:-1] + 1])
        self.lengths = self.ends + 1 - self.starts
        for _ in range(16):  # a line may begin with spaces
            first = self.data[self.starts]
            spaced = (first == ord(" ")) | (first == ord("\t"))
            if not spaced.any():
                break
            self.starts = self.starts + spaced
        padded = np.concatenate([self.data, np.zeros(8, np.uint8)])
        self.heads = np.stack([padded[self.starts + i] for i in range(7)], axis=1)

    def of(self, word: str) -> np.ndarray:
        """The numbers of the lines that begin with the word."""
        found = np.ones(len(self.starts), bool)
        for i, letter in enumerate(word.encode()):
            found &= self.heads[:, i] == letter
        after = self.heads[:, len(word)]
        found &= (after == ord(" ")) | (after == ord("\t"))
        return np.flatnonzero(found & (self.starts + len(word) < self.ends))

    def text(self, lines: np.ndarray, skip: int) -> bytes:
        """The lines together, spaces for their first `skip` letters, each with its end."""
        wanted = np.zeros(len(self.ends), bool)
        wanted[lines] = True
        letters = self.data.copy()
        for i in range(skip):
            letters[self.starts[lines] + i] = ord(" ")
        text: bytes = letters[np.repeat(wanted, self.lengths)].tobytes()
        return text

    def names(self, word: str) -> list[tuple[int, str]]:
        """Number and rest of each line that begins with the word."""
        return [
            (
                int(line),
                self.data[self.starts[line] + len(word) : self.ends[line]].tobytes().decode(errors="replace").strip(),
            )
            for line in self.of(word)
        ]


def _without_comments(text: bytes) -> bytes:
    return re.sub(rb"#[^\n]*", b"", text) if b"#" in text else text


def _words(text: bytes) -> tuple[np.ndarray, np.ndarray]:
    """How many words each line of a text has, and where in the text each word begins."""
    letters = np.frombuffer(text, np.uint8)
    black = letters > ord(" ")
    black[1:] &= letters[:-1] <= ord(" ")
    begins = np.flatnonzero(black)
    return np.diff(np.searchsorted(begins, np.flatnonzero(letters == ord("\n"))), prepend=0), begins


def _columns(lines: _Lines, word: str, path: Path, widths: tuple[int, ...]) -> np.ndarray:
    text = _without_comments(lines.text(lines.of(word), len(word)))
    counts, _ = _words(text)
    narrow = int(counts.min())
    if narrow not in widths and narrow < widths[-1]:
        raise UserError(f"{path}: a line of {word!r} has {narrow} numbers; expected {' or '.join(map(str, widths))}")
    numbers = _numbers(text, path)
    if narrow == counts.max():
        return numbers.reshape(len(counts), narrow)
    first = np.cumsum(counts) - counts  # some have a weight or a colour more: what all have is kept
    return np.asarray(numbers[first[:, None] + np.arange(narrow)])


def _numbers(text: bytes, path: Path) -> np.ndarray:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # older numpy warns of a word that is no number and returns what was before
            return np.fromstring(text, dtype=np.float64, sep=" ")
    except (ValueError, DeprecationWarning) as error:
        raise UserError(f"{path}: there is a word among its numbers; the file is damaged: export it again") from error


def _vertices(lines: _Lines, path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    if not len(lines.of("v")):
        raise UserError(f"{path} has no vertices: it is no OBJ file, or an empty one")
    rows = _columns(lines, "v", path, (3, 4, 6, 7))
    if rows.shape[1] < 6:
        return rows[:, :3], None
    colours = np.full((len(rows), 4), 255, np.uint8)
    colours[:, :3] = np.round(np.clip(np.nan_to_num(rows[:, -3:], nan=1.0), 0, 1) * 255)
    return rows[:, :3], colours


def _faces(lines: _Lines, vertices: int, uvs: int, path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Corners of each polygon, the vertex and the uv (-1 for none) of each corner, and each polygon's line."""
    numbers = lines.of("f")
    if not len(numbers):
        raise UserError(f"{path} has no faces; a scene is a surface: points and lines cannot be drawn")
    text = _without_comments(lines.text(numbers, 1))
    counts, begins = _words(text)
    # A corner is v, v/t, v//n or v/t/n; an empty place becomes 0, which no index is.
    slashes = np.searchsorted(np.flatnonzero(np.frombuffer(text, np.uint8) == ord("/")), np.append(begins, len(text)))
    filled = re.sub(rb"/(?=[/\s])", b"/0", text) if b"/" in text else text
    values = _numbers(filled.replace(b"/", b" "), path)
    places = np.diff(slashes) + 1
    if slashes[:1].any() or places.sum() != len(values) or (len(places) and places.max() > 3):
        raise UserError(f"{path}: the corners of a face are not written as v, v/t, v//n or v/t/n; the file is damaged")
    if not (np.abs(values) < 2**31).all() or (values != np.round(values)).any():
        raise UserError(f"{path}: a face names a vertex by a number that is not whole; the file is damaged")
    whole = values.astype(np.int64)
    first = np.cumsum(places) - places
    line = np.repeat(numbers, counts)
    corner_vertex = _absolute(whole[first], lines.of("v"), line, vertices, path, "vertex")
    if (corner_vertex < 0).any():
        raise UserError(f"{path}: a face names vertex 0; OBJ counts from 1: the file is damaged")
    second = np.where(places > 1, whole[np.minimum(first + 1, len(whole) - 1)], 0)
    corner_uv = _absolute(second, lines.of("vt"), line, uvs, path, "texture coordinate")
    return counts, corner_vertex, corner_uv, numbers


def _absolute(
    index: np.ndarray, defined: np.ndarray, line: np.ndarray, count: int, path: Path, what: str
) -> np.ndarray:
    # -1 is the last one that was defined above the face's line.
    above = np.searchsorted(defined, line)
    absolute = np.where(index < 0, above + index, index - 1)
    wrong = (index != 0) & ((absolute < 0) | (absolute >= count))
    if wrong.any():
        raise UserError(
            f"{path}: a face names {what} {int(index[wrong][0])}, but there are {count}; the file is damaged"
        )
    return absolute


def _objects(lines: _Lines, line: np.ndarray) -> tuple[np.ndarray | int, tuple[SceneObject, ...]]:
    named = lines.names("o") or lines.names("g")
    if not named:
        return 0, ()
    at = np.searchsorted([number for number, _ in named], line, side="right") - 1
    ids: dict[str, int] = {}
    table = [ids.setdefault(name or "unnamed", len(ids) + 1) for _, name in named]
    instance = np.array([*table, 0])[at]  # -1, before the first name, is the last entry: none
    return instance, tuple(SceneObject(number, name) for name, number in ids.items())


def _materials(
    lines: _Lines, path: Path, sources: Sources, missing_textures: bool, noticed: list[str]
) -> dict[str, Material]:
    found: dict[str, Material] = {}
    for _, names in lines.names("mtllib"):
        whole = path.parent / names  # one name with spaces in it, or several names
        for library in [whole] if sources.exists(whole) else [path.parent / name for name in names.split()]:
            if sources.exists(library):
                found |= _library(sources.read(library), library)
            elif not missing_textures:
                raise UserError(
                    f"{path} names the materials {library.name}, which are not beside it; put the file there, or pass "
                    "missing_textures=True to draw the faces white"
                )
            else:
                noticed.append(f"the materials {library.name} are not there: their faces are white")
    return found


def _library(data: bytes, path: Path) -> dict[str, Material]:
    found: dict[str, Material] = {}
    name = None
    fields: dict[str, list[str]] = {}
    for line in [*data.decode("utf-8", errors="replace").splitlines(), "newmtl"]:
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if words[0] == "newmtl":
            if name is not None:
                found[name] = _material(fields, path)
            name, fields = line.partition("newmtl")[2].strip(), {}
        else:
            fields[words[0].lower()] = words[1:]
    return found


def _material(fields: dict[str, list[str]], path: Path) -> Material:
    try:
        red, green, blue = (min(1.0, max(0.0, float(word))) for word in (fields.get("kd") or ["1", "1", "1"])[:3])
        picture, clamp, scale, offset = _map(fields.get("map_kd", []))
        opaque = float(fields["d"][-1]) if fields.get("d") else 1 - float(fields["tr"][-1]) if fields.get("tr") else 1.0
    except ValueError as error:
        raise UserError(f"{path}: a colour of a material is no number ({error}); the file is damaged") from error
    if picture and not red + green + blue:  # some programs write black where a picture is to be seen
        red = green = blue = 1.0
    alpha = min(1.0, max(0.0, opaque))
    if not all(value == value for value in (red, green, blue, alpha, *scale, *offset)):
        raise UserError(f"{path}: a colour of a material is not finite; the file is damaged")
    return Material((red, green, blue, alpha), picture, clamp, scale, offset)


def _map(words: list[str]) -> tuple[str, bool, tuple[float, float], tuple[float, float]]:
    pairs = {"-s": (1.0, 1.0), "-o": (0.0, 0.0)}
    clamp = False
    i = 0
    while i < len(words) and (words[i] in OPTIONS or words[i] in ("-s", "-o", "-t")):
        option = words[i]
        i += 1
        if option in OPTIONS:
            clamp |= option == "-clamp" and words[i : i + 1] == ["on"]
            i += OPTIONS[option]
            continue
        numbers: list[float] = []
        while len(numbers) < 3 and i < len(words) and re.fullmatch(r"[-+]?[\d.]+([eE][-+]?\d+)?", words[i]):
            numbers.append(float(words[i]))
            i += 1
        if option in pairs and numbers:
            pairs[option] = (numbers[0], numbers[1] if len(numbers) > 1 else pairs[option][1])
    return " ".join(words[i:]).replace("\\", "/"), clamp, pairs["-s"], pairs["-o"]


def _picture(
    look: Material, path: Path, sources: Sources, missing_textures: bool, noticed: list[str]
) -> Picture | None:
    place = path.parent / look.picture
    if not sources.exists(place):
        if not missing_textures:
            raise missing_picture(look.picture, path)
        noticed.append(f"the texture {look.picture} is not there: its faces are drawn in their colour alone")
        return None
    wrap: Wrap = "clamp" if look.clamp else "repeat"
    return Picture(sources.read(place), (wrap, wrap), str(place))
