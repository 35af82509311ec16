"""Rollouts, decoding and the agents that need no training."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from vlkit.envs.graph import FORWARD, RIGHT, STOP, R2RVectorEnv, World
from vlkit.errors import UserError
from vlkit.tasks.r2r.agents import (
    FIXED_AGENTS,
    ActionPrior,
    FixedAgent,
    Rollout,
    Walk,
    action_prior,
    drawn,
    fitted,
    fixed_agent,
    fixed_walks,
    greedy,
    policy_walks,
    random_action,
    rollout,
    sampled,
    scored,
    streams,
    teacher,
)
from vlkit.tasks.r2r.data import read_splits
from vlkit.tasks.r2r.judge import judge
from vlkit.tasks.r2r.submission import Trajectory
from vlkit.text import Tokenizer

NewAgent = Callable[..., Any]
PathOf = Callable[..., str]


def environment(world: World, envs: int, **options: Any) -> R2RVectorEnv:
    return R2RVectorEnv(envs, world=world, measure=False, autoreset="Disabled", **options)


def same(one: Rollout, other: Rollout) -> None:
    for field in fields(Rollout):
        torch.testing.assert_close(getattr(one, field.name), getattr(other, field.name), msg=field.name)


# Rollouts.


def test_walking_twice_is_two_walks(worlds: dict[str, World], new_agent: NewAgent) -> None:
    world, agent, episodes = worlds["train"], new_agent(), torch.tensor([0, 3, 7])
    once = rollout(agent, environment(world, 3), episodes, teacher)
    twice = rollout(agent, environment(world, 6), episodes, teacher, repeat=2)
    halves = []
    for rows in (slice(0, 3), slice(3, 6)):
        parts = {field.name: getattr(twice, field.name) for field in fields(Rollout)}
        halves.append(Rollout(**{k: v[rows] if k == "final_value" else v[:, rows] for k, v in parts.items()}))
    same(halves[0], once)
    same(halves[1], once)


def test_a_rollout_keeps_its_books(worlds: dict[str, World], new_agent: NewAgent) -> None:
    world, episodes = worlds["train"], torch.tensor([0, 9])  # h0 h1 h2 h6 and f0 f3: three hops and one, then a stop
    walks = rollout(new_agent(), environment(world, 2), episodes, teacher)
    assert walks.acting.tolist() == [[True, True], [True, True], [True, False], [True, False]]
    assert walks.steps == 6
    assert torch.equal(walks.actions[walks.acting], walks.oracle[walks.acting])
    assert walks.actions[:, 1].tolist()[1:] == [STOP, STOP, STOP]
    expected = torch.tensor([[6.0, 3.0], [4.0, 0.0], [2.0, 0.0], [0.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(walks.distance, expected)
    assert walks.final_value.tolist() == [0.0, 0.0]
    torch.testing.assert_close(walks.log_probs.exp().sum(dim=2)[walks.acting], torch.ones(6))


def test_a_walk_that_has_ended_does_nothing_more(worlds: dict[str, World], new_agent: NewAgent) -> None:
    def choice(logits: Tensor, oracle: Tensor) -> Tensor:
        calls.append(len(logits))
        return torch.tensor([STOP if len(calls) == 1 else 1, 1])

    calls: list[int] = []
    walks = rollout(new_agent(), environment(worlds["train"], 2, max_steps=3), torch.tensor([0, 9]), choice)
    assert walks.actions.tolist() == [[STOP, 1], [STOP, 1], [STOP, 1]]
    assert walks.acting.tolist() == [[True, True], [False, True], [False, True]]
    assert walks.final_value[0] == 0
    assert walks.final_value[1] != 0


def test_a_walk_that_is_cut_goes_on_in_the_critics_mind(worlds: dict[str, World], new_agent: NewAgent) -> None:
    world, agent, episodes = worlds["train"], new_agent(), torch.tensor([0, 9])
    cut = rollout(agent, environment(world, 2, max_steps=2), episodes, teacher)
    whole = rollout(agent, environment(world, 2), episodes, teacher)
    assert cut.acting.tolist() == [[True, True], [True, True]]
    torch.testing.assert_close(cut.final_value, torch.stack([whole.values[2, 0], torch.zeros(())]))
    assert not cut.final_value.requires_grad
    assert cut.distance[2].tolist() == [2.0, 0.0]


@pytest.mark.parametrize("max_steps", [5, 15])
def test_a_walk_does_not_depend_on_its_batch(max_steps: int, worlds: dict[str, World], new_agent: NewAgent) -> None:
    # Of two to six steps, the longest in the middle: those that have ended are left out, twice.
    world, agent, order = worlds["train"], new_agent(), [9, 8, 4, 0, 3, 2, 1, 5, 6, 7]
    together = rollout(agent, environment(world, 10, max_steps=max_steps), torch.tensor(order), teacher)
    for place, episode in enumerate(order):
        alone = rollout(agent, environment(world, 1, max_steps=max_steps), torch.tensor([episode]), teacher)
        steps = len(alone.acting)
        assert together.acting[:steps, place].all()
        assert not together.acting[steps:, place].any()
        for name in ("actions", "log_probs", "values", "progress"):
            torch.testing.assert_close(getattr(together, name)[:steps, place], getattr(alone, name)[:, 0])
        torch.testing.assert_close(together.final_value[place], alone.final_value[0])
        assert (alone.final_value[0] != 0) == (max_steps == 5 and len(world.episodes.episodes[episode].path) == 6)


def test_what_chooses_an_action() -> None:
    logits = torch.tensor([[0.0, 2.0, -torch.inf], [3.0, 0.0, 1.0]])
    oracle = torch.tensor([0, 2])
    assert teacher(logits, oracle).tolist() == [0, 2]
    assert greedy(logits, oracle).tolist() == [1, 0]
    torch.manual_seed(0)
    counts = torch.zeros(2, 3)
    for _ in range(600):
        counts[torch.arange(2), sampled(logits, oracle)] += 1
    torch.testing.assert_close(counts / 600, logits.softmax(dim=1), atol=0.06, rtol=0)
    assert counts[0, 2] == 0


def test_instructions_are_cut_to_the_longest_of_the_batch(worlds: dict[str, World]) -> None:
    env = environment(worlds["train"], 2)
    observation, _ = env.reset(options={"episodes": [6, 5]})
    cut = fitted(observation)
    longest = int(worlds["train"].episodes.word_counts[[6, 5]].max())
    assert cut["instruction"].shape == cut["instruction_mask"].shape == (2, longest)
    assert longest < observation["instruction"].shape[1]
    assert cut["heading"] is observation["heading"]


def test_an_environment_that_resets_by_itself_is_refused(worlds: dict[str, World], new_agent: NewAgent) -> None:
    env = R2RVectorEnv(1, world=worlds["train"])
    with pytest.raises(ValueError, match="autoreset is NextStep; a rollout ends, so make it Disabled"):
        rollout(new_agent(), env, torch.tensor([0]), teacher)


# Decoding.


@pytest.mark.parametrize("kind", ["panoramic", "seq2seq"])
@pytest.mark.parametrize("decoding", ["greedy", "sample", "beam"])
def test_walks_do_not_depend_on_the_batch_size(
    kind: str, decoding: str, worlds: dict[str, World], new_agent: NewAgent
) -> None:
    agent = new_agent(kind)
    options: dict[str, Any] = {"decoding": decoding, "beam_width": 3, "max_steps": 6, "attention": True}
    options["action_space"] = "panoramic" if kind == "panoramic" else "egocentric"
    many = policy_walks(agent, worlds["train"], **options)
    few = policy_walks(agent, worlds["train"], batch_size=3, **options)
    reordered = worlds["train"].with_episodes(worlds["train"].episodes.episodes[::-1])
    back = policy_walks(agent, reordered, **options)[::-1]
    assert [walk.episode for walk in many] == list(worlds["train"].episodes.episodes)
    for one, other in itertools.chain(zip(many, few, strict=True), zip(many, back, strict=True)):
        assert replace(one, attention=None) == replace(other, attention=None)
        assert one.attention is not None
        assert other.attention is not None
        np.testing.assert_allclose(one.attention, other.attention, atol=1e-6)


def test_sampling_depends_on_the_seed(worlds: dict[str, World], new_agent: NewAgent) -> None:
    walks = [
        policy_walks(new_agent(), worlds["train"], action_space="panoramic", decoding="sample", seed=seed)
        for seed in (0, 0, 1)
    ]
    actions = [[walk.actions for walk in each] for each in walks]
    assert actions[0] == actions[1] != actions[2]


def test_samples_are_drawn_with_the_numbers_of_the_episode(worlds: dict[str, World], new_agent: NewAgent) -> None:
    world, agent = worlds["train"], new_agent()
    walks = policy_walks(agent, world, action_space="panoramic", decoding="sample", seed=2, max_steps=6)
    for i, walk in enumerate(walks):
        env, draws = environment(world, 1, max_steps=6), streams(2, [walk.episode.id], 6)[0]
        observation, _ = env.reset(options={"episodes": [i]})
        with torch.inference_mode():
            memory = agent.start(observation)
            for action, draw in zip(walk.actions, draws, strict=False):
                logits, _, memory = agent(observation, memory)
                below = logits.softmax(dim=1)[0].double().cumsum(dim=0)
                assert (0 if action == 0 else below[action - 1]) <= draw + 1e-6
                assert draw <= below[action] + 1e-6
                observation, *_ = env.step([action])
        assert bool(env.ended.all())


def test_attention_is_over_the_words_of_each_step(worlds: dict[str, World], new_agent: NewAgent) -> None:
    world = worlds["train"]
    for walk, words in zip(
        policy_walks(new_agent(), world, action_space="panoramic", attention=True),
        world.episodes.word_counts.tolist(),
        strict=True,
    ):
        assert walk.attention is not None
        assert walk.attention.shape == (len(walk.actions), words)
        assert len(walk.trajectory) == 1 + sum(action != STOP for action in walk.actions)
        np.testing.assert_allclose(walk.attention.sum(axis=1), 1, atol=1e-5)
    plain = policy_walks(new_agent(), world, action_space="panoramic")
    assert all(walk.attention is None for walk in plain)


@pytest.mark.parametrize("kind", ["panoramic", "seq2seq"])
def test_a_beam_of_one_is_greedy(kind: str, worlds: dict[str, World], new_agent: NewAgent) -> None:
    space: Any = "panoramic" if kind == "panoramic" else "egocentric"
    for seed in range(3):
        agent = new_agent(kind, seed)
        one = policy_walks(agent, worlds["train"], action_space=space, decoding="beam", beam_width=1)
        assert one == policy_walks(agent, worlds["train"], action_space=space)


@dataclass(frozen=True)
class Whim:
    """What `Whimsical` remembers: all that it did, as one number."""

    past: Tensor  # (envs,) int64
    attention: Tensor  # (envs, words)

    def select(self, rows: Tensor) -> "Whim":
        return Whim(self.past[rows], self.attention[rows])


class Whimsical:
    """A policy whose opinions depend on all it did, so that the likeliest walk may not begin with the likeliest step."""

    def __init__(self, seed: int) -> None:
        self.table = torch.randn(997, 20, generator=torch.Generator().manual_seed(seed))
        self.table[:, STOP] -= 1.0

    def start(self, observation: Any) -> Whim:
        return Whim(torch.zeros_like(observation["steps"]), torch.zeros(observation["instruction_mask"].shape))

    def __call__(self, observation: Any, memory: Whim) -> tuple[Tensor, Tensor, Whim]:
        past = (memory.past * 7 + observation["last_action"] + 2) % 997
        mask = observation["action_mask"]
        logits = self.table[past, : mask.shape[1]].masked_fill(~mask, -torch.inf)
        words = memory.attention.shape[1]
        return logits, logits[:, 0], Whim(past, torch.nn.functional.one_hot(past % words, words).float())


def replayed(
    agent: Any, env: R2RVectorEnv, episode: int, actions: Sequence[int]
) -> tuple[float, Tensor, bool, list[Tensor]]:
    """A walk's log-probability; what can be done behind it, and whether it has ended there; where it looked."""
    observation, _ = env.reset(options={"episodes": [episode]})
    total, looks = 0.0, []
    with torch.inference_mode():
        memory = agent.start(observation)
        for action in actions:
            logits, _, memory = agent(observation, memory)
            total += float(logits.log_softmax(dim=1)[0, action])
            looks.append(memory.attention[0])
            observation, *_ = env.step([action])
    return total, observation["action_mask"][0].nonzero()[:, 0], bool(env.ended[0]), looks


