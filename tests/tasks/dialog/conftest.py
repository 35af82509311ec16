"""A small set in VisDial's format: two splits with pictures and a hundred options a round."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

COLOURS = {"red": (220, 30, 30), "blue": (30, 40, 220), "green": (20, 180, 40), "yellow": (230, 220, 40)}


def visdial(split: str, dialogs: int, *, first: int = 1, seed: int = 0) -> dict[str, Any]:
    """A document of VisDial v1.0: what colour a picture is is asked in it, and again as "and now?"."""
    rng = random.Random(f"{split} {seed}")
    answers = [*COLOURS, *(f"answer number {i}" for i in range(116))]
    questions = ["what color is the picture", "and now", *(f"question {i}" for i in range(8))]
    entries = []
    for number in range(first, first + dialogs):
        colour = list(COLOURS)[number % len(COLOURS)]
        turns = []
        for i in range(10):
            right = answers.index(colour) if i < 2 else 4 + i
            options = rng.sample([each for each in range(len(answers)) if each != right], 99)
            place = rng.randrange(100)
            options.insert(place, right)
            turn = {"question": i, "answer": right, "answer_options": options, "gt_index": place}
            turns.append(turn | {"needs_history": i == 1})
        entries.append({"image_id": number, "caption": f"a {colour} picture", "dialog": turns})
    return {
        "version": "1.0",
        "split": split,
        "data": {"questions": questions, "answers": answers, "dialogs": entries},
    }


def dense(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Relevance of one round of each dialog: the right option, and half of the answer behind it, where that is one."""
    found = []
    for i, dialog in enumerate(document["data"]["dialogs"]):
        turn = dialog["dialog"][i % 10]
        gains = {turn["answer"]: 1.0, turn["answer"] + 1: 0.5}
        relevance = [gains.get(option, 0.0) for option in turn["answer_options"]]
        key = "relevance" if document["split"].startswith("train") else "gt_relevance"
        found.append({"image_id": dialog["image_id"], "round_id": i % 10 + 1, key: relevance})
    return found


def write(folder: Path, splits: dict[str, int]) -> Path:
    """Files and pictures of some splits, so many dialogs each."""
    (folder / "images").mkdir(parents=True)
    first = 1
    for split, count in splits.items():
        document = visdial(split, count, first=first)
        (folder / f"visdial_1.0_{split}.json").write_text(json.dumps(document))
        (folder / f"visdial_1.0_{split}_dense_annotations.json").write_text(json.dumps(dense(document)))
        for dialog in document["data"]["dialogs"]:
            colour = COLOURS[dialog["caption"].split()[1]]
            picture = np.broadcast_to(np.array(colour, np.uint8), (40, 48, 3))
            Image.fromarray(np.ascontiguousarray(picture)).save(
                folder / "images" / f"VisualDialog_{split}2018_{dialog['image_id']:012d}.png"
            )
        first += count
    return folder


@pytest.fixture(scope="session")
def small_visdial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of 24 dialogs to learn from, 8 to choose on, 8 to judge on."""
    return write(tmp_path_factory.mktemp("visdial") / "data", {"train": 24, "val": 8, "test": 8})
