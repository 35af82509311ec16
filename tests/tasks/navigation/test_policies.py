"""Policies: steps one by one and whole walks give the same, padding changes nothing, and two walks are learned apart."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from vlkit.encoders.image import image_encoder
from vlkit.encoders.text import text_encoder
from vlkit.tasks.navigation.learning import imitation_loss, pointing_loss, progress_loss, semantics_loss
from vlkit.tasks.navigation.model import (
    ACTIONS,
    START,
    CrossModal,
    DepthCNN,
    FrameEncoder,
    NavigationPolicy,
    Outcome,
    Seq2Seq,
    Walks,
    depth_bytes,
)

SIZE, WORDS, CATEGORIES = 16, 20, 5


def policy(kind: str = "cma", *, rgb: bool = True, depth: bool = True) -> NavigationPolicy:
    torch.manual_seed(0)
    text = text_encoder("bilstm", WORDS, word_dim=8, dim=16)
    image = image_encoder("nature_cnn", dim=8) if rgb else None
    frames = FrameEncoder(image, DepthCNN(8) if depth else None, size=SIZE, dim=16)
    walker: Seq2Seq | CrossModal = (
        Seq2Seq(frames, 16, dim=16, action_dim=4)
        if kind == "seq2seq"
        else CrossModal(frames, 16, dim=16, action_dim=4, heads=2)
    )
    return NavigationPolicy(text, frames, walker, categories=CATEGORIES)


def walks(steps: tuple[int, ...] = (4, 2, 3)) -> Walks:
    generator = torch.Generator().manual_seed(1)
    count, longest, frames = len(steps), max(steps), sum(steps)

    def drawn(high: int, *shape: int) -> Tensor:
        return torch.randint(high, shape, generator=generator)

    acting = torch.arange(longest) < torch.tensor(steps)[:, None]
    last = drawn(ACTIONS, count, longest)
    last[:, 0] = START
    return Walks(
        words=drawn(WORDS - 2, count, 6) + 2,
        mask=torch.arange(6) < torch.tensor([6, 4, 5][:count])[:, None],
        rgb=drawn(256, frames, SIZE, SIZE, 3).to(torch.uint8),
        depth=drawn(256, frames, SIZE, SIZE, 1).to(torch.uint8),
        last_action=last,
        acting=acting,
        expert=drawn(ACTIONS, count, longest),
        weight=torch.ones(count, longest),
        progress=torch.rand(count, longest, generator=generator),
        categories=drawn(CATEGORIES, frames, 2, 2).to(torch.uint8),
        goal=torch.randn(frames, 3, generator=generator) * 3,
    )


@pytest.mark.parametrize("kind", ["cma", "seq2seq"])
def test_steps_one_by_one_give_what_whole_walks_give(kind: str) -> None:
    agent, recorded = policy(kind).eval(), walks()
    with torch.no_grad():
        whole = agent.over(recorded)
        memory = agent.start(recorded.words, recorded.mask)
        first = torch.tensor([0, 4, 6])
        for step in range(2):  # as many as the shortest walk has
            last = recorded.last_action[:, step]
            seen = {
                "rgb": recorded.rgb[first + step],
                "depth": recorded.depth[first + step].float() * 0.04,
                "last_action": torch.where(last == START, -1, last),
            }
            logits, value, memory = agent(seen, memory)
            torch.testing.assert_close(logits, whole.logits[:, step])
            torch.testing.assert_close(value, whole.value[:, step])
            torch.testing.assert_close(memory.progress, whole.progress[:, step].sigmoid())


@pytest.mark.parametrize("kind", ["cma", "seq2seq"])
def test_a_walk_alone_is_read_as_among_longer_ones(kind: str) -> None:
    agent, recorded = policy(kind).eval(), walks()
    alone = replace(
        recorded,
        words=recorded.words[1:2, :4],
        mask=recorded.mask[1:2, :4],
        rgb=recorded.rgb[4:6],
        depth=recorded.depth[4:6],
        categories=recorded.categories[4:6],
        **{
            name: getattr(recorded, name)[1:2, :2] for name in ("last_action", "acting", "expert", "weight", "progress")
        },
    )
    with torch.no_grad():
        torch.testing.assert_close(agent.over(alone).logits, agent.over(recorded).logits[1:2, :2])


@pytest.mark.parametrize("kind", ["cma", "seq2seq"])
def test_padding_to_sizes_that_come_again_changes_no_loss(kind: str) -> None:
    agent, recorded = policy(kind).eval(), walks()
    recorded = replace(recorded, goal=torch.tensor([[2.0, 0.3, 0.2]]).repeat(9, 1), depth=recorded.depth.clamp(min=100))
    padded = recorded.rounded()
    assert padded.mask.shape == (3, 8)
    assert padded.acting.shape == (3, 8)
    assert len(padded.rgb) == len(padded.depth) == len(padded.categories) == len(padded.goal) == 64
    outcome, longer = agent.over(recorded), agent.over(padded)
    torch.testing.assert_close(longer.logits[padded.acting], outcome.logits[recorded.acting])
    torch.testing.assert_close(imitation_loss(longer, padded), imitation_loss(outcome, recorded))
    torch.testing.assert_close(progress_loss(longer, padded), progress_loss(outcome, recorded))
    every = torch.ones(256)
    torch.manual_seed(1)
    named = semantics_loss(agent, outcome, recorded, every)
    torch.manual_seed(1)
    torch.testing.assert_close(semantics_loss(agent, longer, padded, every), named)
    if kind == "cma":
        assert longer.looked is not None
        torch.testing.assert_close(longer.looked[:9], outcome.looked)
        torch.testing.assert_close(pointing_loss(longer, padded), pointing_loss(outcome, recorded))


def test_attention_over_words_sums_to_one_and_leaves_padding_out() -> None:
    agent, recorded = policy().eval(), walks()
    memory = agent.start(recorded.words, recorded.mask)
    seen = {"rgb": recorded.rgb[:3], "depth": recorded.depth[:3].float() * 0.04, "last_action": torch.tensor([-1] * 3)}
    _, _, memory = agent(seen, memory)
    torch.testing.assert_close(memory.attention.sum(1), torch.ones(3))
    torch.testing.assert_close(memory.patches.sum(1), torch.ones(3))
    assert not memory.attention[~recorded.mask].any()


def test_memory_begins_anew_in_some_environments_alone() -> None:
    agent, recorded = policy().eval(), walks()
    memory = agent.start(recorded.words, recorded.mask)
    seen = {"rgb": recorded.rgb[:3], "depth": recorded.depth[:3].float() * 0.04, "last_action": torch.tensor([-1] * 3)}
    logits, _, memory = agent(seen, memory)
    again, _, _ = agent(seen, memory)
    assert not torch.equal(logits, again), "the memory has changed nothing"
    anew = torch.tensor([False, True, False])
    mixed, _, _ = agent(seen, memory.renewed(anew, agent.start(recorded.words, recorded.mask)))
    torch.testing.assert_close(mixed, torch.where(anew[:, None], logits, again))


@pytest.mark.parametrize("kind", ["cma", "seq2seq"])
def test_two_walks_that_look_alike_are_learned_apart_by_their_words(kind: str) -> None:
    agent, recorded = policy(kind), walks((3, 3))
    same = recorded.rgb[:3].repeat(2, 1, 1, 1)
    recorded = replace(recorded, rgb=same, depth=recorded.depth[:3].repeat(2, 1, 1, 1))
    recorded = replace(recorded, last_action=recorded.last_action[:1].repeat(2, 1))
    recorded = replace(recorded, expert=torch.tensor([[2, 1, 0], [3, 1, 1]]))
    optimizer = torch.optim.Adam(agent.parameters(), 0.01)
    for _ in range(120):
        optimizer.zero_grad()
        imitation_loss(agent.over(recorded), recorded).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert agent.over(recorded).logits.argmax(dim=2).tolist() == recorded.expert.tolist()


def test_every_part_of_the_policy_learns() -> None:
    agent, recorded = policy(), walks()
    outcome = agent.over(recorded)
    loss = imitation_loss(outcome, recorded) + progress_loss(outcome, recorded)
    total = loss + semantics_loss(agent, outcome, recorded, torch.ones(256)) + outcome.value.sum()
    total = total + pointing_loss(outcome, recorded)
    total.backward()  # type: ignore[no-untyped-call]
    still = [name for name, parameter in agent.named_parameters() if parameter.grad is None]
    assert not still


@pytest.mark.parametrize(
    ("goal", "patch"),
    [
        ((2.5, 0.0, 0.0), (6, 4)),  # straight ahead on the floor: the camera is 1.25 m above it
        ((2.5, 1.25, 0.0), (6, 2)),  # to the left
        ((2.5, -1.25, 0.0), (6, 6)),
        ((0.8, 0.0, 0.0), (7, 4)),  # at one's feet, below what the frame shows
        ((5.0, 0.0, 0.0), (5, 4)),
    ],
)
def test_attention_is_drawn_to_where_the_goal_is_seen(goal: tuple[float, float, float], patch: tuple[int, int]) -> None:
    recorded = replace(pointed_at(goal), depth=torch.full((1, 64, 64, 1), 255, dtype=torch.uint8))
    costs = [float(pointing_loss(outcome_looking_at(row, column), recorded)) for row in range(8) for column in range(8)]
    there = [i for i, cost in enumerate(costs) if cost < 0.01]
    around = [(row, column) for row in range(8) for column in range(8) if beside(row, column, patch)]
    assert [divmod(i, 8) for i in there] == around
    assert min(cost for i, cost in enumerate(costs) if i not in there) > 5


@pytest.mark.parametrize(
    ("goal", "depth_m"),
    [((-1.0, 0.0, 0.0), 10.0), ((2.0, 2.5, 0.0), 10.0), ((3.0, 0.0, 0.0), 1.5), ((3.0, 0.0, 2.6), 10.0)],
    ids=["behind", "beside the frame", "behind a wall", "upstairs"],
)
def test_what_is_not_in_sight_is_not_looked_for(goal: tuple[float, float, float], depth_m: float) -> None:
    depth = depth_bytes(torch.full((1, 64, 64, 1), depth_m))
    assert float(pointing_loss(outcome_looking_at(0, 0), replace(pointed_at(goal), depth=depth))) == 0


def pointed_at(goal: tuple[float, float, float]) -> Walks:
    return replace(walks((1,)), goal=torch.tensor([goal]))


def outcome_looking_at(row: int, column: int) -> Outcome:
    looked = torch.zeros(1, 64)
    looked[0, 8 * row + column] = 1.0
    nothing = torch.zeros(1, 1)
    return Outcome(nothing, nothing, nothing, looked=looked, frames=nothing, shape=(8, 8))


def beside(row: int, column: int, patch: tuple[int, int]) -> bool:
    return abs(row - patch[0]) <= 1 and abs(column - patch[1]) <= 1


@pytest.mark.parametrize(("rgb", "depth"), [(True, False), (False, True)])
def test_an_agent_may_lack_colour_or_depth(rgb: bool, depth: bool) -> None:
    agent, recorded = policy(rgb=rgb, depth=depth).eval(), walks()
    other = replace(recorded, **({"depth": 255 - recorded.depth} if rgb else {"rgb": 255 - recorded.rgb}))
    with torch.no_grad():
        torch.testing.assert_close(agent.over(other).logits, agent.over(recorded).logits)
        blind = replace(recorded, rgb=torch.zeros_like(recorded.rgb), depth=torch.zeros_like(recorded.depth))
        assert not torch.allclose(agent.over(blind).logits, agent.over(recorded).logits)


def test_depth_is_kept_in_steps_of_four_centimetres() -> None:
    metres = torch.tensor([0.0, 0.04, 1.0, 10.2, 50.0])
    assert depth_bytes(metres).tolist() == [0, 1, 25, 255, 255]
    assert metres[4] == 50.0, "the observation itself was changed"


def test_any_image_encoder_of_the_core_drops_in() -> None:
    for image in (image_encoder("small_cnn", dim=8), image_encoder("resnet18")):
        frames = FrameEncoder(image, DepthCNN(8), size=32, dim=16)
        seen = frames(torch.zeros(2, 32, 32, 3, dtype=torch.uint8), torch.zeros(2, 32, 32, 1, dtype=torch.uint8))
        assert seen.summary.shape == (2, 16)
        assert seen.grid.shape[:2] == (2, seen.shape[0] * seen.shape[1])