def every_walk(agent: Any, env: R2RVectorEnv, episode: int) -> dict[tuple[int, ...], float]:
    """All sequences of actions that end a walk, with their log-probabilities."""
    ended, begun = {}, [()]
    while begun:
        actions: tuple[int, ...] = begun.pop()
        total, available, over, _ = replayed(agent, env, episode, actions)
        if over:
            ended[actions] = total
        else:
            begun += [(*actions, action) for action in available.tolist()]
    return ended


def crossing(world: World) -> World:
    """Two episodes that start where three ways meet, and two."""
    first, second = world.episodes.episodes[0], world.episodes.episodes[7]
    return world.with_episodes([replace(first, path=("h2", "h3")), replace(second, path=("f0", "f1"))])


def test_a_wide_beam_finds_the_likeliest_of_all_walks(worlds: dict[str, World]) -> None:
    world = crossing(worlds["train"])
    env, better = environment(world, 1, max_steps=4), 0
    options: dict[str, Any] = {"action_space": "panoramic", "max_steps": 4}
    for seed in range(5):
        agent = Whimsical(seed)
        # As wide as there are walks, and far wider: what is left over leads nowhere.
        wide = policy_walks(agent, world, decoding="beam", beam_width=90, **options)
        wider = policy_walks(agent, world, decoding="beam", beam_width=200, **options)
        straight = policy_walks(agent, world, **options)
        for i in range(2):
            every = every_walk(agent, env, i)
            assert 20 < len(every) <= 90
            assert sum(np.exp(list(every.values()))) == pytest.approx(1, abs=1e-5)
            likeliest = max(every, key=every.__getitem__)
            assert tuple(wide[i].actions) == tuple(wider[i].actions) == likeliest
            better += tuple(straight[i].actions) != likeliest
    assert better > 0, "greedy walks were the likeliest ones, which shows nothing"


