"""A scene as the simulator draws and walks it: triangles, textures, and what each triangle belongs to.

Metres, right-handed, y up; an agent that has not turned looks along -z. Every reader ends here and every engine begins
here.
"""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

Wrap = Literal["repeat", "mirror", "clamp"]
Filter = Literal["linear", "nearest"]
Mips = Literal["linear", "nearest", "none"]
Filters = tuple[Filter, Filter, Mips]  # between texels seen large, between texels seen small, between mip levels
SMOOTH: Filters = ("linear", "linear", "linear")
LARGEST_M = 10_000.0  # a scene that is wider has its units wrong, and depth as float32 no longer millimetres


@dataclass(frozen=True, eq=False)
class Texture:
    """A picture that triangles show. (u, v) = (0, 0) is its first row's first corner, as in glTF."""

    image: np.ndarray  # (height, width, 4) uint8, RGBA as stored
    wrap: tuple[Wrap, Wrap] = ("repeat", "repeat")  # beyond 0 and 1, along u and along v
    filters: Filters = SMOOTH


@dataclass(frozen=True)
class SceneObject:
    """A thing that can be named; `id` is what the `instance` sensor shows where it is seen."""

    id: int
    name: str
    category: str = ""
    room: int | None = None  # id of the room it stands in, where that is known


@dataclass(frozen=True)
class Room:
    """A part of a storey. Its outline is a polygon in plan, (x, z) corners in metres."""

    id: int
    name: str
    level: int
    outline: tuple[tuple[float, float], ...]
    low_m: float
    high_m: float


@dataclass(frozen=True, eq=False)
class SceneData:
    """Triangles and what is known of them. Colours are as stored: no gamma is taken off or put on."""

    name: str
    vertices: np.ndarray  # (vertices, 3) float32, metres
    faces: np.ndarray  # (faces, 3) int32, counter-clockwise seen from the front
    uv: np.ndarray  # (faces, 3, 2) float32, of each corner; zeros where there is no texture
    texture: np.ndarray  # (faces,) int32 into textures, -1 for none
    colour: np.ndarray  # (faces, 4) float32 in [0, 1], a factor on texture and vertex colours
    vertex_colour: np.ndarray  # (vertices, 4) uint8, 255 where the file has none
    double_sided: np.ndarray  # (faces,) bool
    instance: np.ndarray  # (faces,) int32, id of the object, 0 for none
    semantic: np.ndarray  # (faces,) int32 into categories
    textures: tuple[Texture, ...] = ()
    categories: tuple[str, ...] = ("unlabelled",)  # the first one is that of what nobody labelled
    objects: tuple[SceneObject, ...] = ()
    rooms: tuple[Room, ...] = ()
    warnings: tuple[str, ...] = field(default=())  # what a reader noticed and went on from, for whoever shows them

    @property
    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest corner of what the faces span, (3,) each."""
        used = self.vertices[self.faces.reshape(-1)]
        return used.min(axis=0), used.max(axis=0)
