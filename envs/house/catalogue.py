"""What there is in houses: kinds of rooms with their floors and walls, and kinds of things with sizes, colours, places.

How a thing is put (`Rule`): "wall" its back against a wall, "corner" in a corner, "centre" free in the room, "around"
beside what `beside` names (chairs at a table), "on" on top of what `beside` names, "mounted" on a wall at `height_m`,
"ceiling" hung from it, "floor" flat on it and walked over (a rug).
"""

from dataclasses import dataclass
from typing import Literal

from vlkit.envs.house.house import Finish, Pattern

Rule = Literal["wall", "corner", "centre", "around", "on", "mounted", "ceiling", "floor"]
Range = tuple[float, float]  # metres, from and to

RGB = tuple[int, int, int]
OAK, WALNUT, PALE, SLATE, CREAM, CHALK = (
    (178, 128, 78), (104, 70, 44), (206, 178, 138), (92, 98, 106), (232, 222, 200), (222, 222, 218),
)  # fmt: skip


def _finishes(pattern: Pattern, *colours: RGB) -> tuple[Finish, ...]:
    return tuple(Finish(pattern, colour) for colour in colours)


@dataclass(frozen=True)
class RoomKind:
    """How rooms of a kind are made."""

    name: str
    area_m2: Range
    most: int  # in one house
    floors: tuple[Finish, ...]
    walls: tuple[Finish, ...]


ROOM_KINDS: dict[str, RoomKind] = {
    kind.name: kind
    for kind in (
        RoomKind("living room", (14, 34), 1, _finishes("planks", OAK, WALNUT), _finishes("plaster", CREAM, (206, 214, 196))),
        RoomKind("kitchen", (9, 22), 1, _finishes("checks", CHALK, (200, 196, 170)), _finishes("tiles", CHALK, (196, 216, 220))),
        RoomKind("dining room", (10, 24), 1, _finishes("planks", WALNUT, OAK), _finishes("stripes", (214, 190, 160), (186, 168, 170))),
        RoomKind("bedroom", (9, 22), 3, _finishes("carpet", (150, 160, 186), (186, 170, 150)), _finishes("plaster", (196, 206, 226), (226, 204, 208))),
        RoomKind("bathroom", (4, 11), 2, _finishes("tiles", (186, 206, 214), SLATE), _finishes("tiles", (222, 232, 236), (170, 206, 206))),
        RoomKind("office", (8, 18), 1, _finishes("carpet", SLATE, (96, 112, 96)), _finishes("plaster", (198, 202, 206), (190, 200, 180))),
        RoomKind("hallway", (5, 26), 2, _finishes("planks", PALE, OAK), _finishes("plaster", (236, 232, 224), (224, 214, 190))),
        RoomKind("laundry room", (4, 11), 1, _finishes("tiles", (196, 196, 200), (170, 180, 170)), _finishes("plaster", (214, 226, 230),)),
        RoomKind("library", (9, 22), 1, _finishes("carpet", (112, 52, 50), (52, 72, 60)), _finishes("wood", WALNUT, OAK)),
        RoomKind("playroom", (9, 22), 1, _finishes("dots", (226, 206, 150), (190, 216, 226)), _finishes("plaster", (244, 226, 160), (196, 226, 196))),
        RoomKind("gym", (9, 22), 1, _finishes("plain", (64, 66, 70), (74, 82, 96)), _finishes("plaster", (206, 206, 206), (226, 186, 150))),
        RoomKind("storage room", (4, 11), 1, _finishes("plain", (150, 146, 140), (128, 124, 118)), _finishes("brick", (164, 92, 72), (150, 140, 130))),
        RoomKind("stairs", (5, 12), 1, _finishes("wood", OAK, WALNUT), _finishes("plaster", (230, 224, 210), (210, 214, 220))),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """A kind of thing."""

    name: str
    rule: Rule
    rooms: tuple[str, ...]  # kinds of rooms; the first ones have it most often
    width_m: Range
    height_m: Range  # of the thing itself
    depth_m: Range
    colours: tuple[str, ...]
    beside: tuple[str, ...] = ()  # kinds: what it stands around or on
    base_m: float = 0.0  # of its lower edge over the floor, where it is mounted
    most: int = 1  # in a room
    likely: float = 0.5  # chance that a room which may have it does
    key: bool = False  # a room of the first kind in `rooms` always has one: it tells what room it is
    landmark: bool = True  # large enough to be told from across a room and named in an instruction


WARM = ("red", "orange", "yellow", "brown", "white", "pink")
ALL = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "gray", "teal")
CLOTH = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "gray", "teal")
TIMBER = ("brown", "white", "black", "red", "blue", "green", "yellow")
ENAMEL = ("white", "gray", "black", "teal", "pink", "yellow")

KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        # living
        Kind("sofa", "wall", ("living room", "library", "office"), (1.7, 2.2), (0.75, 0.9), (0.8, 0.95), CLOTH, key=True),
        Kind("armchair", "corner", ("living room", "library", "bedroom"), (0.75, 0.9), (0.8, 1.0), (0.75, 0.9), CLOTH, most=2),
        Kind("coffee table", "centre", ("living room",), (0.8, 1.2), (0.38, 0.46), (0.5, 0.7), TIMBER, likely=0.7),
        Kind("television", "on", ("living room", "bedroom", "gym"), (0.9, 1.3), (0.55, 0.75), (0.08, 0.12), ("black",), beside=("tv stand", "dresser"), likely=0.8),
        Kind("tv stand", "wall", ("living room",), (1.2, 1.6), (0.45, 0.55), (0.4, 0.45), TIMBER, likely=0.8),
        Kind("bookshelf", "wall", ("library", "living room", "office", "bedroom", "hallway"), (0.8, 1.2), (1.6, 2.0), (0.3, 0.36), TIMBER, most=3, likely=0.6, key=True),
        Kind("fireplace", "wall", ("living room", "library"), (1.2, 1.5), (1.1, 1.3), (0.35, 0.45), ("white", "red", "gray", "brown"), likely=0.35),
        Kind("piano", "wall", ("living room", "library"), (1.4, 1.5), (1.1, 1.25), (0.55, 0.65), ("black", "brown", "white"), likely=0.3),
        Kind("floor lamp", "corner", ("living room", "bedroom", "office", "library"), (0.35, 0.45), (1.5, 1.7), (0.35, 0.45), WARM, likely=0.45),
        Kind("potted plant", "corner", ("living room", "hallway", "office", "dining room", "bathroom", "library"), (0.4, 0.55), (0.8, 1.4), (0.4, 0.55), ("green",), likely=0.5),
        Kind("rug", "floor", ("living room", "bedroom", "dining room", "playroom", "hallway"), (1.4, 2.2), (0.012, 0.016), (1.0, 1.6), CLOTH, likely=0.5),
        Kind("painting", "mounted", ("living room", "hallway", "bedroom", "dining room", "office", "library"), (0.6, 1.1), (0.5, 0.8), (0.04, 0.05), ALL, base_m=1.25, most=3, likely=0.7),
        Kind("wall clock", "mounted", ("kitchen", "office", "hallway", "playroom", "gym"), (0.35, 0.45), (0.35, 0.45), (0.05, 0.06), ALL, base_m=1.6, likely=0.35, landmark=False),
        # kitchen and dining
        Kind("kitchen counter", "wall", ("kitchen",), (1.4, 2.2), (0.88, 0.94), (0.58, 0.64), ("white", "gray", "brown", "blue", "green", "black"), key=True, most=2, likely=0.8),
        Kind("stove", "wall", ("kitchen",), (0.58, 0.64), (0.88, 0.94), (0.58, 0.64), ("black", "white", "gray", "red"), key=True),
        Kind("refrigerator", "wall", ("kitchen",), (0.65, 0.85), (1.65, 1.9), (0.62, 0.7), ("white", "gray", "black", "red", "blue", "teal"), key=True),
        Kind("dining table", "centre", ("dining room", "kitchen"), (1.3, 1.8), (0.72, 0.78), (0.8, 1.0), TIMBER, key=True, likely=0.4),
        Kind("chair", "around", ("dining room", "kitchen", "office", "playroom"), (0.42, 0.5), (0.85, 1.0), (0.42, 0.5), ALL, beside=("dining table", "desk", "play table"), most=4, likely=1.0),
        Kind("sideboard", "wall", ("dining room", "living room", "hallway"), (1.2, 1.6), (0.8, 0.95), (0.4, 0.5), TIMBER, likely=0.6),
        Kind("chandelier", "ceiling", ("dining room", "living room"), (0.6, 0.8), (0.4, 0.5), (0.6, 0.8), ("yellow", "white", "black"), likely=0.5, landmark=False),
        Kind("fruit bowl", "on", ("kitchen", "dining room"), (0.28, 0.36), (0.14, 0.18), (0.28, 0.36), ("orange", "red", "yellow", "green"), beside=("dining table", "kitchen counter"), likely=0.5, landmark=False),
        Kind("vase", "on", ("dining room", "living room", "hallway"), (0.16, 0.22), (0.3, 0.42), (0.16, 0.22), CLOTH, beside=("sideboard", "coffee table", "dining table", "console table"), likely=0.5, landmark=False),
        Kind("trash can", "corner", ("kitchen", "office", "bathroom", "laundry room"), (0.3, 0.38), (0.4, 0.6), (0.3, 0.38), ALL, likely=0.4),
        # bedroom
        Kind("bed", "wall", ("bedroom",), (1.3, 1.8), (0.85, 1.1), (2.0, 2.1), CLOTH, key=True),
        Kind("nightstand", "around", ("bedroom",), (0.4, 0.5), (0.45, 0.6), (0.36, 0.44), TIMBER, beside=("bed",), most=2, likely=0.7),
        Kind("table lamp", "on", ("bedroom", "office", "living room"), (0.22, 0.3), (0.38, 0.48), (0.22, 0.3), WARM, beside=("nightstand", "desk", "sideboard"), likely=0.6, landmark=False),
        Kind("wardrobe", "wall", ("bedroom",), (1.1, 1.6), (1.8, 2.05), (0.55, 0.62), TIMBER, likely=0.7),
        Kind("dresser", "wall", ("bedroom", "hallway"), (0.9, 1.3), (0.8, 1.0), (0.42, 0.5), TIMBER, likely=0.5),
        Kind("mirror", "mounted", ("bedroom", "hallway", "gym"), (0.5, 0.9), (1.0, 1.4), (0.03, 0.05), ("white", "brown", "black", "yellow"), base_m=0.7, likely=0.4),
        # bathroom and laundry
        Kind("bathtub", "wall", ("bathroom",), (1.5, 1.7), (0.52, 0.6), (0.7, 0.78), ENAMEL, likely=0.6),
        Kind("shower", "corner", ("bathroom",), (0.8, 0.9), (1.95, 2.05), (0.8, 0.9), ("white", "gray", "teal"), likely=0.35),
        Kind("toilet", "wall", ("bathroom",), (0.38, 0.44), (0.75, 0.82), (0.62, 0.7), ENAMEL, key=True),
        Kind("sink", "wall", ("bathroom", "laundry room"), (0.55, 0.8), (0.85, 0.9), (0.42, 0.5), ENAMEL, key=True),
        Kind("bathroom mirror", "mounted", ("bathroom",), (0.5, 0.7), (0.6, 0.8), (0.03, 0.04), ("white", "black", "brown"), base_m=1.15, likely=0.7, landmark=False),
        Kind("washing machine", "wall", ("laundry room", "bathroom"), (0.58, 0.62), (0.84, 0.88), (0.56, 0.6), ("white", "gray", "black", "red"), key=True, likely=0.3),
        Kind("dryer", "wall", ("laundry room",), (0.58, 0.62), (0.84, 0.88), (0.56, 0.6), ("white", "gray", "black", "blue"), likely=0.7),
        Kind("laundry basket", "corner", ("laundry room", "bathroom", "bedroom"), (0.4, 0.5), (0.5, 0.62), (0.4, 0.5), CLOTH, likely=0.5),
        Kind("ironing board", "wall", ("laundry room", "bedroom"), (1.1, 1.25), (0.82, 0.9), (0.32, 0.4), CLOTH, likely=0.35),
        # office, library, hall
        Kind("desk", "wall", ("office", "library", "bedroom"), (1.2, 1.6), (0.72, 0.76), (0.6, 0.75), TIMBER, key=True, likely=0.35),
        Kind("computer", "on", ("office",), (0.45, 0.55), (0.38, 0.46), (0.16, 0.22), ("black", "white", "gray"), beside=("desk",), likely=0.9),
        Kind("filing cabinet", "wall", ("office", "storage room"), (0.42, 0.5), (1.0, 1.35), (0.5, 0.6), ("gray", "green", "black", "blue", "red", "yellow"), likely=0.6),
        Kind("globe", "on", ("library", "office", "playroom"), (0.28, 0.34), (0.38, 0.44), (0.28, 0.34), ("blue", "green", "brown"), beside=("desk", "sideboard"), likely=0.4, landmark=False),
        Kind("coat rack", "corner", ("hallway", "office"), (0.4, 0.5), (1.6, 1.8), (0.4, 0.5), ("brown", "black", "white", "red"), likely=0.6),
        Kind("shoe rack", "wall", ("hallway",), (0.7, 1.0), (0.4, 0.55), (0.28, 0.34), TIMBER, likely=0.5),
        Kind("console table", "wall", ("hallway",), (0.9, 1.2), (0.78, 0.86), (0.3, 0.36), TIMBER, key=True, likely=0.7),
        Kind("bench", "wall", ("hallway", "gym", "dining room"), (1.0, 1.4), (0.42, 0.48), (0.36, 0.44), CLOTH, likely=0.4),
        Kind("grandfather clock", "wall", ("hallway", "library", "living room"), (0.45, 0.55), (1.85, 2.05), (0.3, 0.36), ("brown", "black", "white"), likely=0.3),
        # playroom, gym, storage
        Kind("play table", "centre", ("playroom",), (0.8, 1.1), (0.48, 0.54), (0.7, 0.9), ALL, key=True),
        Kind("toy chest", "wall", ("playroom",), (0.8, 1.1), (0.5, 0.6), (0.42, 0.5), ALL, likely=0.9),
        Kind("dollhouse", "wall", ("playroom",), (0.7, 0.9), (0.9, 1.1), (0.4, 0.5), ("pink", "white", "yellow", "blue", "red"), likely=0.6),
        Kind("rocking horse", "corner", ("playroom",), (0.35, 0.42), (0.7, 0.85), (0.8, 0.95), ALL, likely=0.6),
        Kind("beach ball", "corner", ("playroom", "storage room"), (0.4, 0.5), (0.4, 0.5), (0.4, 0.5), ("red", "yellow", "blue", "green", "orange"), likely=0.6),
        Kind("treadmill", "wall", ("gym",), (0.75, 0.85), (1.25, 1.4), (1.5, 1.7), ("black", "gray", "red", "blue"), key=True),
        Kind("exercise bike", "corner", ("gym",), (0.5, 0.6), (1.1, 1.25), (0.95, 1.1), ("black", "red", "blue", "yellow", "green"), likely=0.8),
        Kind("punching bag", "corner", ("gym",), (0.38, 0.44), (1.5, 1.8), (0.38, 0.44), ("red", "black", "blue", "yellow"), likely=0.7),
        Kind("weight rack", "wall", ("gym",), (1.1, 1.4), (0.9, 1.1), (0.45, 0.55), ("black", "gray", "red", "blue"), likely=0.7),
        Kind("metal shelf", "wall", ("storage room", "laundry room"), (0.9, 1.2), (1.7, 2.0), (0.4, 0.46), ("gray", "black", "blue", "white"), key=True, likely=0.4),
        Kind("barrel", "corner", ("storage room",), (0.52, 0.6), (0.8, 0.95), (0.52, 0.6), ("brown", "blue", "red", "green", "black"), most=2, likely=0.7),
        Kind("crate", "corner", ("storage room",), (0.5, 0.7), (0.5, 0.65), (0.5, 0.7), ("brown", "yellow", "red", "blue", "green"), most=2, likely=0.7),
        Kind("bicycle", "wall", ("storage room", "hallway"), (1.5, 1.65), (0.95, 1.05), (0.4, 0.45), ALL, likely=0.35),
        Kind("tool cabinet", "wall", ("storage room",), (0.7, 0.95), (0.9, 1.1), (0.45, 0.5), ("red", "blue", "green", "yellow", "gray"), likely=0.6),
    )
}  # fmt: skip

# Colours that a kind never has but in the houses of val_unseen and test: there one meets them for the first time.
HELD_OUT: frozenset[tuple[str, str]] = frozenset(
    {
        ("sofa", "teal"), ("armchair", "orange"), ("bed", "purple"), ("wardrobe", "green"), ("refrigerator", "blue"),
        ("dining table", "blue"), ("chair", "pink"), ("bookshelf", "yellow"), ("desk", "red"), ("bathtub", "pink"),
        ("toilet", "teal"), ("piano", "white"), ("stove", "red"), ("rug", "brown"), ("painting", "gray"), ("bench", "teal"),
        ("dresser", "black"), ("toy chest", "orange"), ("play table", "teal"), ("washing machine", "red"),
        ("filing cabinet", "yellow"), ("barrel", "green"), ("kitchen counter", "green"), ("laundry basket", "yellow"),
    }
)  # fmt: skip