def test_each_beam_remembers_its_own_walk(worlds: dict[str, World]) -> None:
    world = crossing(worlds["train"])
    env = environment(world, 1, max_steps=6)
    for seed in range(8):
        agent = Whimsical(seed)
        options: dict[str, Any] = {"action_space": "panoramic", "max_steps": 6, "attention": True}
        for i, walk in enumerate(policy_walks(agent, world, decoding="beam", beam_width=6, **options)):
            *_, over, looks = replayed(agent, env, i, walk.actions)
            assert over
            assert walk.attention is not None
            np.testing.assert_array_equal(walk.attention, torch.stack(looks)[:, : walk.attention.shape[1]])


# Scores.


def test_scored_walks_have_the_judges_numbers(worlds: dict[str, World], new_agent: NewAgent) -> None:
    for world in (worlds["train"], worlds["val_unseen"]):
        walks = policy_walks(new_agent(), world, action_space="panoramic", decoding="sample", max_steps=5)
        trajectories = [Trajectory(walk.episode.id, tuple(place[0] for place in walk.trajectory)) for walk in walks]
        judgement = judge(trajectories, world.episodes.episodes, world.scans)
        for i, walk in enumerate(walks):
            assert walk.metrics == {name: column[i] for name, column in judgement.columns.items()}


