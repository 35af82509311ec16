"""One walk that somebody guides: told in words that may change on the way, by the agent's own choice or by keys."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast

import numpy as np
import torch
from PIL import Image

from vlkit.envs.episodes import Episode
from vlkit.envs.navigation import NavigationVectorEnv
from vlkit.envs.simulator import maps
from vlkit.errors import UserError
from vlkit.tasks.navigation.data import Split, World
from vlkit.tasks.navigation.evaluation import EvalOptions, Trained, tested
from vlkit.tasks.navigation.film import ACTION_NAMES, Plan, frame_panel, map_panel, plan
from vlkit.tasks.navigation.model import Memory
from vlkit.tasks.navigation.probes import blanked
from vlkit.tasks.navigation.rollouts import Walk

MOST_LETTERS = 1000  # of an instruction


@dataclass(frozen=True, eq=False)
class Seen:
    """What is shown of a step."""

    frame: Image.Image
    map: Image.Image
    chances: dict[str, float]  # what the agent would do
    words: tuple[
        tuple[str, float, bool], ...
    ]  # the instruction: how much each word is looked at (to 1), whether it is known
    told: str  # how it stands
    ended: bool


class GuidedWalk:
    """A walk in an episode's house. Nothing in it is shared with another walk but the agent, which no walk changes."""

    def __init__(self, run: Trained, split: str = "val_unseen", episodes: int = 12) -> None:
        device = cast(Literal["cpu", "cuda"], next(run.policy.parameters()).device.type)
        options = EvalOptions(runs=(run.folder,), split=split, episodes=episodes, num_envs=1, device=device)
        test = tested(options, [run])
        self.run = run
        self.world: World = test.world(run.tokenizer)
        self.env: NavigationVectorEnv = self.world.env
        self.env.oracle = False
        self._blanked = blanked(run.settings.blank, run.tokenizer.unknown)
        self.instruction = ""
        self.playing = False  # whether it walks on and on
        self.lock = threading.RLock()  # for whoever shows a walk to several threads
        self.begin(0)

    @property
    def split(self) -> Split:
        """The episodes that can be walked."""
        return self.world.split

    @property
    def episode(self) -> Episode:
        """The one that is walked."""
        return self.split.episodes[self.place]

    def begin(self, place: int, instruction: str | None = None) -> None:
        """Stands at the start of an episode and reads its instruction, or another one."""
        if not 0 <= place < len(self.split.episodes):
            raise UserError(f"there is no episode {place}; the page has {len(self.split.episodes)}")
        text = self.split.episodes[place].instruction if instruction is None else checked(instruction)
        self.place, self.playing = place, False
        self.observation, _ = self.env.reset(options={"episodes": torch.tensor([place])})
        self.instruction = text
        self._memory = self._read(text)
        scene, grid = self.env.scene_of(self.episode)
        self._plan: Plan = plan(maps.storeys_of(grid), scene.rooms)
        self._think()

    @torch.inference_mode()
    def tell(self, instruction: str) -> None:
        """Gives another instruction on the way; what was seen and done so far is remembered."""
        text = checked(instruction)
        fresh = self._read(text)
        self.instruction = text
        self._memory = replace(
            self._memory, told=fresh.told, mask=fresh.mask, attention=fresh.attention, progress=fresh.progress
        )
        self._think()

    @torch.inference_mode()
    def step(self, action: str | None = None) -> None:
        """Does what the agent would, or what is told: stop, forward, left or right."""
        if self.ended:
            raise UserError("the walk has ended; begin it again, or choose another house")
        if action is not None and action not in ACTION_NAMES:
            raise UserError(f"there is no action {action!r}; there are {', '.join(ACTION_NAMES)}")
        chosen = int(self._chances.argmax()) if action is None else ACTION_NAMES.index(action)
        self._memory = self._after
        self.observation, *_ = self.env.step(torch.tensor([chosen], device=self.env.device))
        self._think()

    @property
    def ended(self) -> bool:
        """Whether it has stopped, or walked as far as it may."""
        return bool(self.env.ended[0])

    def shown(self) -> Seen:
        """The frame, the map and what the agent makes of them."""
        trajectory = self.env.trajectories()[0]
        walk = Walk(
            episode=self.episode,
            locations=trajectory.locations,
            headings=trajectory.headings,
            actions=trajectory.actions,
            metrics={},
            reference=self.env.reference(self.place),
        )
        rgb = self._blanked(self.observation)["rgb"][0].cpu().numpy()
        words = self.run.tokenizer.pieces(self.instruction)
        looked = self._after.attention[0].cpu().numpy()
        most = max(float(looked.max(initial=0.0)), 1e-6)
        weights = [float(looked[i]) / most if i < len(looked) else 0.0 for i in range(len(words))]
        return Seen(
            frame=frame_panel(rgb, self._after.patches[0].cpu().numpy()),
            map=map_panel(walk, len(walk.locations) - 1, self._plan),
            chances=dict(zip(ACTION_NAMES, self._chances.tolist(), strict=True)),
            words=tuple((word, weight, known) for (word, known), weight in zip(words, weights, strict=True)),
            told=self._told(len(trajectory.actions)),
            ended=self.ended,
        )

    def _told(self, steps: int) -> str:
        distance = float(self.env.distance[0])
        if not self.ended:
            done = float(self._after.progress[0])
            return f"step {steps}, {distance:.1f} m from the goal; believes to have done {done:.0%}"
        reached = bool(self.env.stopped[0]) and bool(self.env.succeeded()[0])
        how = "reached the goal" if reached else "missed the goal"
        return f"{how}: {distance:.1f} m from it after {steps} actions"

    @torch.inference_mode()
    def _read(self, text: str) -> Memory:
        words, mask = self.run.tokenizer.batch([text], self.run.settings.max_words)
        # An agent that never had an instruction has none here.
        told = self._blanked(
            {**self.observation, "instruction": words.to(self.env.device), "instruction_mask": mask.to(self.env.device)}
        )
        return self.run.policy.start(told["instruction"], told["instruction_mask"])

    @torch.inference_mode()
    def _think(self) -> None:
        """What the agent would do where it stands, and what it would remember then."""
        logits, _, self._after = self.run.policy(self._blanked(self.observation), self._memory)
        self._chances: np.ndarray = logits.softmax(1)[0].cpu().numpy()


def checked(text: str) -> str:
    """An instruction without the spaces around it. UserError where there is none, or too much of it."""
    found = " ".join(text.split())
    if not found:
        raise UserError("the instruction is empty; type where to go")
    if len(found) > MOST_LETTERS:
        raise UserError(f"the instruction has {len(found):,} characters, and at most {MOST_LETTERS} are read")
    return found


def names(split: Split) -> Sequence[str]:
    """What the houses to choose among are called."""
    return [f"{i + 1}. {episode.scene.rpartition('/')[2]}" for i, episode in enumerate(split.episodes)]
