"""The navigators: what every policy keeps, and what each of the two sees."""

import math
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from vlkit.encoders.text import TEXT_ENCODERS, text_encoder
from vlkit.envs.features import Features
from vlkit.envs.graph import FORWARD, STOP, R2RVectorEnv, World
from vlkit.tasks.r2r.agents import policy_walks, rollout, sampled, teacher
from vlkit.tasks.r2r.learning import Reward, actor_critic_loss, imitation_loss, progress_loss
from vlkit.tasks.r2r.model import Ensemble, Memory, candidate_geometry, egocentric_geometry, last_choice
from vlkit.testing import check_text_encoder
from vlkit.text import Tokenizer

NewAgent = Callable[..., Any]
ActionSpace = Literal["panoramic", "egocentric"]
SPACES: dict[str, ActionSpace] = {"panoramic": "panoramic", "seq2seq": "egocentric"}
BOTH = pytest.mark.parametrize("kind", SPACES)


def environment(world: World, kind: str, envs: int, max_steps: int | None = None) -> R2RVectorEnv:
    return R2RVectorEnv(
        envs, world=world, action_space=SPACES[kind], max_steps=max_steps, measure=False, autoreset="Disabled"
    )


def seeing(world: World, dim: int = 8) -> World:
    """The world with image features: random numbers."""
    array = np.random.default_rng(0).standard_normal((len(world.tables.names), 36, dim), dtype=np.float32)
    return replace(
        world, features=Features(Path("none"), {pair: i for i, pair in enumerate(world.tables.index)}, array)
    )


def only(world: World, *ids: str) -> World:
    return world.with_episodes([episode for episode in world.episodes.episodes if episode.id in ids])


@BOTH
def test_a_policy_gives_a_score_an_action_a_value_and_a_memory(
    kind: str, worlds: dict[str, World], new_agent: NewAgent
) -> None:
    world = worlds["train"]
    env = environment(world, kind, 3)
    observation, _ = env.reset(options={"episodes": [0, 2, 7]})
    agent = new_agent(kind)
    memory = agent.start(observation)
    logits, value, memory = agent(observation, memory)
    assert logits.shape == observation["action_mask"].shape
    assert value.shape == (3,)
    assert memory.states.shape == (*observation["instruction"].shape, 16)
    assert memory.hidden.shape == memory.cell.shape == (3, 16)
    assert memory.attention.shape == observation["instruction_mask"].shape
    torch.testing.assert_close(memory.attention.sum(dim=1), torch.ones(3))
    assert ((memory.progress > 0) & (memory.progress < 1)).all()


@BOTH
def test_a_policy_learns_two_examples(
    kind: str, worlds: dict[str, World], new_agent: NewAgent, path_of: Callable[..., str]
) -> None:
    world = only(worlds["train"], "1_0", "5_0")
    env = environment(world, kind, 2)
    agent = new_agent(kind, dropout=0.0)
    optimizer = torch.optim.Adam(agent.parameters(), lr=0.03)
    for _ in range(40):
        loss = imitation_loss(rollout(agent, env, torch.arange(2), teacher))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert float(loss.detach()) < 0.05
    walks = policy_walks(agent.eval(), world, action_space=SPACES[kind])
    assert [path_of(walk.trajectory) for walk in walks] == ["h0 h1 h2 h6", "f0 f3"]
    assert [walk.metrics["success"] for walk in walks] == [1, 1]


@BOTH
def test_padding_does_not_change_a_walk(kind: str, worlds: dict[str, World], new_agent: NewAgent) -> None:
    world, agent = worlds["train"], new_agent(kind)
    lengths = world.episodes.word_counts
    short, long = int(lengths.argmin()), int(lengths.argmax())
    alone = rollout(agent, environment(world, kind, 1), torch.tensor([short]), teacher)
    together = rollout(agent, environment(world, kind, 2), torch.tensor([short, long]), teacher)
    steps = alone.steps
    assert lengths[short] < lengths[long]
    torch.testing.assert_close(together.log_probs[:steps, :1], alone.log_probs)
    torch.testing.assert_close(together.values[:steps, :1], alone.values)