def test_a_test_split_is_walked_but_not_scored(worlds: dict[str, World], new_agent: NewAgent) -> None:
    for walks in (
        policy_walks(new_agent(), worlds["test"], action_space="panoramic"),
        fixed_walks(fixed_agent("random"), worlds["test"]),
        fixed_walks(fixed_agent("prior", worlds["train"]), worlds["test"]),
    ):
        assert [walk.trajectory[0][0] for walk in walks] == ["m1", "h3"]
        assert [walk.metrics for walk in walks] == [{}, {}]
    with pytest.raises(UserError, match="the goal, which is not known of every episode here"):
        fixed_walks(fixed_agent("shortest"), worlds["test"])


def test_scores_of_walks_in_several_buildings_stay_with_their_walks(worlds: dict[str, World]) -> None:
    world = worlds["train"]
    here, there = world.episodes.episodes[0], world.episodes.episodes[9]
    walks = [
        Walk(there, [("f0", 0.0, 0.0), ("f3", 0.0, 0.0)], {}, [1, 0], None),
        Walk(here, [("h0", 0.0, 0.0)], {}, [0], None),
    ]
    metrics = [walk.metrics for walk in scored(walks, world)]
    assert [each["nav_error"] for each in metrics] == [0.0, 6.0]
    assert [each["length"] for each in metrics] == [3.0, 0.0]
    assert scored([], world) == []


