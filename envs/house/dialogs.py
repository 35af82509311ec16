"""`vlkit data house-dialogs`: talks of ten rounds about pictures from generated houses, in VisDial v1.0's file format.

    DIR/visdial_1.0_<split>.json                     dialogs of train, val and test, as VisDial v1.0 has them
    DIR/visdial_1.0_<split>_dense_annotations.json   how right each of the 100 options is, in one round of each dialog
    DIR/images/<split>/<number>.png                  the pictures
    DIR/README.md, dialogs.json                      that it is synthetic, how it was made, what guessing reaches

val has houses of its own like those of train; in those of test some things have colours that train never shows.

Somebody who sees the caption asks somebody who sees the picture. Many questions mean something only behind what was said
before: "what color is it?", "and to the right?", "how many of them are blue?", "and the other one?". Each round of the file
has `needs_history`, which tells them apart, beside VisDial's own fields.
"""

import json
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vlkit.envs.house.furnish import random_house
from vlkit.envs.house.questions import BESIDE_M, FAR_M, MOST_HOUSES, NEARER_M, NUMBERS, PLURALS, SIDE_SHARE, article
from vlkit.envs.house.views import Job, Seen, View, gap_m, in_houses, kinds_of, stands, views
from vlkit.errors import UserError
from vlkit.files import check_replaceable, replace_folder
from vlkit.progress import progress

FORMAT = "vlkit house dialogs"
VERSION = 4  # raise it when the same seed yields other files
MARKER = "dialogs.json"
ROUNDS, OPTIONS = 10, 100
ALIKE, POPULAR = 50, 25  # options that answer questions of the same kind, and that are given most often
HISTORY_CHANCE = 0.65  # of a question that hangs on what was said, where there is one
PLAIN_CHANCE = 0.6  # of an answer in its plainest words; no model can know when it is one of the others
SINGLE_CHANCE = 0.25  # of asking how many there are of what there is one of
TOLD_THINGS = 2  # in a caption
ABSENT_CHANCE = 0.25  # of asking for what is not there, where all that is there is known

README = """# Dialogs about generated houses

Made by `vlkit data house-dialogs --seed {seed} --houses {houses}`. Houses, pictures and what is said come from a random
generator, in VisDial v1.0's file format; a score on them says nothing about VisDial.

| split | houses | dialogs | rounds that need history |
|---|---|---|---|
{rows}

Ranking the options of test by how often they are answers in train reaches MRR {prior:.3f}; by how often they are behind the
same question, {question_prior:.3f}. An answer is said in its plainest words in {plain:.0%} of the rounds and in one of its other
ways, which are options too, in the others: R@1 much above {plain:.0%} cannot be reached.
"""


@dataclass(frozen=True)
class Arguments:
    """Generate dialogs about pictures from houses, in VisDial v1.0's file format."""

    out: Path
    """folder to write; it is made, or replaced if it holds nothing but such dialogs"""
    seed: int = 0
    """the same seed and numbers give the same files, byte for byte"""
    houses: int = 900
    """houses of train; val has an eighth of them, test a quarter, each houses of its own"""
    views: int = 20
    """pictures of a house, at most, with a dialog each"""
    size: int = 128
    """pixels along a side of a picture"""
    processes: int | None = None
    """houses at once; one a core where it is not given"""

    def __post_init__(self) -> None:
        for name in ("houses", "views"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)}, expected at least 1")
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
class Turn:
    """A question with everything that answers it."""

    question: str
    answers: tuple[str, ...]  # ways to say the right answer, the plainest first
    kind: str  # of what is asked
    needs_history: bool
    partly: tuple[str, ...] = ()  # answers that are not wrong, but not what was asked for


@dataclass(frozen=True)
class Dialog:
    """What is said about a picture."""

    picture: str  # name of the file
    caption: str
    turns: tuple[Turn, ...]


@dataclass(frozen=True)
class Made:
    """What was generated."""

    splits: dict[str, dict[str, Any]]
    answers: int  # different ones
    prior: float  # MRR in test of how often an answer is given in train
    question_prior: float  # the same, behind the same question


