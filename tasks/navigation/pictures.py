"""`vlkit explain`: maps and films of walks, of the best, the median and the worst of a split or of those named."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro

from vlkit import config
from vlkit.envs.simulator import maps
from vlkit.errors import UserError
from vlkit.evaluation import Watch
from vlkit.files import write_atomic
from vlkit.plugins import nearest
from vlkit.progress import progress
from vlkit.tasks.navigation.evaluation import SPLIT, EvalOptions, Test, Trained, run_walks, tested, trained
from vlkit.tasks.navigation.film import film_frames, plan, save_film
from vlkit.tasks.navigation.rollouts import Walk
from vlkit.tasks.navigation.settings import Level

CHOSEN = ("best", "median", "worst")


@dataclass(frozen=True)
class Options:
    """Show what a trained navigator did: maps from above, and films of what it saw, read and decided."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """folder that `vlkit train` wrote; RUN/arms/no_instruction is one too"""
    split: str = SPLIT
    """split whose episodes are walked"""
    levels: tuple[Level, ...] | None = None
    """which of its episodes; those that the run learned from"""
    episode: tuple[str, ...] = ()
    """ids of episodes; without any: the best, the median and the worst of the split, by SPL, then nDTW"""
    episodes: int | None = None
    """choose among so many episodes, drawn evenly; among all where it is not given"""
    data: Path | None = None
    """where the episodes lie; the run knows where it learned"""
    scenes: Path | None = None
    """folder of the scenes; DATA/scenes where it is not given"""
    film: Literal["gif", "mp4", "none"] = "gif"
    """mp4 takes imageio with ffmpeg: pip install "vlkit[video]" """
    output: Path | None = None
    """folder to write to; RUN/explain/SPLIT where it is not given"""
    device: Literal["cpu", "cuda"] | None = None
    """where to run; the GPU where there is one"""


def main(arguments: Sequence[str]) -> int:
    """`vlkit explain RUN [--split S] [--episode ID ...]`"""
    options = config.load(Options, None, arguments, prog="vlkit explain")
    evaluated = EvalOptions(
        runs=(options.run,),
        split=options.split,
        levels=options.levels,
        episodes=None if options.episode else options.episodes,
        data=options.data,
        scenes=options.scenes,
        device=options.device,
    )
    run = trained(options.run, options.device)
    test = tested(evaluated, [run])
    if options.episode:
        names = {name: name for name in options.episode}
    else:
        with progress(len(test.split.episodes), unit="walks") as bar:
            names = chosen(run_walks(run, test, watch=Watch(bar, options.run.name)))
    folder = options.output or options.run / "explain" / options.split
    for file in drawn(run, test, names, folder, film=options.film):
        print(file)  # noqa: T201
    return 0


def chosen(walks: Sequence[Walk]) -> dict[str, str]:
    """Episodes of the best, the median and the worst walk, by SPL and then nDTW, by what they are."""
    ranked = sorted(walks, key=lambda walk: (walk.metrics["spl"], walk.metrics["ndtw"], walk.episode.id), reverse=True)
    places = dict(zip(CHOSEN, (0, len(ranked) // 2, len(ranked) - 1), strict=True))
    return {name: ranked[place].episode.id for name, place in places.items()}


def drawn(
    run: Trained, test: Test, names: dict[str, str], folder: Path, *, film: Literal["gif", "mp4", "none"] = "gif"
) -> list[Path]:
    """Writes a map and a film of each episode, named for what it is; returns the files."""
    every = {episode.id: episode for episode in test.split.episodes}
    for name in names.values():
        if name not in every:
            raise UserError(f"{test.split.name} has no episode {name!r}.{nearest(name, every)}")
    few = replace(test.split, episodes=tuple(every[name] for name in dict.fromkeys(names.values())))
    test = Test(few, test.data, replace(test.settings, num_envs=len(few.episodes)), test.device)
    walks = {walk.episode.id: walk for walk in run_walks(run, test, films=range(len(few.episodes)))}
    world = test.world(run.tokenizer)
    files = []
    for what, name in names.items():
        walk = walks[name]
        scene, grid = world.env.scene_of(walk.episode)
        storeys = maps.storeys_of(grid)
        stem = what if what == name else f"{what}-{name}"
        stem = re.sub(r"[^\w.-]+", "_", stem)
        picture = folder / f"{stem}.png"
        title = f"{walk.episode.instruction}\n{told(walk)}"
        figure = maps.top_down_map(
            storeys,
            scene=scene,
            episode=maps.Episode(
                start=walk.locations[0],
                goal=np.array(walk.episode.goal),
                reference=walk.reference,
                executed=walk.locations,
            ),
            title=wrapped(title),
        )
        with write_atomic(picture) as temporary:
            figure.savefig(temporary, format="png", dpi=120)
        files.append(picture)
        if film != "none":
            words = [run.tokenizer.words[i] for i in run.tokenizer.encode(walk.episode.instruction)]
            path = folder / f"{stem}.{film}"
            assert walk.film is not None
            save_film(film_frames(walk, walk.film, words[: run.settings.max_words], plan(storeys, scene.rooms)), path)
            files.append(path)
    return files


def told(walk: Walk) -> str:
    """What became of a walk, in a line."""
    ended = "reached the goal" if walk.metrics["success"] else "missed the goal"
    return (
        f"{ended}: {walk.metrics['distance_to_goal']:.1f} m from it after {len(walk.actions)} actions, "
        f"SPL {100 * walk.metrics['spl']:.0f} %, nDTW {100 * walk.metrics['ndtw']:.0f} %"
    )


def wrapped(text: str, letters: int = 76) -> str:
    """The text in lines of at most so many letters."""
    import textwrap

    return "\n".join(line for part in text.splitlines() for line in textwrap.wrap(part, letters))
