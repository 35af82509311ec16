"""Recorded walks on disk, in rounds: what a policy learns from by imitation.

A round is a folder that appears whole or not at all, so that a killed recording leaves nothing half done. Frames are kept
as bytes and mapped into memory; the store is bounded, and its oldest rounds make room for new ones.
"""

import errno
import json
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np
import torch
from torch import Tensor

from vlkit.errors import UserError
from vlkit.files import cannot_write, locked

FORMAT = 3
MARKER = "round.json"
STEP = np.dtype([("last_action", "u1"), ("expert", "u1"), ("progress", "f4"), ("goal", "f4", 3)])
WALK = np.dtype([("episode", "i8"), ("first", "i8"), ("steps", "i8")])


@dataclass(frozen=True)
class Recorded:
    """Some walks as they lie in the store, frames one behind the other."""

    episodes: Tensor  # (walks,) int64, as the environment numbers them
    steps: Tensor  # (walks,) int64
    rgb: Tensor  # (frames, height, width, 3) uint8
    depth: Tensor  # (frames, height, width, 1) uint8
    categories: Tensor  # (frames, rows, columns) uint8
    last_action: Tensor  # (frames,) int64
    expert: Tensor  # (frames,) int64
    progress: Tensor  # (frames,) float32
    goal: Tensor  # (frames, 3) float32, metres ahead, to the left and up


class Round:
    """A finished round, opened for reading."""

    def __init__(self, folder: Path) -> None:
        try:
            said = json.loads((folder / MARKER).read_text(encoding="utf-8"))
            self.size, self.parts, frames = int(said["size"]), int(said["parts"]), int(said["frames"])
            self.source = str(said["source"])
            self.walks = np.fromfile(folder / "walks", WALK)
            shapes: dict[str, tuple[int, ...]] = {
                "rgb": (self.size, self.size, 3),
                "depth": (self.size, self.size, 1),
                "categories": (self.parts, self.parts),
            }
            self.frames = {
                name: np.memmap(folder / name, np.uint8, mode="r", shape=(frames, *shape))
                for name, shape in shapes.items()
            }
            self.steps = np.fromfile(folder / "steps", STEP)
            if said["format"] != FORMAT or len(self.steps) != frames or int(self.walks["steps"].sum()) != frames:
                raise ValueError("its numbers do not fit together")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{folder} is damaged ({error}); delete it, and the round is recorded anew") from error
        self.frame_count = frames