def test_slots_without_a_candidate_change_nothing(worlds: dict[str, World], new_agent: NewAgent) -> None:
    env, agent = environment(worlds["train"], "panoramic", 3), new_agent()
    observation, _ = env.reset(options={"episodes": [0, 3, 8]})
    longer = {
        name: torch.cat([part, torch.zeros_like(part[:, :1]).expand(-1, 4)], dim=1)
        for name, part in observation.items()
        if name == "action_mask" or name.startswith("candidate_")
    }
    memory = agent.start(observation)
    logits, value, _ = agent(observation, memory)
    same = agent({**observation, **longer}, memory)
    torch.testing.assert_close(same[0][:, : logits.shape[1]], logits)
    torch.testing.assert_close(same[1], value)


@BOTH
def test_what_was_done_last_is_known(kind: str, worlds: dict[str, World], new_agent: NewAgent) -> None:
    env, agent = environment(worlds["train"], kind, 1), new_agent(kind)
    observation, info = env.reset(options={"episodes": [0]})
    _, _, memory = agent(observation, agent.start(observation))
    observation, *_ = env.step(info["oracle_action"])
    values = [agent({**observation, "last_action": torch.tensor([last])}, memory)[1].detach() for last in (0, 1)]
    assert not torch.isclose(*values)


@BOTH
def test_all_that_a_policy_remembers_is_its_memory(kind: str, worlds: dict[str, World], new_agent: NewAgent) -> None:
    env, agent = environment(worlds["train"], kind, 4), new_agent(kind)
    observation, info = env.reset(options={"episodes": [0, 3, 5, 8]})
    before = dict(vars(agent))
    _, _, memory = agent(observation, agent.start(observation))
    observation, _, _, _, info = env.step(info["oracle_action"])
    kept = {field.name: getattr(memory, field.name).clone() for field in fields(memory)}
    logits, value, after = agent(observation, memory)
    agent({**observation, "heading": observation["heading"] + 1}, after)
    again = agent(observation, memory)
    assert torch.equal(logits, again[0])
    assert torch.equal(value, again[1])
    for name, tensor in kept.items():
        assert torch.equal(getattr(memory, name), tensor), f"the memory that was given has another {name}"
        assert torch.equal(getattr(after, name), getattr(again[2], name))
    assert dict(vars(agent)) == before
    assert not list(agent.buffers())


@BOTH
def test_a_selected_memory_is_of_the_selected_walks(kind: str, worlds: dict[str, World], new_agent: NewAgent) -> None:
    env, agent = environment(seeing(worlds["train"]), kind, 3), new_agent(kind, feature_dim=8)
    observation, info = env.reset(options={"episodes": [0, 3, 8]})
    _, _, memory = agent(observation, agent.start(observation))
    observation, *_ = env.step(info["oracle_action"])
    rows = torch.tensor([2, 0, 0])
    chosen = memory.select(rows)
    for field in fields(Memory):
        assert torch.equal(getattr(chosen, field.name), getattr(memory, field.name)[rows])
    logits, value, _ = agent(observation, memory)
    selected = agent({name: part[rows] for name, part in observation.items()}, chosen)
    torch.testing.assert_close(selected[0], logits[rows])
    torch.testing.assert_close(selected[1], value[rows])


@BOTH
@pytest.mark.parametrize("feature_dim", [0, 8])
def test_a_gradient_reaches_every_weight(
    kind: str, feature_dim: int, worlds: dict[str, World], new_agent: NewAgent
) -> None:
    world = seeing(worlds["train"]) if feature_dim else worlds["train"]
    agent = new_agent(kind, feature_dim=feature_dim).train()
    count = len(world.episodes)
    walks = rollout(agent, environment(world, kind, count, max_steps=6), torch.arange(count), sampled)
    reinforce, _ = actor_critic_loss(walks, Reward(), entropy_weight=0.01)
    (imitation_loss(walks) + reinforce + progress_loss(walks)).backward()  # type: ignore[no-untyped-call]
    for name, parameter in agent.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all()), name
        assert float(parameter.grad.abs().max()) > 0, name


