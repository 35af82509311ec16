import pytest

from vlkit.envs.house.house import STOREY_M, WALL_M, Finish, Flight, Furniture, House, Opening, Room

OAK, CREAM = Finish("planks", (178, 128, 78)), Finish("plaster", (232, 222, 200))
TILES, BLUE = Finish("tiles", (186, 206, 214)), Finish("plaster", (196, 206, 226))


@pytest.fixture(scope="session")
def cottage() -> House:
    """Two furnished rooms side by side, with a door between them: a living room of 5 x 4 m, and a bedroom."""
    return House(
        name="cottage",
        level="starter",
        seed=0,
        rooms=(
            Room(0, "living room", 0, (0.0, 0.0), (5.0, 4.0), OAK, CREAM),
            Room(1, "bedroom", 0, (5.0 + WALL_M, 0.0), (8.6, 4.0), Finish("carpet", (150, 160, 186)), BLUE),
        ),
        openings=(Opening(0, "door", (0, 1), 0, (5.0 + WALL_M / 2, 1.2), along="z", width_m=0.9),),
        furniture=(
            Furniture(1, "sofa", "red", 0, (2.0, 0.0, 3.5), 0, (1.9, 0.85, 0.9)),
            Furniture(2, "tv stand", "brown", 0, (2.0, 0.0, 0.25), 2, (1.4, 0.5, 0.45)),
            Furniture(3, "television", "black", 0, (2.0, 0.5, 0.25), 2, (1.1, 0.65, 0.1), on=2),
            Furniture(4, "rug", "blue", 0, (2.0, 0.0, 2.0), 0, (1.8, 0.014, 1.2)),
            Furniture(5, "bookshelf", "white", 0, (0.18, 0.0, 1.5), 3, (1.0, 1.8, 0.34)),
            Furniture(6, "painting", "teal", 0, (4.978, 1.3, 3.0), 1, (0.8, 0.6, 0.04)),
            Furniture(7, "bed", "purple", 1, (7.3, 0.0, 2.95), 0, (1.5, 1.0, 2.05)),
            Furniture(8, "wardrobe", "green", 1, (7.6, 0.0, 0.3), 2, (1.4, 1.9, 0.6)),
            Furniture(9, "chandelier", "yellow", 0, (2.0, 2.15, 2.0), 0, (0.7, 0.45, 0.7)),
        ),
    )


@pytest.fixture(scope="session")
def town_house() -> House:
    """Two storeys: a hallway and an office below, a bedroom and a bathroom above, and stairs that lead north."""
    hallway = Room(0, "hallway", 0, (0.0, 0.0), (4.0, 3.0), OAK, CREAM)
    stairs = Room(1, "stairs", 0, (4.0 + WALL_M, 0.0), (6.2, 6.0), Finish("wood", (178, 128, 78)), CREAM)
    office = Room(2, "office", 0, (0.0, 3.0 + WALL_M), (4.0, 6.0), Finish("carpet", (92, 98, 106)), BLUE)
    bedroom = Room(3, "bedroom", 1, (0.0, 0.0), (4.0, 3.0), Finish("carpet", (150, 160, 186)), BLUE)
    bathroom = Room(4, "bathroom", 1, (0.0, 3.0 + WALL_M), (4.0, 6.0), TILES, TILES)
    return House(
        name="town house",
        level="long",
        seed=0,
        rooms=(hallway, stairs, office, bedroom, bathroom),
        openings=(
            Opening(0, "passage", (0, 2), 0, (2.0, 3.0 + WALL_M / 2), along="x", width_m=1.6),
            Opening(1, "door", (1, 2), 0, (4.0 + WALL_M / 2, 5.3), along="z", width_m=0.9),
            Opening(2, "door", (1, 3), 1, (4.0 + WALL_M / 2, 0.65), along="z", width_m=0.9),
            Opening(3, "door", (3, 4), 1, (1.0, 3.0 + WALL_M / 2), along="x", width_m=0.85),
        ),
        furniture=(
            Furniture(1, "coat rack", "brown", 0, (0.3, 0.0, 0.3), 0, (0.45, 1.7, 0.45)),
            Furniture(2, "desk", "black", 2, (0.4, 0.0, 5.0), 3, (1.4, 0.74, 0.7)),
            Furniture(3, "bed", "orange", 3, (2.0, STOREY_M, 1.1), 2, (1.4, 1.0, 2.05)),
            Furniture(4, "toilet", "white", 4, (0.35, STOREY_M, 5.0), 3, (0.4, 0.8, 0.66)),
        ),
        flights=(Flight(1, foot=(5.6, 5.2), head=(5.6, 1.2), width_m=1.0, steps=16),),
    )