class Store:
    """The rounds of one run. `most_frames` bounds them together.

    source: what rounds are recorded from, in a word; UserError for a round that was recorded from something else.
    lent: the folder of another run's first round, which no policy walked: where it is there, it is this one's too.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        size: int,
        parts: int,
        most_frames: int,
        source: str = "",
        lent: Path | None = None,
    ) -> None:
        self.folder, self.size, self.parts, self.most_frames = Path(folder), size, parts, most_frames
        self.source, self.lent = source, lent
        self.opened: dict[int, Round] = {}
        self.gone: set[int] = set()  # rounds that are there and left out

    @property
    def frame_bytes(self) -> int:
        """On disk, of one frame."""
        return self.size * self.size * 4 + self.parts * self.parts + STEP.itemsize

    def numbers(self) -> list[int]:
        """The rounds that are there, oldest first."""
        found = self.folder.glob("round-*") if self.folder.is_dir() else ()
        own = {int(each.name.removeprefix("round-")) for each in found if (each / MARKER).is_file()}
        lent = {0} if self.lent is not None and (self.lent / MARKER).is_file() else set()
        return sorted((own | lent) - self.gone)

    def round(self, number: int) -> Round:
        """A round that is there."""
        if number not in self.opened:
            found = Round(self.path(number))
            if (found.size, found.parts, found.source) != (self.size, self.parts, self.source):
                raise UserError(
                    f"{self.path(number)} was recorded from other episodes or with other settings; delete it, and it is "
                    "recorded anew, or name another folder for this run"
                )
            self.opened[number] = found
        return self.opened[number]

    def path(self, number: int) -> Path:
        """Where a round lies."""
        own = self.folder / f"round-{number:04d}"
        return self.lent if number == 0 and self.lent is not None and (self.lent / MARKER).is_file() else own

    def writer(self, number: int, frames: int) -> "RoundWriter":
        """Begins round `number`, of about so many frames; UserError where the disk has no room for them."""
        if frames > self.most_frames:
            raise UserError(
                f"a round of about {frames} frames does not fit into a store of {self.most_frames}; record fewer "
                "episodes a round, or raise store_frames"
            )
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self.folder).free
        except OSError as error:
            raise cannot_write(self.folder, error) from error
        if frames * self.frame_bytes > free:
            raise UserError(
                f"a round of {frames} frames takes {frames * self.frame_bytes / 2**30:.1f} GiB in {self.folder}, where "
                f"{free / 2**30:.1f} GiB are free; free some, put the run on another disk, or record fewer episodes a round"
            )
        return RoundWriter(self, number)

    def make_room(self) -> list[int]:
        """Leaves out what is older than the newest rounds that fit within the bound; returns the numbers of what it left.

        What is left out stays on the disk until `delete`: of several processes each finds out by itself what it is.
        """
        kept: list[int] = []
        frames = 0
        for number in reversed(self.numbers()):
            frames += self.round(number).frame_count
            # Behind a gap there is only what another run lends, which would come back when a killed run goes on.
            if kept and (number != kept[-1] - 1 or frames > self.most_frames):
                break
            kept.append(number)
        removed = [number for number in self.numbers() if number not in kept]
        self.gone |= set(removed)
        for number in removed:
            self.opened.pop(number, None)
        return removed

    def delete(self, numbers: Sequence[int]) -> None:
        """Removes rounds from the disk, but for what another run lends."""
        for number in numbers:
            shutil.rmtree(self.folder / f"round-{number:04d}", ignore_errors=True)

    def walks(self, first: int, last: int) -> np.ndarray:
        """(walks, 2) int64: the round and the place in it of every walk of these rounds that are there"""
        parts = [np.zeros((0, 2), np.int64)]
        for number in self.numbers():
            if first <= number <= last:
                count = len(self.round(number).walks)
                parts.append(np.stack([np.full(count, number), np.arange(count)], axis=1))
        return np.concatenate(parts)

    def episodes(self, walks: np.ndarray) -> np.ndarray:
        """(walks, 2) -> (walks,) int64: the episode of each"""
        every = np.zeros(len(walks), np.int64)
        for number in np.unique(walks[:, 0]):
            own = walks[:, 0] == number
            every[own] = self.round(int(number)).walks["episode"][walks[own, 1]]
        return every

    def read(self, walks: Sequence[Sequence[int]] | np.ndarray) -> Recorded:
        """Some walks, each a pair (round, place in it), in this order."""
        frames: dict[str, list[np.ndarray]] = {"rgb": [], "depth": [], "categories": []}
        steps, episodes, counts = [], [], []
        for number, place in walks:
            source = self.round(int(number))
            walk = source.walks[int(place)]
            part = slice(int(walk["first"]), int(walk["first"] + walk["steps"]))
            for name, column in frames.items():
                column.append(source.frames[name][part])
            steps.append(source.steps[part])
            episodes.append(int(walk["episode"]))
            counts.append(int(walk["steps"]))
        every = np.concatenate(steps)
        return Recorded(
            episodes=torch.tensor(episodes),
            steps=torch.tensor(counts),
            **{name: torch.from_numpy(np.concatenate(column)) for name, column in frames.items()},
            last_action=torch.from_numpy(every["last_action"].astype(np.int64)),
            expert=torch.from_numpy(every["expert"].astype(np.int64)),
            progress=torch.from_numpy(np.ascontiguousarray(every["progress"])),
            goal=torch.from_numpy(np.ascontiguousarray(every["goal"])),
        )


class RoundWriter:
    """Takes walks one after the other; the round is there once the `with` block ends without an error."""

    def __init__(self, store: Store, number: int) -> None:
        self.store = store
        self.final = store.path(number)
        self.temporary = store.folder / f".{self.final.name}.tmp"
        self.frames = 0
        self.walks: list[tuple[int, int, int]] = []
        self.lock, self.stack = ExitStack(), ExitStack()
        self.files: dict[str, BinaryIO] = {}

    def __enter__(self) -> Self:
        self.lock.enter_context(locked(self.store.folder, "recording walks"))
        shutil.rmtree(self.temporary, ignore_errors=True)  # what a killed recording left
        try:
            self.temporary.mkdir(parents=True)
            for name in ("rgb", "depth", "categories", "steps"):
                self.files[name] = self.stack.enter_context(open(self.temporary / name, "wb"))
        except OSError as error:
            self._drop()
            raise cannot_write(self.temporary, error) from error
        return self

    def add(
        self,
        episode: int,
        *,
        rgb: Tensor,
        depth: Tensor,
        categories: Tensor,
        last_action: Tensor,
        expert: Tensor,
        progress: Tensor,
        goal: Tensor,
    ) -> None:
        """One walk: frames (steps, ...) as in `Recorded`; at each step what was done, what is to be done, how much of the
        way is done, and where the goal is."""
        count = len(rgb)
        steps = np.empty(count, STEP)
        for name, column in (("last_action", last_action), ("expert", expert), ("progress", progress), ("goal", goal)):
            steps[name] = column.cpu().numpy()
        try:
            for name, part in (("rgb", rgb), ("depth", depth), ("categories", categories)):
                self.files[name].write(np.ascontiguousarray(part.cpu().numpy()).data)
            self.files["steps"].write(steps.tobytes())
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise UserError(
                    f"no space left on the disk for the walks of {self.final} after {self.frames} frames; nothing of this "
                    "round is kept. Free some, and run the same command again: it goes on with this round"
                ) from error
            raise cannot_write(self.temporary, error) from error
        self.walks.append((episode, self.frames, count))
        self.frames += count

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.stack.close()
            if kind is None:
                np.array(self.walks, WALK).tofile(self.temporary / "walks")
                said = {
                    "format": FORMAT,
                    "size": self.store.size,
                    "parts": self.store.parts,
                    "source": self.store.source,
                    "frames": self.frames,
                }
                (self.temporary / MARKER).write_text(json.dumps(said) + "\n", encoding="utf-8")
                shutil.rmtree(self.final, ignore_errors=True)
                self.temporary.rename(self.final)
                self.store.opened.clear()
        except OSError as failure:
            raise cannot_write(self.final, failure) from failure
        finally:
            self._drop()

    def _drop(self) -> None:
        self.stack.close()
        shutil.rmtree(self.temporary, ignore_errors=True)
        self.lock.close()
