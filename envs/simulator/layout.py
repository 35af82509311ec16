"""Scenes laid out for the two engines: faces in clusters of sixteen that lie together, textures in one pool of texels.

Many scenes share the arrays, so that one launch draws views of all of them. A face's number is its place in them:
cluster number times sixteen plus its place in the cluster.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from vlkit.envs.simulator.scene import Filter, Mips, SceneData, Texture, Wrap
from vlkit.errors import UserError

LANES = 16  # faces in a cluster, clusters in a block of boxes: what one instruction of AVX-512 takes at once
WRAPS: dict[Wrap, int] = {"repeat": 0, "mirror": 1, "clamp": 2}
LARGEST_TEXTURE = 16_384  # pixels a side: what 15 mip levels and 16 bits a side hold
MOST_TEXELS = 2**31 - 1  # the kernels' indices are signed
RGB = np.uint32(0xFFFFFF)
WHITE = Texture(np.full((1, 1, 4), 255, np.uint8))  # what a face without a texture shows


@dataclass(frozen=True, eq=False)
class Layout:
    """Arrays of NumPy; `faces` counts the empty places that fill up clusters, `clusters` those that fill up blocks."""

    first_cluster: np.ndarray  # (scenes,) int32, a multiple of sixteen
    clusters: np.ndarray  # (scenes,) int32, filled up to a multiple of sixteen
    coloured: np.ndarray  # (scenes,) int32, 1 where a vertex is not white
    source: np.ndarray  # (faces,) int32, the face's number in its scene, -1 where the place is empty
    boxes: np.ndarray  # (clusters / 16, 6, 16) float32: the centre's x, y, z and half the size; NaN where empty
    corners: np.ndarray  # (clusters, 9, 16) float32: x, y, z of the first, second and third corner, metres
    double_sided: np.ndarray  # (faces,) int32
    uv: np.ndarray  # (faces, 6) float32: u, v of the three corners
    vertex_colour: np.ndarray  # (faces, 3) uint32, red lowest; (1, 3) where every vertex is white
    factor: np.ndarray  # (faces,) uint32, red lowest: the face's colour
    semantic: np.ndarray  # (faces,) int32
    instance: np.ndarray  # (faces,) int32
    texture: np.ndarray  # (faces,) int32 into the next three; the first one is white
    texture_base: np.ndarray  # (textures,) int32: where its picture begins in texels
    texture_size: np.ndarray  # (textures,) int32: width + height * 65536 of its first level
    texture_kind: np.ndarray  # (textures,) int32: levels - 1, wraps of u and v in bits 4 and 6, filters in bits 8 to 11
    texels: np.ndarray  # (texels,) uint32, red lowest; how levels lie in it: mip_picture

    @property
    def bytes(self) -> int:
        return sum(value.nbytes for value in vars(self).values())


def lay_out(scenes: Sequence[SceneData]) -> Layout:
    """All of them in one. Raises UserError where a scene contradicts itself or textures are too large to be numbered."""
    if not scenes:
        raise UserError("an engine was given no scene; give it at least one")
    for scene in scenes:
        _check(scene)
    pool = _TexturePool()
    parts = [_scene_part(scene, pool) for scene in scenes]
    clusters = np.array([part["corners"].shape[0] for part in parts], np.int32)
    coloured = np.array([(part["vertex_colour"] & RGB != RGB).any() for part in parts], np.int32)
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    if not coloured.any():
        joined["vertex_colour"] = np.full((1, 3), RGB)
    return Layout(
        first_cluster=(np.cumsum(clusters) - clusters).astype(np.int32),
        clusters=clusters,
        coloured=coloured,
        **joined,
        **pool.arrays(),
    )


def _check(scene: SceneData) -> None:
    """Scenes made by hand, too, have every array as long as it should be and no number that points nowhere."""
    name = scene.name or "a scene"
    of_faces = ("uv", "texture", "colour", "double_sided", "instance", "semantic")
    counted = [(each, "face", len(scene.faces)) for each in of_faces]
    for field, owner, count in (*counted, ("vertex_colour", "vertex", len(scene.vertices))):
        if len(getattr(scene, field)) != count:
            rows = len(getattr(scene, field))
            raise UserError(f"{name}: {field} has {rows} rows; expected {count}, one for each {owner}")
    for field, lowest, count in (
        ("faces", 0, len(scene.vertices)),
        ("texture", -1, len(scene.textures)),
        ("semantic", 0, len(scene.categories)),
    ):
        numbers = getattr(scene, field)
        for number in (numbers.min(), numbers.max()) if numbers.size else ():
            if not lowest <= number < count:
                raise UserError(f"{name}: {field} has {number}; expected {lowest} to {count - 1}")
    for texture in scene.textures:
        _check_texture(name, texture)


def _check_texture(name: str, texture: Texture) -> None:
    image = texture.image
    if image.ndim != 3 or image.shape[2] != 4 or image.dtype != np.uint8:
        raise UserError(f"{name}: a texture's image is {image.shape} {image.dtype}; expected (height, width, 4) uint8")
    for wrap in texture.wrap:
        if wrap not in WRAPS:
            raise UserError(f"{name}: a texture's wrap is {wrap!r}; expected one of {', '.join(WRAPS)}")
    large, small, mips = texture.filters
    if not {large, small} <= set(get_args(Filter)) or mips not in get_args(Mips):
        raise UserError(
            f"{name}: a texture's filters are {texture.filters}; expected two of {', '.join(get_args(Filter))} and one of "
            f"{', '.join(get_args(Mips))}"
        )


def _scene_part(scene: SceneData, pool: "_TexturePool") -> dict[str, np.ndarray]:
    corners = scene.vertices[scene.faces].astype(np.float32)  # (faces, 3, 3)
    drawable = np.flatnonzero(np.isfinite(corners).all(axis=(1, 2)))
    places = _clustered(corners[drawable])
    source = np.where(places >= 0, drawable[places] if len(drawable) else -1, -1).astype(np.int32)
    empty = source < 0

    def of(values: np.ndarray) -> np.ndarray:
        filled = values[source] if len(values) else np.zeros((len(source), *values.shape[1:]), values.dtype)
        return np.where(empty.reshape(-1, *[1] * (values.ndim - 1)), 0, filled).astype(values.dtype)

    placed = of(corners)
    clusters = len(source) // LANES
    textures = np.array([pool.row(texture) for texture in (*scene.textures, WHITE)], np.int32)
    clamped = np.array([[wrap == "clamp" for wrap in texture.wrap] for texture in (*scene.textures, WHITE)])
    shown = of(scene.texture + 1) - 1
    return {
        "source": source,
        "boxes": _boxes(placed, empty),
        "corners": np.ascontiguousarray(placed.reshape(clusters, LANES, 9).transpose(0, 2, 1)),
        "double_sided": of(scene.double_sided).astype(np.int32),
        "uv": _near_zero(of(scene.uv), clamped[shown]).reshape(-1, 6),
        "vertex_colour": of(_packed(scene.vertex_colour)[scene.faces]) | np.where(empty[:, None], RGB, np.uint32(0)),
        "factor": of(_packed(np.rint(scene.colour.clip(0, 1) * 255).astype(np.uint8))),
        "semantic": of(scene.semantic.astype(np.int32)),
        "instance": of(scene.instance.astype(np.int32)),
        "texture": textures[shown],
    }


def _clustered(corners: np.ndarray) -> np.ndarray:
    """(faces, 3, 3) -> the faces' numbers in an order where every sixteen lie together, -1 where a place is empty.

    Halved again and again along the longest side of what the centres span. Sizes stay multiples of sixteen, and all
    parts of a level are equal, so that NumPy halves them all at once.
    """
    faces = len(corners)
    clusters = max(1, -(-faces // LANES))
    depth = (clusters - 1).bit_length()
    centres = np.full((3, LANES << depth), np.inf, np.float32)
    centres[:, :faces] = (corners.min(axis=1) + corners.max(axis=1)).T / 2
    order = np.arange(LANES << depth)[None]
    for _ in range(depth):
        here = centres[:, order]  # (3, parts, size)
        highest = np.where(np.isinf(here), -np.inf, here).max(axis=2)
        axis = (highest - here.min(axis=2)).argmax(axis=0)  # of a part without faces all three are -inf
        along = here[axis, np.arange(len(order))]
        # The empty places come last, so that they fill whole clusters, which are dropped below.
        split = np.argpartition(along, along.shape[1] // 2, axis=1)
        order = np.take_along_axis(order, split, axis=1).reshape(len(order) * 2, -1)
    order = order.reshape(-1, LANES)
    order = order[(order < faces).any(axis=1)] if faces else order[:1]
    order = np.concatenate([order, np.full((-len(order) % LANES, LANES), faces)])
    return np.where(order < faces, order, -1).reshape(-1)


def _boxes(corners: np.ndarray, empty: np.ndarray) -> np.ndarray:
    points = np.where(empty[:, None, None], np.nan, corners).reshape(-1, LANES * 3, 3)
    filled = ~np.isnan(points).all(axis=(1, 2))
    low, high = (np.full((len(points), 3), np.nan, np.float32) for _ in range(2))
    low[filled], high[filled] = np.nanmin(points[filled], axis=1), np.nanmax(points[filled], axis=1)
    half = (high - low) / 2
    half += 1e-6 * np.maximum(np.abs(low), np.abs(high)) + 1e-6  # float32 may round a corner out of its box
    box = np.concatenate([(low + high) / 2, half], axis=1)  # (clusters, 6)
    return np.ascontiguousarray(box.reshape(-1, LANES, 6).transpose(0, 2, 1), np.float32)


def _near_zero(uv: np.ndarray, clamped: np.ndarray) -> np.ndarray:
    """Moved by an even number, which neither repeating nor mirroring notices, for float32's sake.

    A coordinate that is not a number becomes 0.
    """
    uv = np.nan_to_num(uv, nan=0.0, posinf=0.0, neginf=0.0)
    away = 2 * np.floor(uv.min(axis=1) / 2)  # (faces, 2)
    return (uv - np.where(clamped, 0, away)[:, None]).astype(np.float32)


def _packed(rgba: np.ndarray) -> np.ndarray:
    """(..., 4) uint8 -> (...) uint32 with red lowest."""
    return np.ascontiguousarray(rgba, np.uint8).view("<u4")[..., 0].astype(np.uint32)


class _TexturePool:
    """Every texture once, however many scenes show it."""

    def __init__(self) -> None:
        self.rows: dict[int, int] = {}  # by id
        self.kept: list[Texture] = []  # so that no id is given anew
        self.pictures: list[np.ndarray] = []
        self.texels = 0
        self.row(WHITE)

    def row(self, texture: Texture) -> int:
        if id(texture) not in self.rows:
            height, width = texture.image.shape[:2]
            if not 1 <= min(height, width) <= max(height, width) <= LARGEST_TEXTURE:
                raise UserError(f"a texture has {width}x{height} pixels; expected 1 to {LARGEST_TEXTURE} a side")
            picture = mip_picture(texture)
            self.texels += picture.size
            if self.texels > MOST_TEXELS:
                raise UserError(f"the scenes' textures have more than {MOST_TEXELS} pixels; load fewer scenes at once")
            self.rows[id(texture)] = len(self.kept)
            self.kept.append(texture)
            self.pictures.append(picture)
        return self.rows[id(texture)]

    def arrays(self) -> dict[str, np.ndarray]:
        texels = np.array([picture.size for picture in self.pictures])
        sizes = [texture.image.shape for texture in self.kept]
        kinds = [
            (max(height, width).bit_length() - 1)
            | WRAPS[texture.wrap[0]] << 4
            | WRAPS[texture.wrap[1]] << 6
            | sum((each == "nearest") << 8 + i for i, each in enumerate(texture.filters))
            | (texture.filters[2] == "none") << 11
            for texture, (height, width, _) in zip(self.kept, sizes, strict=True)
        ]
        return {
            "texture_base": (np.cumsum(texels) - texels).astype(np.int32),
            "texture_size": np.array([width | height << 16 for height, width, _ in sizes], np.int32),
            "texture_kind": np.array(kinds, np.int32),
            "texels": np.concatenate([picture.reshape(-1) for picture in self.pictures]),
        }


def mip_picture(texture: Texture) -> np.ndarray:
    """(rows, columns) uint32: all mip levels in one picture, each framed by the texels that follow beyond its borders.

    So the four texels around a point always lie together, and where a level lies is a formula: the first one in the
    top left corner, the others under one another to its right. Level k > 0 begins 2 (height // 2 - height // 2**k) +
    3 (k - 1) rows down, which for any height leaves room for those above it.
    """
    height, width = texture.image.shape[:2]
    levels = [_packed(level) for level in mip_levels(texture.image)]
    down = [0, *(2 * (height // 2 - (height >> k)) + 3 * (k - 1) for k in range(1, len(levels)))]
    rows = max(first + level.shape[0] + 2 for first, level in zip(down, levels, strict=True))
    picture = np.zeros((rows, width + width // 2 + 5), np.uint32)
    modes: list[Literal["wrap", "edge"]] = ["wrap" if wrap == "repeat" else "edge" for wrap in texture.wrap]
    for k, (first, level) in enumerate(zip(down, levels, strict=True)):
        framed = np.pad(np.pad(level, ((1, 1), (0, 0)), modes[1]), ((0, 0), (1, 1)), modes[0])
        left = 0 if k == 0 else width + 2
        picture[first : first + framed.shape[0], left : left + framed.shape[1]] = framed
    return picture


def mip_levels(image: np.ndarray) -> list[np.ndarray]:
    """(height, width, 4) uint8 -> the image, then halves of the one before down to 1x1, as glGenerateMipmap rounds.

    Each texel is the mean of two by two. Where a side is odd, it is what linear filtering gives at the texel's centre.
    """
    levels = [np.ascontiguousarray(image)]
    while max(levels[-1].shape[:2]) > 1:
        rows = _halved(levels[-1].astype(np.float32))
        both = _halved(rows.transpose(1, 0, 2)).transpose(1, 0, 2)
        levels.append(np.floor(both + 0.5).astype(np.uint8))
    return levels


def _halved(rows: np.ndarray) -> np.ndarray:
    count = len(rows)
    if count == 1:
        return rows
    half = count // 2
    at = (np.arange(half) + 0.5) * (count / half) - 0.5
    below = np.floor(at).astype(np.int64)
    weight = (at - below).astype(np.float32).reshape(-1, 1, 1)  # a half where the side is even
    mixed: np.ndarray = rows[below] * (1 - weight) + rows[below + 1] * weight
    return mixed