# Agents that need no training.


def test_standing_still_and_the_shortest_path(worlds: dict[str, World], path_of: PathOf) -> None:
    world = worlds["train"]
    stopped, led = fixed_walks(fixed_agent("stop"), world), fixed_walks(fixed_agent("shortest"), world)
    for episode, still, walk in zip(world.episodes.episodes, stopped, led, strict=True):
        assert path_of(still.trajectory) == episode.start
        assert still.actions == [STOP]
        assert path_of(walk.trajectory) == " ".join(episode.path)
        assert (walk.metrics["nav_error"], walk.metrics["spl"]) == (0, 1)
        assert walk.actions[-1] == STOP


@pytest.mark.parametrize(
    ("draw", "actions", "path"),
    [
        # 90 degrees, to the east: five hops along the hall, the last one up to h7, which lies straight ahead.
        (0.0, [FORWARD] * 5, "h0 h1 h2 h3 h4 h7"),
        # One turn; at 120 degrees the hall is within the 40 degrees of the view's half.
        (1 / 12, [RIGHT] + [FORWARD] * 5, "h0 h1 h2 h3 h4 h7"),
        # Two turns; at 150 degrees nothing is seen, nor before the view has come round to 60.
        (2.5 / 12, [RIGHT] * 11 + [FORWARD] * 5, "h0 h1 h2 h3 h4 h7"),
        (11.9 / 12, [RIGHT] * 11 + [FORWARD] * 5, "h0 h1 h2 h3 h4 h7"),
    ],
)
def test_the_random_agent_by_hand(draw: float, actions: list[int], path: str, worlds: dict[str, World]) -> None:
    env = environment(worlds["train"], 1, action_space="egocentric", max_steps=30)
    observation, info = env.reset(options={"episodes": [0]})
    hops, taken = torch.zeros(1, dtype=torch.int64), []
    draws = torch.tensor([[draw] + [0.5] * 29], dtype=torch.float64)
    while not bool(env.ended.all()):
        taken.append(random_action(observation, info, draws, hops))
        before = info["viewpoint"]
        observation, _, _, _, info = env.step(taken[-1])
        hops = hops + (info["viewpoint"] != before)
    assert torch.cat(taken).tolist() == [*actions, STOP]
    names = [viewpoint for viewpoint, _, _ in env.trajectories()[0]]
    assert list(dict.fromkeys(names)) == path.split()