@BOTH
def test_mixed_precision_gives_finite_losses(kind: str, worlds: dict[str, World], new_agent: NewAgent) -> None:
    agent = new_agent(kind).train()
    with torch.autocast("cpu", torch.bfloat16):
        walks = rollout(agent, environment(worlds["train"], kind, 10, max_steps=3), torch.arange(10), sampled)
        reinforce, _ = actor_critic_loss(walks, Reward(), entropy_weight=0.01)
        loss = imitation_loss(walks) + reinforce + progress_loss(walks)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.dtype == torch.float32
    assert all(bool(each.grad.isfinite().all()) for each in agent.parameters())


@BOTH
def test_the_critic_does_not_bend_what_the_walk_is_made_of(
    kind: str, worlds: dict[str, World], new_agent: NewAgent
) -> None:
    agent = new_agent(kind)
    walks = rollout(agent, environment(worlds["train"], kind, 2), torch.tensor([0, 3]), teacher)
    walks.values.sum().backward()  # type: ignore[no-untyped-call]
    assert {name.split(".")[0] for name, parameter in agent.named_parameters() if parameter.grad is not None} == {
        "value"
    }


@BOTH
def test_an_action_that_is_not_there_is_never_chosen(kind: str, worlds: dict[str, World], new_agent: NewAgent) -> None:
    env, agent = environment(worlds["train"], kind, 40, max_steps=8), new_agent(kind)
    observation, _ = env.reset(options={"episodes": [i % 9 for i in range(40)]})
    memory = agent.start(observation)
    torch.manual_seed(1)
    missing = 0
    while not bool(env.ended.all()):
        logits, _, memory = agent(observation, memory)
        mask = observation["action_mask"]
        assert (logits[~mask] == -torch.inf).all()
        assert logits[mask].isfinite().all()
        actions = sampled(logits, logits)
        assert mask.gather(1, actions[:, None]).all()
        missing += int((~mask).sum())
        observation, *_ = env.step(actions)
    assert missing > 0


@pytest.mark.parametrize(("kind", "name"), [("panoramic", "candidate_views"), ("seq2seq", "view")])
def test_image_features_are_seen(kind: str, name: str, worlds: dict[str, World], new_agent: NewAgent) -> None:
    env, agent = environment(seeing(worlds["train"]), kind, 2), new_agent(kind, feature_dim=8)
    observation, _ = env.reset(options={"episodes": [0, 7]})
    memory = agent.start(observation)
    logits, _, _ = agent(observation, memory)
    other, _, _ = agent({**observation, name: observation[name] + 1}, memory)
    assert not torch.isclose(logits, other)[observation["action_mask"]].any()
    assert bool(torch.isfinite(logits[:, STOP]).all())


def test_a_walk_lacks_the_same_image_channels_from_start_to_end(worlds: dict[str, World], new_agent: NewAgent) -> None:
    env = environment(seeing(worlds["train"]), "panoramic", 8)
    agent = new_agent(feature_dim=8, environment_dropout=0.5, dropout=0.0)
    observation, info = env.reset(options={"episodes": list(range(8))})
    assert torch.equal(agent.start(observation).feature_mask, torch.ones(8, 8))
    memory = agent.train().start(observation)
    mask = memory.feature_mask
    assert set(mask.unique().tolist()) == {0.0, 2.0}
    assert len(mask.unique(dim=0)) > 1, "every walk lacks the same"
    for _ in range(3):
        _, _, memory = agent(observation, memory)
        observation, _, _, _, info = env.step(info["oracle_action"])
        assert torch.equal(memory.feature_mask, mask)
        views = observation["candidate_views"]
        other = {**observation, "candidate_views": torch.where(mask[:, None] == 0, views + 9.0, views)}
        assert torch.equal(agent(other, memory)[0], agent(observation, memory)[0])
        assert not torch.equal(
            agent({**observation, "candidate_views": views + 9.0}, memory)[0], agent(other, memory)[0]
        )


