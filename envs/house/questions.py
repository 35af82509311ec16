"""`vlkit data house-vqa`: pictures from generated houses with questions of four choices, in Visual7W's file format.

    DIR/dataset.json                  images with their question-answer pairs, as Visual7W's telling task has them
    DIR/images/<split>/<name>.png     the pictures
    DIR/README.md, questions.json     that it is synthetic, how it was made, and what guessing reaches

val has houses of its own like those of train; in those of test some things have colours that train never shows.

Questions come in fours with the same choices, each of which is right in one of the four. So neither a choice by itself,
nor a choice beside the question's words, tells which is right: who does not look is left at chance. Among the choices are
things that the other pictures show elsewhere, wherever such can be had.
"""

import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlkit.envs.house.catalogue import KINDS
from vlkit.envs.house.furnish import random_house
from vlkit.envs.house.house import COLOURS
from vlkit.envs.house.views import Job, Seen, View, gap_m, in_houses, kinds_of, stands, views
from vlkit.errors import UserError
from vlkit.files import check_replaceable, replace_folder
from vlkit.progress import progress

FORMAT = "vlkit house questions"
VERSION = 2  # raise it when the same seed yields other files
MARKER = "questions.json"
CHOICES = 4
MOST_HOUSES = 9999  # four digits in a house's name
SIDE_SHARE = 0.05  # of the picture's width that must lie between the middles of what is left and what is right
BESIDE_M, FAR_M = 0.7, 1.6  # what is next to a thing is so near, what is not is so far
NEARER_M = 0.5  # by which the nearest thing is nearer than those that are not
LOOKED_AT = 40  # candidates among which the one is taken that makes a four hardest
NUMBERS = ("none", "one", "two", "three", "four")
PLURALS = {"bookshelf": "bookshelves", "bench": "benches"}
ROOM_THINGS = 2  # that must be seen of a room before one is asked what room it is

# What is asked of a picture, by kind of question: several wordings, for what {about} stands for. The first word is the type.
WORDINGS: dict[str, tuple[str, ...]] = {
    "colour": (
        "What colour is the {about}?",
        "What is the colour of the {about}?",
        "What colour does the {about} have?",
        "In what colour is the {about}?",
    ),
    "count": (
        "How many {about} are there?",
        "How many {about} can be seen?",
        "How many {about} does the picture show?",
        "How many {about} do you see?",
    ),
    "room": (
        "What room is this?",
        "What kind of room is this?",
        "In what room was this picture taken?",
        "What room is the camera in?",
    ),
    "left": (
        "What is to the left of the {about}?",
        "What is left of the {about}?",
        "What can be seen on the left of the {about}?",
    ),
    "right": (
        "What is to the right of the {about}?",
        "What is right of the {about}?",
        "What can be seen on the right of the {about}?",
    ),
    "on": ("What is on the {about}?", "What stands on the {about}?", "What is on top of the {about}?"),
    "where": ("Where is the {about}?", "Where does the {about} stand?", "Where can the {about} be found?"),
    "thing": ("What is {about}?", "What in the picture is {about}?", "What thing here is {about}?"),
    "nearest": (
        "What is nearest?",
        "What is nearest to the camera?",
        "What is the closest thing?",
        "What stands closest to the viewer?",
    ),
    "exists": ("Is there {a about}?", "Can you see {a about}?", "Does the picture show {a about}?"),
}
TYPES = {"count": "how", "where": "where", "exists": "is"}  # as Visual7W calls questions; all others are "what"
COUNTED = ("chair", "painting", "nightstand", "bookshelf", "armchair", "barrel", "crate")

README = """# Questions about generated houses

Made by `vlkit data house-vqa --seed {seed} --houses {houses}`. Houses, pictures and questions come from a random
generator, in Visual7W's file format; a score on them says nothing about Visual7W.

| split | houses | pictures | questions |
|---|---|---|---|
{rows}

What guessing reaches in the split test: chance {chance:.1%}; the choice that is right most often in train {answer:.1%};
the one that is right most often behind the same question {question:.1%}.
"""