def test_the_random_agent_turns_where_the_view_shows_no_way(worlds: dict[str, World], path_of: PathOf) -> None:
    # In the ring of the farm it comes to a wall after each hop, and turns right until it sees the next one.
    world = worlds["train"].with_episodes([worlds["train"].episodes.episodes[7]])
    (walk,) = fixed_walks(fixed_agent("random"), world, seed=3)
    hops = [i for i, action in enumerate(walk.actions) if action == FORWARD]
    assert len(hops) == 5
    assert walk.actions[-1] == STOP
    assert len(path_of(walk.trajectory).split()) == 6
    for i, action in enumerate(walk.actions[:-1]):
        moved = walk.trajectory[i][0] != walk.trajectory[i + 1][0]
        assert moved == (action == FORWARD)
        assert action in (FORWARD, RIGHT)


def test_the_action_prior_by_hand(worlds: dict[str, World]) -> None:
    # h6 h2 h3, from looking south: straight on, left, stop. f0 f3: right (73 degrees), stop.
    world = worlds["train"]
    prior = action_prior(world.with_episodes([world.episodes.episodes[i] for i in (5, 9)]), max_steps=4, bins=4)
    # At the first step none of two stops, then one of two, then one of one; one of each is added.
    torch.testing.assert_close(prior.stop, torch.tensor([1 / 4, 2 / 4, 2 / 3, 1 / 2]))
    torch.testing.assert_close(prior.directions, torch.tensor([2 / 7, 2 / 7, 1 / 7, 2 / 7]))  # ahead, right, back, left
    env = environment(world, 1)
    observation, _ = env.reset(options={"episodes": [5]})
    torch.testing.assert_close(prior.chances(observation)[0, :2], torch.tensor([1 / 4, 3 / 4]))
    observation, *_ = env.step([1])  # at h2, looking south: h1 to the right, h3 to the left, h6 behind
    expected = torch.tensor([2 / 4, *(2 / 4 * share / 5 for share in (2, 2, 1)), *[0] * (env.tables.slots - 3)])
    torch.testing.assert_close(prior.chances(observation)[0], expected)
    late = {**observation, "steps": torch.tensor([9])}
    assert float(prior.chances(late)[0, STOP]) == 1 / 2
    nowhere = {**observation, "action_mask": torch.arange(env.tables.slots + 1)[None] == 0}
    chances = prior.chances(nowhere)
    assert drawn(chances, torch.tensor([0.999], dtype=torch.float64)).tolist() == [STOP]


def test_the_action_prior_is_what_its_walks_do(worlds: dict[str, World]) -> None:
    prior = ActionPrior(stop=torch.tensor([0.0, 1.0]), directions=torch.tensor([0.0, 1.0, 0.0, 0.0]))
    agent = FixedAgent("panoramic", 5, prior.act)
    # To the right, once: f0 looks north, and f3 lies in the east.
    world = worlds["train"].with_episodes([worlds["train"].episodes.episodes[9]])
    (walk,) = fixed_walks(agent, world)
    assert [viewpoint for viewpoint, _, _ in walk.trajectory] == ["f0", "f3"]


@pytest.mark.parametrize("name", ["random", "prior"])
def test_an_agent_draws_the_same_whatever_is_beside_it(name: str, worlds: dict[str, World]) -> None:
    world, agent = worlds["train"], fixed_agent(name, worlds["train"])
    walks = fixed_walks(agent, world, seed=4)
    assert fixed_walks(agent, world, seed=4, batch_size=3) == walks
    backwards = world.with_episodes(world.episodes.episodes[::-1])
    assert fixed_walks(agent, backwards, seed=4)[::-1] == walks
    assert fixed_walks(agent, world, seed=5) != walks