def main(arguments: Sequence[str]) -> int:
    """`vlkit data house-dialogs --out DIR [--seed S] [--houses N] ...`"""
    from rich.console import Console

    from vlkit.config import load

    chosen = load(Arguments, None, arguments, prog="vlkit data house-dialogs")
    made = generate(chosen)
    console = Console(highlight=False, markup=False, soft_wrap=True)
    for split, row in made.splits.items():
        console.print(
            f"{split:6} {row['houses']:5} houses  {row['dialogs']:6} dialogs  {row['history']:.1%} of the rounds need history"
            "  (synthetic)"
        )
    console.print(
        f"{made.answers} different answers; ranked by how often they are given: MRR {made.prior:.3f}; behind the same question: "
        f"{made.question_prior:.3f}"
    )
    console.print(f"written: {chosen.out}")
    return 0


def generate(arguments: Arguments) -> Made:
    """Writes pictures and dialogs. The folder appears whole or not at all; UserError where it holds anything else."""
    names = [f"visdial_1.0_{split}{end}.json" for split, _ in arguments.splits for end in ("", "_dense_annotations")]
    check_replaceable(arguments.out, (*names, "images", "README.md", MARKER), MARKER, "dialogs")
    with replace_folder(arguments.out) as folder:
        splits: dict[str, dict[str, Any]] = {}
        said: dict[str, list[Dialog]] = {}
        number = 0
        with progress(sum(count for _, count in arguments.splits), unit="houses") as bar:
            for split, count in arguments.splits:
                said[split] = []
                for made in in_houses(
                    talked,
                    split,
                    count,
                    seed=arguments.seed,
                    views=arguments.views,
                    size=arguments.size,
                    folder=folder,
                    processes=arguments.processes,
                ):
                    said[split] += made
                    number += 1
                    bar.update(number, split)
        pool = Pool.of(said["train"])
        if len(pool.every) < OPTIONS:
            raise UserError(
                f"{len(said['train'])} dialogs have {len(pool.every)} different answers, and a round has {OPTIONS} options; ask "
                "for more houses or more views"
            )
        first = 1
        often = Often()
        prior = question_prior = 0.0
        for split, dialogs in said.items():
            rng = random.Random(f"options {arguments.seed} {split}")
            numbers = _renamed(folder, split, dialogs, first)
            first += len(dialogs)
            offered = [[options(turn, pool, rng) for turn in dialog.turns] for dialog in dialogs]
            _write(folder, split, dialogs, numbers, offered, rng)
            turns = [turn for dialog in dialogs for turn in dialog.turns]
            history = sum(turn.needs_history for turn in turns) / max(len(turns), 1)
            houses = dict(arguments.splits)[split]
            splits[split] = {"houses": houses, "dialogs": len(dialogs), "history": history}
            if split == "train":
                often = Often.of(dialogs, offered)
            if split == "test":
                prior = prior_mrr(dialogs, offered, often.always)
                question_prior = prior_mrr(dialogs, offered, often.behind)
        rows = "\n".join(
            f"| {split} | {row['houses']} | {row['dialogs']} | {row['history']:.1%} |" for split, row in splits.items()
        )
        text = README.format(
            seed=arguments.seed,
            houses=arguments.houses,
            rows=rows,
            prior=prior,
            question_prior=question_prior,
            plain=PLAIN_CHANCE,
        )
        (folder / "README.md").write_text(text, encoding="utf-8")
        marker = {
            "format": FORMAT,
            "version": VERSION,
            "splits": splits,
            "prior": prior,
            "question_prior": question_prior,
        }
        (folder / MARKER).write_text(json.dumps(marker, indent=1) + "\n", encoding="utf-8")
    return Made(splits, len(pool.every), prior, question_prior)


# Houses


def talked(job: Job) -> list[Dialog]:
    """Takes a house's pictures, writes them, and talks about each."""
    from PIL import Image

    house = random_house(job.name, job.level, job.seed, held_out=job.split == "test", split=f"dialogs {job.split}")
    job.folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(f"dialogs {job.seed} {job.split} {job.name}")
    found = []
    for i, view in enumerate(views(house, job.views, size=job.size, seed=job.seed, threads=1)):
        told, text = caption(view, rng)
        turns = Talk(view, rng, asked={f"exists {kind}" for kind in told}).turns()
        if len(turns) < ROUNDS:
            continue
        name = f"{job.name}_{i:02d}.png"
        Image.fromarray(view.pixels).save(job.folder / name)
        found.append(Dialog(name, text, tuple(turns)))
    return found


