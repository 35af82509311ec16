"""One walk of a vector environment, in NumPy: what Gymnasium's single environments are to those who write loops."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol

import gymnasium
import numpy as np
from gymnasium import spaces
from torch import Tensor

from vlkit.plugins import nearest


class Told(Protocol):
    """An episode with a text."""

    @property
    def instruction(self) -> str:
        """The text."""
        ...


class SingleEnv(gymnasium.Env[dict[str, Any], int]):
    """A vector environment of one, whose autoreset is disabled, without the leading axis.

    `instruction` is the text itself, and there is no instruction_mask. `reset(options={"episode": i})` plays that one.
    """

    def __init__(self, vector: Any, episodes: Sequence[Told]) -> None:
        self.vector, self._episodes = vector, episodes
        boxes = dict(vector.single_observation_space.items())
        del boxes["instruction_mask"]
        letters = "".join(sorted({letter for episode in episodes for letter in episode.instruction}))
        longest = max(len(episode.instruction) for episode in episodes)
        boxes["instruction"] = spaces.Text(longest, min_length=1, charset=letters)
        self.observation_space = spaces.Dict(boxes)
        self.action_space = vector.single_action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The next episode of the stream, or `options={"episode": i}`, its place among the episodes."""
        options = options or {}
        for name in options:
            if name != "episode":
                raise ValueError(f"options has the key {name!r}.{nearest(name, ('episode',))}")
        episode = options.get("episode")
        observation, info = self.vector.reset(seed=seed, options=None if episode is None else {"episodes": [episode]})
        # One stream of random numbers, under Gymnasium's name for it.
        self.np_random, self._np_random_seed = self.vector.np_random, self.vector.np_random_seed
        return self._plain(observation), self._details(info) | _metrics(info)

    def step(self, action: int) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """One action; ValueError for one that is not in the action space, RuntimeError where the episode has ended."""
        if self.vector._started and bool(self.vector.ended[0]):
            raise RuntimeError("step was called after the end of the episode; call reset first")
        observation, reward, terminated, truncated, info = self.vector.step(np.asarray(action)[None])
        return (
            self._plain(observation),
            float(reward[0]),
            bool(terminated[0]),
            bool(truncated[0]),
            self._details(info) | _metrics(info),
        )

    def _plain(self, observation: dict[str, Tensor]) -> dict[str, Any]:
        plain: dict[str, Any] = {}
        for name, space in self.observation_space.spaces.items():  # type: ignore[attr-defined]
            if name == "instruction":
                plain[name] = self._episodes[int(self.vector.episode[0])].instruction
            else:
                plain[name] = observation[name][0].cpu().numpy().astype(space.dtype)
        return plain

    @abstractmethod
    def _details(self, info: dict[str, Any]) -> dict[str, Any]:
        """The vector environment's info of the one walk, its metrics left out."""


def _metrics(info: dict[str, Any]) -> dict[str, float]:
    return {name: float(values[0]) for name, values in info.get("metrics", {}).items()}
