"""The measures of continuous navigation: how tables call them. The environment computes them (envs/navigation.py)."""

LABELS = {
    "path_length": "TL, path length",
    "distance_to_goal": "NE, navigation error",
    "success": "SR, success rate",
    "oracle_success": "OSR, oracle success rate",
    "spl": "SPL",
    "oracle_spl": "oracle SPL",
    "ndtw": "nDTW",
    "sdtw": "SDTW",
    "cls": "CLS",
    "goal_room": "room, ends in the goal's room",
    "steps": "steps",
    "collisions": "collisions",
}