def test_fixed_agents_have_names(worlds: dict[str, World]) -> None:
    for name in FIXED_AGENTS:
        assert len(fixed_walks(fixed_agent(name, worlds["train"]), worlds["val_seen"])) == 1
    with pytest.raises(UserError, match="the action prior is counted on the training split"):
        fixed_agent("prior")
    with pytest.raises(UserError, match="there is no agent 'randon'. Did you mean 'random'?"):
        fixed_agent("randon")


def test_streams_belong_to_seed_and_episode() -> None:
    numbers = streams(3, ["1_0", "1_1", "2_0"], 4)
    assert numbers.shape == (3, 4)
    assert ((numbers >= 0) & (numbers < 1)).all()
    np.testing.assert_array_equal(streams(3, ["2_0"], 2)[0], numbers[2, :2])
    assert len(np.unique(np.concatenate([numbers, streams(4, ["1_0", "1_1", "2_0"], 4)]))) == 24


def test_a_draw_falls_where_the_cumulative_distribution_says() -> None:
    chances = torch.tensor([[0.25, 0.0, 0.5, 0.25, 0.0]])
    below = float(np.nextafter(1.0, 0.0))
    for draw, action in [(0.0, 0), (0.2499, 0), (0.25, 2), (0.7499, 2), (0.75, 3), (below, 3)]:
        assert drawn(chances, torch.tensor([draw], dtype=torch.float64)).tolist() == [action]
    # Nothing at first and at last; weights that do not quite add up to 1.
    for scale in (1.0, 0.999999, 1.000001):
        late = torch.tensor([[0.0, 0.0, 0.3 * scale, 0.7 * scale, 0.0]])
        assert drawn(late, torch.tensor([0.0], dtype=torch.float64)).tolist() == [2]
        assert drawn(late, torch.tensor([below], dtype=torch.float64)).tolist() == [3]


def test_an_action_without_a_chance_is_never_drawn() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2000, 7, generator=generator) * 4
    mask = torch.rand(2000, 7, generator=generator) < 0.6
    mask[:, 3] = True
    chances = logits.masked_fill(~mask, -torch.inf).softmax(dim=1)
    for draws in (torch.rand(2000, generator=generator, dtype=torch.float64), torch.zeros(2000, dtype=torch.float64)):
        actions = drawn(chances, draws)
        assert (chances.gather(1, actions[:, None]) > 0).all()


# What was published.


@pytest.mark.reference
def test_fixed_agents_reach_what_was_published(reference: Path) -> None:
    splits = read_splits(reference / "r2r/annotations", reference / "r2r/connectivity", ["val_unseen"])
    world = splits.worlds(Tokenizer.train(["no agent here reads"]))["val_unseen"]

    def mean(walks: Sequence[Walk], name: str) -> float:
        return float(np.mean([walk.metrics[name] for walk in walks]))

    led = fixed_walks(fixed_agent("shortest"), world)
    assert (mean(led, "nav_error"), mean(led, "success")) == (0, 1)
    assert mean(led, "length") == pytest.approx(9.48, abs=0.005)
    # The standard deviation of one seed's success is 0.5 points (60 seeds), so that of five 0.23: three of those.
    walks = list(itertools.chain.from_iterable(fixed_walks(fixed_agent("random"), world, seed) for seed in range(5)))
    assert mean(walks, "success") == pytest.approx(0.159, abs=0.007)
    assert mean(walks, "oracle_success") == pytest.approx(0.22, abs=0.015)
    assert mean(walks, "length") == pytest.approx(9.77, abs=0.15)
    assert mean(walks, "nav_error") == pytest.approx(9.23, abs=0.15)