def caption(view: View, rng: random.Random) -> tuple[list[str], str]:
    """Two kinds of things that are there, and a text that names them and the place."""
    kinds = sorted(kinds_of(view.clear))
    told = rng.sample(kinds, min(TOLD_THINGS, len(kinds)))
    things, place = " and ".join(map(article, told)), article(view.room.kind)
    return told, rng.choice((f"{place} with {things}", f"a picture of {place}, {things} in it", f"{things} in {place}"))


# What is said


@dataclass
class Talk:
    """A talk as it goes: what was asked, and what "it" and "they" are by now."""

    view: View
    rng: random.Random
    it: Seen | None = None
    they: tuple[Seen, ...] = ()
    last: Turn | None = None
    beside: tuple[str, Seen] | None = None  # the side that was asked about last, and of what
    other: Seen | None = None  # of two things the one that was not asked about
    asked: set[str] = field(default_factory=set)  # what is known by now

    def turns(self) -> list[Turn]:
        """Ten rounds, or fewer where there is nothing more to ask."""
        said: list[Turn] = []
        for _ in range(ROUNDS):
            fresh, behind = list(self.fresh()), list(self.behind())
            moves = behind if behind and (not fresh or self.rng.random() < HISTORY_CHANCE) else fresh
            moves = [move for move in moves if move[0] not in self.asked]
            if not moves:
                moves = [move for move in fresh + behind if move[0] not in self.asked]
            if not moves:
                return said
            kinds = sorted({move[1].kind for move in moves})
            kind = self.rng.choice(kinds)  # first what is asked about, or what has many forms would come most often
            fact, turn, change = self.rng.choice([move for move in moves if move[1].kind == kind])
            self.asked.add(fact)
            self.it, self.they, self.beside, self.other = None, (), None, None
            for name, value in change.items():
                setattr(self, name, value)
            self.last = turn
            said.append(turn)
        return said

    def single(self) -> list[Seen]:
        """Things that are clear, and the only ones of their kind."""
        return [each for each in self.view.clear if len(self.view.of_kind(each.thing.kind)) == 1]

    def fresh(self) -> Iterator["Move"]:
        """Questions that mean the same whatever was said."""
        view = self.view
        for each in self.single():
            kind, colour = each.thing.kind, each.thing.colour
            yield f"colour {each.thing.id}", colour_turn(f"what color is the {kind}?", colour, False), {"it": each}
            yield f"exists {kind}", Turn(f"is there {article(kind)}?", YES, "exists", False), {"it": each}
        usual = sorted({kind for room in view.house.rooms for kind in _kinds_in(view, room.id)})
        absent = [kind for kind in usual if not view.of_kind(kind)]
        # As many as are there and not spoken of yet, or an answer would mostly be no.
        there = sum(f"exists {each.thing.kind}" not in self.asked for each in self.single())
        count = there or int(self.rng.random() < ABSENT_CHANCE)
        for kind in self.rng.sample(absent, min(len(absent), count)):
            yield f"exists {kind}", Turn(f"is there {article(kind)}?", NO, "exists", False), {}
        for kind in sorted(kinds_of(view.clear)):
            members = view.of_kind(kind)
            if len(members) == 1 and self.rng.random() > SINGLE_CHANCE:
                continue
            if len(members) < len(NUMBERS) and all(each.clear for each in members):
                plural = PLURALS.get(kind, f"{kind}s")
                change = {"it": members[0]} if len(members) == 1 else {"they": _from_left(members)}
                yield f"count {kind}", count_turn(f"how many {plural} are there?", len(members), False), change
        nearest = min(view.seen, key=lambda each: each.distance_m)
        close = [each for each in view.seen if each.distance_m < nearest.distance_m + NEARER_M]
        if nearest.clear and len(close) == 1:
            yield (
                "nearest",
                thing_turn("what is closest to the camera?", nearest, (), "nearest", False),
                {"it": nearest},
            )

    def behind(self) -> Iterator["Move"]:
        """Questions that mean something only behind what was said."""
        if self.it is not None:
            yield from self.about_it(self.it)
        if self.they:
            yield from self.about_them(self.they)
        if self.beside is not None:
            side, anchor = self.beside
            turned = "right" if side == "left" else "left"
            yield from self.sides(anchor, turned, f"and to the {turned}?")
        if self.other is not None:
            fact = f"colour {self.other.thing.id}"
            yield fact, colour_turn("and the other one?", self.other.thing.colour, True), {"it": self.other}
        if self.last is not None and self.last.kind == "colour":
            for each in self.single():
                if each is not self.it:
                    question = f"and the {each.thing.kind}?"
                    yield f"colour {each.thing.id}", colour_turn(question, each.thing.colour, True), {"it": each}

    def about_it(self, it: Seen) -> Iterator["Move"]:
        """Questions about the one thing that was spoken of last."""
        thing = it.thing
        yield f"colour {thing.id}", colour_turn("what color is it?", thing.colour, True), {"it": it}
        known = f"colour {thing.id}" in self.asked  # then nobody asks whether it is red
        guess = self.rng.choice([thing.colour, self.rng.choice(("red", "blue", "green", "black", "yellow", "orange"))])
        answers = YES if guess == thing.colour else NO
        if not known:
            yield f"is {guess} {thing.id}", Turn(f"is it {guess}?", answers, "is colour", True), {"it": it}
        for side in ("left", "right"):
            yield from self.sides(it, side, f"what is to the {side} of it?")
        upon = [each for each in self.view.clear if each.thing.on == thing.id]
        hidden = [each for each in self.view.house.furniture if each.on == thing.id]
        fact, what, any_at_all = f"on {thing.id}", "what is on it?", "is there anything on it?"
        if len(upon) == 1:
            yield fact, thing_turn(what, upon[0], (), "on", True), {"it": upon[0]}
        elif not hidden and thing.kind in SUPPORTS and f"any {fact}" not in self.asked:
            yield fact, Turn(what, NOTHING, "on", True), {"it": it}
        if thing.kind in SUPPORTS and fact not in self.asked and (upon or not hidden):
            yield f"any {fact}", Turn(any_at_all, YES if upon else NO, "on", True), {"it": it}
        yield from self.places(it)

    def places(self, it: Seen) -> Iterator["Move"]:
        """Where it is, if that can be said in one way alone."""
        thing, others = it.thing, [each for each in self.view.seen if each.thing.id != it.thing.id]
        near = [each for each in others if gap_m(thing, each.thing) < FAR_M and each.thing.kind != thing.kind]
        if thing.on is not None:
            support = self.view.house.furniture[thing.on - 1]
            if any(each.thing.id == support.id and each.clear for each in others):
                place = f"on the {support.kind}"
                turn = Turn("where is it?", (place, f"it is {place}", f"it stands {place}"), "where", True)
                yield f"where {thing.id}", turn, {"it": it}
        elif stands(thing):
            beside = [
                each for each in near if each.clear and stands(each.thing) and gap_m(thing, each.thing) < BESIDE_M
            ]
            if len(beside) == 1:
                kind = beside[0].thing.kind
                partly = tuple(f"next to the {each.thing.kind}" for each in near if each.thing.kind != kind)
                answers = (f"next to the {kind}", f"it is next to the {kind}", f"beside the {kind}")
                yield f"where {thing.id}", Turn("where is it?", answers, "where", True, partly), {"it": it}

    def sides(self, anchor: Seen, side: str, question: str) -> Iterator["Move"]:
        """What is to one side of a thing in the picture."""
        sign = -1 if side == "left" else 1
        every = [each for each in self.view.seen if each is not anchor]
        beyond = [each for each in every if sign * (each.middle - anchor.middle) > SIDE_SHARE]
        fact = f"{side} {anchor.thing.id}"
        if not beyond:
            middles = [sign * (each.middle - anchor.middle) for each in every]
            edges = [anchor.left - each.left if side == "left" else each.right - anchor.right for each in every]
            if all(each <= -SIDE_SHARE for each in middles) and all(each <= SIDE_SHARE for each in edges):
                yield fact, Turn(question, NOTHING, "side", True), {"it": anchor, "beside": (side, anchor)}
            return
        nearest = min(beyond, key=lambda each: abs(each.middle - anchor.middle))
        alone = sum(each.thing.kind == nearest.thing.kind for each in beyond) == 1
        if nearest.clear and alone and nearest.thing.kind != anchor.thing.kind:
            others = tuple(each for each in beyond if each is not nearest)
            yield fact, thing_turn(question, nearest, others, "side", True), {"it": nearest, "beside": (side, anchor)}

    def about_them(self, they: tuple[Seen, ...]) -> Iterator["Move"]:
        """Questions about the things that were counted last."""
        colours = [each.thing.colour for each in they]
        ids = " ".join(str(each.thing.id) for each in they)
        same = len(set(colours)) == 1
        question = "are they all the same color?" if len(they) > 2 else "are they the same color?"
        yield f"same {ids}", Turn(question, YES if same else NO, "same", True), {"they": they}
        if same:
            answers = (colours[0], f"they are {colours[0]}", f"all {colours[0]}")
            yield f"colours {ids}", Turn("what color are they?", answers, "colour", True), {"they": they}
        colour = self.rng.choice(colours)
        turn = count_turn(f"how many of them are {colour}?", colours.count(colour), True)
        yield f"count {colour} {ids}", turn, {"they": they}
        if len(they) == 2:
            for which, (own, other) in (("left", they), ("right", they[::-1])):
                turn = colour_turn(f"what color is the {which} one?", own.thing.colour, True)
                yield f"colour {own.thing.id}", turn, {"it": own, "other": other}