THIRD_PARTY = '''
import torch
from torch import nn
from vlkit.encoders.text import TextStates

class BagOfWords(nn.Module):
    """A word's state is its vector and that of the whole text."""

    def __init__(self, vocabulary):
        super().__init__()
        self.dim = 12
        self.words = nn.Embedding(vocabulary, 12)
        self.mix = nn.Linear(24, 12)

    def forward(self, ids, mask):
        words = self.words(ids) * mask[:, :, None]
        whole = words.sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp(min=1)
        states = torch.tanh(self.mix(torch.cat([words, whole[:, None].expand_as(words)], dim=2)))
        return TextStates(states=states * mask[:, :, None], pooled=whole)

def encoder(vocabulary):
    return BagOfWords(vocabulary)
'''


@BOTH
@pytest.mark.parametrize("name", [*sorted(set(TEXT_ENCODERS) - {"recurrent"}), "bag_of_words:encoder"])
def test_any_text_encoder_drops_in(
    kind: str,
    name: str,
    worlds: dict[str, World],
    tokenizer: Tokenizer,
    new_agent: NewAgent,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "bag_of_words.py").write_text(THIRD_PARTY)
    monkeypatch.syspath_prepend(tmp_path)
    if ":" in name:
        check_text_encoder(text_encoder(name, tokenizer.size), tokenizer.size)
    agent = new_agent(kind, text=name).train()
    walks = rollout(agent, environment(worlds["train"], kind, 2, max_steps=2), torch.tensor([0, 3]), teacher)
    imitation_loss(walks).backward()  # type: ignore[no-untyped-call]
    assert float(agent.text.words.weight.grad.abs().max()) > 0


def test_one_encoder_serves_both_agents(worlds: dict[str, World], new_agent: NewAgent) -> None:
    agents = [new_agent(kind) for kind in SPACES]
    agents[1].text = agents[0].text
    for kind, agent in zip(SPACES, agents, strict=True):
        rollout(agent, environment(worlds["train"], kind, 1), torch.tensor([0]), teacher).log_probs.sum().backward()  # type: ignore[no-untyped-call]
        assert float(agents[0].text.words.weight.grad.abs().max()) > 0
        agents[0].text.zero_grad()


@BOTH
def test_an_ensemble_takes_the_mean_of_probabilities(kind: str, worlds: dict[str, World], new_agent: NewAgent) -> None:
    env, members = environment(worlds["train"], kind, 3), [new_agent(kind, seed) for seed in range(3)]
    observation, info = env.reset(options={"episodes": [0, 3, 8]})
    together = Ensemble(members)
    memory, memories = together.start(observation), [member.start(observation) for member in members]
    for _ in range(2):
        logits, value, memory = together(observation, memory)
        results = [member(observation, own) for member, own in zip(members, memories, strict=True)]
        memories = [own for _, _, own in results]
        mean = torch.stack([scores.softmax(dim=1) for scores, _, _ in results]).mean(dim=0)
        torch.testing.assert_close(logits.exp(), mean)
        torch.testing.assert_close(value, torch.stack([each for _, each, _ in results]).mean(dim=0))
        torch.testing.assert_close(memory.attention, torch.stack([own.attention for own in memories]).mean(dim=0))
        observation, _, _, _, info = env.step(info["oracle_action"])
    rows = torch.tensor([2, 2, 0])
    assert torch.equal(memory.select(rows).members[1].hidden, memories[1].hidden[rows])