@dataclass(frozen=True)
class Arguments:
    """Generate pictures from houses with questions of four choices, in Visual7W's file format."""

    out: Path
    """folder to write; it is made, or replaced if it holds nothing but such questions"""
    seed: int = 0
    """the same seed and numbers give the same files, byte for byte"""
    houses: int = 400
    """houses of train; val has an eighth of them, test a quarter, each houses of its own"""
    views: int = 24
    """pictures of a house, at most"""
    size: int = 128
    """pixels along a side of a picture"""
    questions: int = 6
    """about so many of a picture of val and test, spread over the kinds of questions"""
    train_questions: int = 18
    """about so many of a picture of train: most kinds have no more"""
    paraphrases: int = 2
    """wordings in which each question of val and test is asked"""
    processes: int | None = None
    """houses at once; one a core where it is not given"""

    def __post_init__(self) -> None:
        for name in ("houses", "views", "questions", "train_questions", "paraphrases"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)}, expected at least 1")
        fewest = min(map(len, WORDINGS.values()))
        if self.paraphrases > fewest:
            raise ValueError(f"paraphrases = {self.paraphrases}; there are {fewest} wordings of each question")
        if not 32 <= self.size <= 1024:
            raise ValueError(f"size = {self.size}, expected 32 to 1024 pixels")
        if sum(count for _, count in self.splits) > MOST_HOUSES:
            raise ValueError(f"houses = {self.houses}; at most {MOST_HOUSES} of all splits have a name")
        if self.processes is not None and self.processes < 1:
            raise ValueError(f"processes = {self.processes}, expected at least 1")

    @property
    def splits(self) -> tuple[tuple[str, int], ...]:
        """Each split with its number of houses."""
        return ("train", self.houses), ("val", max(self.houses // 8, 3)), ("test", max(self.houses // 4, 3))


@dataclass(frozen=True)
class Candidate:
    """A question that may be asked of a picture."""

    image: int  # its number in the split
    kind: str  # of WORDINGS
    about: str  # what its words are about; questions of one kind about one thing share their choices
    answer: str
    never: frozenset[str]  # what is right as well, or might be: no choice beside it
    tempting: frozenset[str]  # wrong, but in the picture


@dataclass(frozen=True)
class Question:
    """A question with its choices, the right one first."""

    image: int
    kind: str
    about: str
    answer: str
    others: tuple[str, ...]


@dataclass(frozen=True)
class Made:
    """What was generated."""

    splits: dict[str, dict[str, int]]
    kinds: dict[str, int]  # questions of train, by kind
    guessing: dict[str, float]  # what reaches how much of test without looking


def main(arguments: Sequence[str]) -> int:
    """`vlkit data house-vqa --out DIR [--seed S] [--houses N] ...`"""
    from rich.console import Console

    from vlkit.config import load

    chosen = load(Arguments, None, arguments, prog="vlkit data house-vqa")
    made = generate(chosen)
    console = Console(highlight=False, markup=False, soft_wrap=True)
    for split, row in made.splits.items():
        console.print(
            f"{split:6} {row['houses']:5} houses  {row['pictures']:6} pictures  {row['questions']:6} questions  (synthetic)"
        )
    console.print("train: " + ", ".join(f"{count} {kind}" for kind, count in made.kinds.items()))
    console.print("test, without looking: " + ", ".join(f"{name} {share:.1%}" for name, share in made.guessing.items()))
    console.print(f"written: {chosen.out}")
    return 0


def generate(arguments: Arguments) -> Made:
    """Writes pictures and questions. The folder appears whole or not at all; UserError where it holds anything else."""
    check_replaceable(arguments.out, ("dataset.json", "images", "README.md", MARKER), MARKER, "questions")
    with replace_folder(arguments.out) as folder:
        images: list[dict[str, Any]] = []
        splits: dict[str, dict[str, int]] = {}
        asked: dict[str, list[Question]] = {}
        number = 0
        with progress(sum(count for _, count in arguments.splits), unit="houses") as bar:
            for split, count in arguments.splits:
                names, candidates = list[str](), list[Candidate]()
                for made in in_houses(
                    drawn,
                    split,
                    count,
                    seed=arguments.seed,
                    views=arguments.views,
                    size=arguments.size,
                    folder=folder,
                    processes=arguments.processes,
                ):
                    candidates += [_moved(each, len(names)) for each in made.candidates]
                    names += made.names
                    number += 1
                    bar.update(number, made.house)
                rng = random.Random(f"questions {arguments.seed} {split}")
                each = arguments.train_questions if split == "train" else arguments.questions
                asked[split] = balanced(candidates, rng, most=each * len(names))
                wordings = 1 if split == "train" else arguments.paraphrases
                images += _written(names, split, asked[split], rng, wordings, first=len(images), qa=_last(images) + 1)
                splits[split] = {
                    "houses": count,
                    "pictures": len(names),
                    "questions": len(asked[split]) * wordings,
                }
        for split, questions in asked.items():
            if not questions:
                raise UserError(
                    f"{splits[split]['pictures']} pictures of {split} are too few for questions in fours with the same "
                    "choices; ask for more houses or more views"
                )
        document = {"dataset": "visual7w-telling", "synthetic": True, "images": images}
        (folder / "dataset.json").write_text(json.dumps(document, separators=(",", ":")) + "\n", encoding="utf-8")
        guessing = without_looking(asked["train"], asked["test"])
        rows = "\n".join(f"| {split} | {' | '.join(map(str, row.values()))} |" for split, row in splits.items())
        text = README.format(
            seed=arguments.seed,
            houses=arguments.houses,
            rows=rows,
            chance=guessing["chance"],
            answer=guessing["answer prior"],
            question=guessing["question prior"],
        )
        (folder / "README.md").write_text(text, encoding="utf-8")
        marker = {"format": FORMAT, "version": VERSION, "splits": splits, "guessing": guessing}
        (folder / MARKER).write_text(json.dumps(marker, indent=1) + "\n", encoding="utf-8")
    kinds = Counter(question.kind for question in asked["train"])
    return Made(splits, {kind: kinds[kind] for kind in WORDINGS}, guessing)


# Pictures, house by house


@dataclass(frozen=True)
class Drawn:
    """The pictures of a house, by name, and what may be asked of each, which counts them from 0."""

    house: str
    names: list[str]
    candidates: list[Candidate]


def drawn(job: Job) -> Drawn:
    """Takes a house's pictures, writes them, and lists what may be asked of them."""
    from PIL import Image

    house = random_house(job.name, job.level, job.seed, held_out=job.split == "test", split=f"questions {job.split}")
    job.folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(f"candidates {job.seed} {job.split} {job.name}")
    names, found = list[str](), list[Candidate]()
    for view in views(house, job.views, size=job.size, seed=job.seed, threads=1):
        name = f"{job.name}_{len(names):02d}.png"
        Image.fromarray(view.pixels).save(job.folder / name)
        found += candidates(view, len(names), rng)
        names.append(f"{job.split}/{name}")
    return Drawn(job.name, names, found)


def _moved(candidate: Candidate, by: int) -> Candidate:
    return Candidate(**{**candidate.__dict__, "image": candidate.image + by})


# What may be asked of a picture


def candidates(view: View, image: int, rng: random.Random) -> Iterator[Candidate]:
    """Every question that the picture answers beyond doubt."""
    for ask in (_colours, _counts, _rooms, _sides, _on, _where, _things, _nearest, _existing):
        for kind, about, answer, never, tempting in ask(view, rng):
            yield Candidate(image, kind, about, answer, frozenset(never) - {answer}, frozenset(tempting) - {answer})


Asked = tuple[str, str, str, Iterable[str], Iterable[str]]  # kind, about, answer, never, tempting


def _single(view: View) -> list[Seen]:
    """Things that are clear, and the only ones of their kind in the picture."""
    return [each for each in view.clear if len(view.of_kind(each.thing.kind)) == 1]


def _colours(view: View, rng: random.Random) -> Iterator[Asked]:
    colours = {each.thing.colour for each in view.clear}
    for each in _single(view):
        yield "colour", each.thing.kind, each.thing.colour, (), colours


def _counts(view: View, rng: random.Random) -> Iterator[Asked]:
    sets = {PLURALS.get(kind, f"{kind}s"): view.of_kind(kind) for kind in COUNTED}
    sets |= {
        f"{colour} things": [each for each in view.seen if each.thing.colour == colour]
        for colour in COLOURS
        if colour not in ("white", "gray", "brown")  # as walls and floors are
    }
    for about, members in sets.items():
        if len(members) < len(NUMBERS) and all(each.clear for each in members):
            yield "count", about, NUMBERS[len(members)], (), NUMBERS


def _rooms(view: View, rng: random.Random) -> Iterator[Asked]:
    own = [each for each in view.clear if each.thing.room == view.room.id]
    others = {view.house.rooms[each.thing.room].kind for each in view.seen if each.thing.room != view.room.id}
    if len(own) >= ROOM_THINGS and len(own) > len(view.clear) - len(own):
        yield "room", "", view.room.kind, (), others - {view.room.kind}


def _sides(view: View, rng: random.Random) -> Iterator[Asked]:
    for anchor in _single(view):
        for kind, sign in (("left", -1), ("right", 1)):
            beyond = [each for each in view.seen if sign * (each.middle - anchor.middle) > -SIDE_SHARE]
            beyond = [each for each in beyond if each.thing.id != anchor.thing.id]
            apart = [
                each
                for each in beyond
                if each.clear
                and sign * (each.middle - anchor.middle) > SIDE_SHARE
                and (each.right <= anchor.middle if sign < 0 else each.left >= anchor.middle)
                and each.thing.kind != anchor.thing.kind
            ]
            if apart:
                nearest = min(apart, key=lambda each: abs(each.middle - anchor.middle))
                never = kinds_of(beyond) | {anchor.thing.kind}
                yield kind, anchor.thing.kind, nearest.thing.kind, never, kinds_of(view.clear) - never


def _on(view: View, rng: random.Random) -> Iterator[Asked]:
    for support in _single(view):
        upon = [each for each in view.house.furniture if each.on == support.thing.id]
        shown = [each for each in view.clear if each.thing.on == support.thing.id]
        if len(shown) == 1:
            never = {each.kind for each in upon} | {support.thing.kind}
            yield "on", support.thing.kind, shown[0].thing.kind, never, kinds_of(view.clear) - never


def _where(view: View, rng: random.Random) -> Iterator[Asked]:
    single = _single(view)
    for each in single:
        thing = each.thing
        others = [other for other in view.seen if other.thing.id != thing.id and other.thing.kind != thing.kind]
        near = {f"next to the {other.thing.kind}" for other in others if gap_m(thing, other.thing) < FAR_M}
        tempting = {f"next to the {other.thing.kind}" for other in others if other.clear} - near
        if thing.on is not None:
            support = view.house.furniture[thing.on - 1]
            if any(other.thing.id == support.id and other.clear for other in others):
                on = {f"on the {other.thing.kind}" for other in others if other.clear and other.thing.id != support.id}
                yield "where", thing.kind, f"on the {support.kind}", near, tempting | on
        elif stands(thing):
            beside = [
                other
                for other in others
                if other.clear
                and stands(other.thing)
                and other.thing.room == thing.room
                and gap_m(thing, other.thing) < BESIDE_M
            ]
            if len(beside) == 1:
                yield "where", thing.kind, f"next to the {beside[0].thing.kind}", near, tempting


def _things(view: View, rng: random.Random) -> Iterator[Asked]:
    for colour in COLOURS:
        own = [each for each in view.seen if each.thing.colour == colour]
        clear = [each for each in own if each.clear]
        if len(clear) == 1:
            yield "thing", colour, clear[0].thing.kind, kinds_of(own), kinds_of(view.clear) - kinds_of(own)


def _nearest(view: View, rng: random.Random) -> Iterator[Asked]:
    first = min(view.seen, key=lambda each: each.distance_m)
    close = [each for each in view.seen if each.distance_m < first.distance_m + NEARER_M]
    if first.clear and kinds_of(close) == {first.thing.kind}:
        yield "nearest", "", first.thing.kind, (), kinds_of(view.clear)


def _existing(view: View, rng: random.Random) -> Iterator[Asked]:
    there = {f"no, but there is {article(kind)}" for kind in kinds_of(view.seen)}
    colours = {f"yes, {article(each.thing.colour)} one" for each in view.clear}
    for each in _single(view):
        yield "exists", each.thing.kind, f"yes, {article(each.thing.colour)} one", there, colours
    clear = sorted(kinds_of(view.clear))
    absent = sorted({kind for room in view.house.rooms for kind in _usual(room.kind)} - kinds_of(view.seen))
    for kind in rng.sample(absent, min(len(absent), 2 * len(clear))):
        yield "exists", kind, f"no, but there is {article(rng.choice(clear))}", there, colours


def _usual(room: str) -> list[str]:
    """Kinds of things that such rooms have."""
    return [kind.name for kind in KINDS.values() if room in kind.rooms]


def article(name: str) -> str:
    """The name with a or an before it."""
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


# Questions in fours


def balanced(every: Sequence[Candidate], rng: random.Random, most: int) -> list[Question]:
    """Questions in fours with the same choices, each right in one of them; about `most`, spread over the kinds."""
    by_kind: dict[str, dict[str, list[Candidate]]] = defaultdict(lambda: defaultdict(list))
    for each in every:
        by_kind[each.kind][each.about].append(each)
    fours: dict[str, list[list[Candidate]]] = {}
    for kind in WORDINGS:
        made = [four for about in sorted(by_kind[kind]) for four in _fours(by_kind[kind][about], rng)]
        rng.shuffle(made)
        fours[kind] = made
    shares = _shares({kind: len(each) for kind, each in fours.items()}, most // CHOICES)
    chosen = [four for kind, each in fours.items() for four in each[: shares[kind]]]
    questions = []
    for four in chosen:
        answers = [each.answer for each in four]
        for each in four:
            others = [answer for answer in answers if answer != each.answer]
            rng.shuffle(others)
            questions.append(Question(each.image, each.kind, each.about, each.answer, tuple(others)))
    return questions


def _shares(there: Mapping[str, int], most: int) -> dict[str, int]:
    """How many of each kind: as evenly as what there is allows."""
    shares = dict.fromkeys(there, 0)
    left = most
    open_kinds = [kind for kind in there if there[kind]]
    while open_kinds and left >= len(open_kinds):
        each = left // len(open_kinds)
        for kind in open_kinds:
            taken = min(each, there[kind] - shares[kind])
            shares[kind] += taken
            left -= taken
        open_kinds = [kind for kind in open_kinds if shares[kind] < there[kind]]
    return shares


def _fours(every: Sequence[Candidate], rng: random.Random) -> Iterator[list[Candidate]]:
    """Fours of candidates with different answers, none of which is right, or may be, for another's picture.

    Each candidate is used once. Of some that fit, the one is taken whose answer the others' pictures show elsewhere.
    """
    left: dict[str, list[Candidate]] = defaultdict(list)
    for each in every:
        left[each.answer].append(each)
    for answer in sorted(left):
        rng.shuffle(left[answer])
    while True:
        common = sorted((answer for answer in left if left[answer]), key=lambda each: (-len(left[each]), each))
        if len(common) < CHOICES:
            return
        four = [left[common[0]].pop()]
        while len(four) < CHOICES:
            # Answers with many candidates come often, or they would be left over in the end.
            weights = [len(left[answer]) for answer in common]
            if not common:
                break
            tried = [(each, rng.randrange(len(left[each]))) for each in rng.choices(common, weights, k=LOOKED_AT)]
            fitting = [(each, place) for each, place in tried if _fits(left[each][place], four)]
            if not fitting:
                break
            answer, place = max(fitting, key=lambda each: _hardness(left[each[0]][each[1]], four))
            four.append(left[answer].pop(place))
            common = [each for each in common if left[each]]
        if len(four) == CHOICES:
            yield four
        else:  # the others may still fit elsewhere
            for each in four[1:]:
                left[each.answer].append(each)


def _fits(candidate: Candidate, four: Sequence[Candidate]) -> bool:
    """Whether its answer is wrong for each of the others' pictures, and theirs for its own."""
    for beginning in ("yes,", "no,"):  # as many of one as of the other
        alike = sum(each.answer.startswith(beginning) for each in (candidate, *four))
        if alike > CHOICES // 2:
            return False
    return all(
        candidate.answer != each.answer and candidate.answer not in each.never and each.answer not in candidate.never
        for each in four
    )


def _hardness(candidate: Candidate, four: Sequence[Candidate]) -> int:
    return sum((candidate.answer in each.tempting) + (each.answer in candidate.tempting) for each in four)


def without_looking(train: Sequence[Question], test: Sequence[Question]) -> dict[str, float]:
    """What chance, the prior of a choice, and that of a choice behind the same question reach in test."""

    def reached(key: Any) -> float:
        right, shown = Counter[Any](), Counter[Any]()
        for question in train:
            right[key(question, question.answer)] += 1
            for choice in (question.answer, *question.others):
                shown[key(question, choice)] += 1
        score = 0.0
        for question in test:
            choices = (question.answer, *question.others)
            rates = [(right[key(question, each)] + 1) / (shown[key(question, each)] + CHOICES) for each in choices]
            best = max(rates)
            score += (rates[0] == best) / rates.count(best)  # guesses among equal ones
        return score / len(test)

    return {
        "chance": 1 / CHOICES,
        "answer prior": reached(lambda question, choice: choice),
        "question prior": reached(lambda question, choice: (question.kind, question.about, choice)),
    }


# Visual7W's file


def _written(
    names: Sequence[str],
    split: str,
    questions: Sequence[Question],
    rng: random.Random,
    wordings: int,
    first: int,
    qa: int,
) -> list[dict[str, Any]]:
    """The entries of a split's pictures. Of questions in several wordings each tells the first one's id as `same_as`."""
    pairs: list[list[dict[str, Any]]] = [[] for _ in names]
    for question in questions:
        first_id = qa
        for wording in rng.sample(WORDINGS[question.kind], wordings):
            about = question.about
            text = wording.replace("{a about}", article(about) if about else "").replace("{about}", about)
            pairs[question.image].append(
                {
                    "qa_id": qa,
                    "image_id": first + question.image,
                    "question": text,
                    "answer": question.answer,
                    "multiple_choices": list(question.others),
                    "type": TYPES.get(question.kind, "what"),
                    "kind": question.kind,
                    "same_as": first_id,
                }
            )
            qa += 1
    return [
        {"image_id": first + i, "filename": name, "split": split, "qa_pairs": pairs[i]} for i, name in enumerate(names)
    ]


def _last(images: Sequence[Mapping[str, Any]]) -> int:
    """The highest id of a question so far."""
    return max((pair["qa_id"] for image in images for pair in image["qa_pairs"]), default=0)