Move = tuple[str, Turn, dict[str, Any]]  # what will be known, what is said, and what "it" and "they" are then

YES = ("yes", "yes, there is", "yes it is", "yeah", "yes, i think so")
NO = ("no", "no, there is not", "no it is not", "nope", "not that i can see")
NOTHING = ("nothing", "no, nothing", "there is nothing", "nothing that i can see")
SUPPORTS = (
    "desk",
    "sideboard",
    "dining table",
    "coffee table",
    "nightstand",
    "console table",
    "kitchen counter",
    "tv stand",
)


def colour_turn(question: str, colour: str, needs_history: bool) -> Turn:
    """What colour something is."""
    return Turn(question, (colour, f"it is {colour}", f"it looks {colour}", f"a {colour} one"), "colour", needs_history)


def count_turn(question: str, count: int, needs_history: bool) -> Turn:
    """How many there are."""
    word = NUMBERS[count]
    be = "is" if count == 1 else "are"
    return Turn(question, (word, str(count), f"there {be} {word}", f"i see {word}"), "count", needs_history)


def thing_turn(question: str, thing: Seen, others: Iterable[Seen], kind: str, needs_history: bool) -> Turn:
    """Which thing it is; others that answer it a little."""
    name, colour = thing.thing.kind, thing.thing.colour
    answers = (article(name), f"the {name}", f"{article(colour)} {name}", f"there is {article(name)}")
    partly = tuple(dict.fromkeys(article(each.thing.kind) for each in others if each.thing.kind != name))
    return Turn(question, answers, kind, needs_history, partly)