def test_an_ensemble_of_one_walks_as_its_member(worlds: dict[str, World], new_agent: NewAgent) -> None:
    agent = new_agent()
    for decoding in ("greedy", "sample", "beam"):
        options: dict[str, Any] = {"action_space": "panoramic", "decoding": decoding, "max_steps": 5}
        alone = policy_walks(agent, worlds["train"], **options)
        together = policy_walks(Ensemble([agent]), worlds["train"], **options)
        assert [walk.trajectory for walk in together] == [walk.trajectory for walk in alone]


def place(**parts: Tensor) -> dict[str, Tensor]:
    """An observation of one walk that has come 3 m ahead and 1 m to the left, and looks to the right of its start."""
    return {
        "heading": torch.tensor([1.0 + math.pi / 2]),
        "elevation": torch.tensor([0.5]),
        "moved": torch.tensor([[-1.0, 3.0, 0.6]]),
        "steps": torch.tensor([4]),
        "action_mask": torch.ones(1, 3, dtype=torch.bool),
    } | parts


def test_the_geometry_of_candidates_by_hand() -> None:
    observation = place(
        # One straight ahead on the level; one to the left and up.
        candidate_heading=torch.tensor([[0.0, -math.pi / 2]]),
        candidate_elevation=torch.tensor([[0.0, math.pi / 6]]),
        candidate_distance=torch.tensor([[3.0, 2.0]]),
        candidate_visited=torch.tensor([[True, False]]),
    )
    level, flat = math.cos(math.pi / 6), 2 * math.cos(math.pi / 6)
    expected = [
        [0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0],
        # Ahead of the agent is to the right of the start.
        [0, 1, 0, 1, 1, 1, 0, 0.2, 0.3, 0.2, math.hypot(0.2, 0.3), 1, 0],
        [-1, 0, 0.5, level, 2 / 3, 0, 0, -0.1, (3 + flat) / 10, 1.6 / 3, math.hypot(0.1, (3 + flat) / 10), 0, 1],
    ]
    numbers = candidate_geometry(observation, torch.tensor([1.0]))
    torch.testing.assert_close(numbers, torch.tensor([expected]), rtol=0, atol=1e-6)


def test_the_geometry_of_an_egocentric_pose_by_hand() -> None:
    ahead = egocentric_geometry(place(ahead=torch.tensor([[0.2, -0.1, 3.0]])), torch.tensor([1.0]))
    torch.testing.assert_close(
        ahead, torch.tensor([[1, 0, 0.5, 0.2, -0.1, 1, 1, -0.1, 0.3, 0.06, 0.2]]), rtol=0, atol=1e-6
    )
    nowhere = egocentric_geometry(place(ahead=torch.zeros(1, 3)), torch.tensor([1.0]))
    assert nowhere[0, 3:7].tolist() == [0, 0, 0, 0]


def test_the_last_choice_is_the_candidate_that_was_taken() -> None:
    candidates = torch.arange(12.0).reshape(2, 3, 2)
    assert last_choice(candidates, torch.tensor([2, 0]), dim=2).tolist() == [[4, 5], [6, 7]]
    assert last_choice(candidates, torch.tensor([-1, 1]), dim=2).tolist() == [[0, 0], [8, 9]]
    assert last_choice(torch.zeros(2, 0, 0), torch.tensor([-1, -1]), dim=2).tolist() == [[0, 0], [0, 0]]


def test_a_walk_that_has_not_begun_is_no_walk_whose_last_action_was_to_stop(
    worlds: dict[str, World], new_agent: NewAgent
) -> None:
    env, agent = environment(worlds["train"], "seq2seq", 1), new_agent("seq2seq")
    observation, _ = env.reset(options={"episodes": [0]})
    memory = agent.start(observation)
    results = [agent({**observation, "last_action": torch.tensor([last])}, memory)[1] for last in (-1, STOP, FORWARD)]
    assert len({float(value.detach()) for value in results}) == 3