def _from_left(members: Sequence[Seen]) -> tuple[Seen, ...]:
    return tuple(sorted(members, key=lambda each: each.middle))


def _kinds_in(view: View, room: int) -> list[str]:
    """Kinds of things that stand in a room of the house."""
    return [thing.kind for thing in view.house.furniture_of[room]]


# Options


@dataclass(frozen=True)
class Pool:
    """Every answer of train, and how often it is given behind each kind of question."""

    every: tuple[str, ...]
    counts: Mapping[str, Counter[str]]
    popular: tuple[str, ...]

    @staticmethod
    def of(dialogs: Iterable[Dialog]) -> "Pool":
        """Counts the answers of some dialogs, in all the ways to say them."""
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for dialog in dialogs:
            for turn in dialog.turns:
                counts[turn.kind][turn.answers[0]] += 1
                for other in turn.answers[1:]:
                    counts[turn.kind][other] += 0
        total = sum(counts.values(), Counter[str]())
        ranked = sorted(total, key=lambda answer: (-total[answer], answer))
        every = sorted({answer for each in counts.values() for answer in each})
        return Pool(tuple(every), dict(counts), tuple(ranked[:POPULAR]))


@dataclass(frozen=True)
class Offered:
    """The options of a round."""

    options: tuple[str, ...]
    right: int  # place of the answer that was given
    relevance: tuple[float, ...]  # how right each is: 1 for other ways to say it, 0.5 for what is not wrong


def options(turn: Turn, pool: Pool, rng: random.Random) -> Offered:
    """A hundred options: ways to say the answer, answers to like questions, answers that are common, and any others."""
    plain, *others = turn.answers
    said = plain if rng.random() < PLAIN_CHANCE or not others else rng.choice(others)
    chosen = dict.fromkeys((said, *turn.answers, *turn.partly[:5]))
    alike = sorted(pool.counts.get(turn.kind, ()))
    for some, most in ((alike, ALIKE), (pool.popular, POPULAR), (pool.every, OPTIONS)):
        for answer in rng.sample(some, min(len(some), 2 * OPTIONS)):
            if len(chosen) >= OPTIONS or most == 0:
                break
            if answer not in chosen:
                chosen[answer] = None
                most -= 1
    order = rng.sample(list(chosen), OPTIONS)
    right, partly = set(turn.answers), set(turn.partly)
    relevance = tuple(1.0 if each in right else 0.5 if each in partly else 0.0 for each in order)
    return Offered(tuple(order), order.index(said), relevance)


@dataclass(frozen=True)
class Often:
    """How often each answer is given, anywhere and behind each question."""

    anywhere: Counter[str] = field(default_factory=Counter)
    questions: Mapping[str, Counter[str]] = field(default_factory=dict)

    @staticmethod
    def of(dialogs: Sequence[Dialog], offered: Sequence[Sequence[Offered]]) -> "Often":
        """Counts what is said in some dialogs."""
        anywhere: Counter[str] = Counter()
        questions: dict[str, Counter[str]] = defaultdict(Counter)
        for dialog, rounds in zip(dialogs, offered, strict=True):
            for turn, each in zip(dialog.turns, rounds, strict=True):
                anywhere[each.options[each.right]] += 1
                questions[turn.question][each.options[each.right]] += 1
        return Often(anywhere, dict(questions))

    def always(self, turn: Turn) -> Counter[str]:
        """Anywhere, whatever the turn."""
        return self.anywhere

    def behind(self, turn: Turn) -> Counter[str]:
        """Behind a turn's question; anywhere, where nobody asked it."""
        return self.questions.get(turn.question, self.anywhere)


def prior_mrr(
    dialogs: Sequence[Dialog], offered: Sequence[Sequence[Offered]], often: Callable[[Turn], Counter[str]]
) -> float:
    """Mean reciprocal rank of options ranked by how often they are given; what is tied has its expected rank."""
    total, count = 0.0, 0
    for dialog, rounds in zip(dialogs, offered, strict=True):
        for turn, each in zip(dialog.turns, rounds, strict=True):
            counts = often(turn)
            own = counts[each.options[each.right]]
            above = sum(counts[other] > own for other in each.options)
            ties = sum(counts[other] == own for other in each.options)
            total += 1 / (above + (ties + 1) / 2)
            count += 1
    return total / max(count, 1)


# VisDial's files


def _renamed(folder: Path, split: str, dialogs: Sequence[Dialog], first: int) -> list[int]:
    """Gives each dialog's picture the number that VisDial's files name it by."""
    numbers = []
    for number, dialog in enumerate(dialogs, start=first):
        place = folder / "images" / split
        (place / dialog.picture).rename(place / f"{number:012d}.png")
        numbers.append(number)
    return numbers


def _write(
    folder: Path,
    split: str,
    dialogs: Sequence[Dialog],
    numbers: Sequence[int],
    offered: Sequence[Sequence[Offered]],
    rng: random.Random,
) -> None:
    """Writes a split's dialogs, and how right the options of one of each one's rounds are."""
    questions: dict[str, int] = {}
    answers: dict[str, int] = {}
    entries, dense = [], []
    for dialog, number, rounds in zip(dialogs, numbers, offered, strict=True):
        turns = []
        for turn, each in zip(dialog.turns, rounds, strict=True):
            places = [answers.setdefault(answer, len(answers)) for answer in each.options]
            turns.append(
                {
                    "question": questions.setdefault(turn.question.removesuffix("?"), len(questions)),
                    "answer": places[each.right],
                    "gt_index": each.right,
                    "answer_options": places,
                    "needs_history": turn.needs_history,
                    "kind": turn.kind,
                }
            )
        entries.append({"image_id": number, "caption": dialog.caption, "dialog": turns})
        round_id = rng.randint(1, ROUNDS)
        key = "relevance" if split == "train" else "gt_relevance"
        dense.append({"image_id": number, "round_id": round_id, key: list(rounds[round_id - 1].relevance)})
    data = {"questions": list(questions), "answers": list(answers), "dialogs": entries}
    document = {"version": "1.0", "split": split, "synthetic": True, "data": data}
    name = f"visdial_1.0_{split}"
    (folder / f"{name}.json").write_text(json.dumps(document, separators=(",", ":")) + "\n", encoding="utf-8")
    (folder / f"{name}_dense_annotations.json").write_text(
        json.dumps(dense, separators=(",", ":")) + "\n", encoding="utf-8"
    )
