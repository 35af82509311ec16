"""`vlkit demo navigation RUN`: a web page on which one tells an agent where to go, and watches or steers it.

The agent walks by itself, a step at a time or on and on; arrow keys drive it; another instruction may come on the way.
"""

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from vlkit import config
from vlkit.errors import UserError
from vlkit.tasks.navigation.evaluation import Trained, trained
from vlkit.tasks.navigation.guided import GuidedWalk, names
from vlkit.webpage import PageOptions, serve

KEPT_S = (3600, 3600)  # how often pictures are looked through, and how old they get
TICK_S = 0.4  # between the steps of an agent that walks on and on
GLOW = "244, 162, 89"
# Arrow keys press the buttons, but not while one types.
KEYS = """() => { if (window.vlkitKeys) return; window.vlkitKeys = true;
document.addEventListener('keydown', (event) => {
  const name = {ArrowUp: 'forward', ArrowLeft: 'left', ArrowRight: 'right', ' ': 'stop', Enter: 'step'}[event.key];
  const place = event.target.closest && event.target.closest('input, textarea, button, [contenteditable]');
  if (!name || place) return;
  event.preventDefault();
  const found = document.getElementById(name);
  (found.querySelector('button') || found).click();
}); }"""


@dataclass(frozen=True, kw_only=True)
class Options(PageOptions):
    """A web page on which one guides a trained navigator."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """folder that `vlkit train` wrote"""
    split: str = "val_unseen"
    """whose houses are walked in"""
    episodes: int = 12
    """so many episodes to choose among"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.episodes < 1:
            raise ValueError(f"episodes = {self.episodes}, expected at least 1")


def main(arguments: Sequence[str]) -> int:
    """`vlkit demo navigation RUN [--port N]`: serves the page until it is interrupted."""
    options = config.load(Options, None, arguments, prog="vlkit demo navigation")
    run = trained(options.run, options.device)
    page = built_page(run, options.split, options.episodes)
    serve(page, options, str(options.run))
    return 0


def words_html(words: Sequence[tuple[str, float, bool]]) -> str:
    """The instruction, each word the brighter the more the agent looks at it; words that it does not know are struck out."""
    spans = []
    for word, weight, known in words:
        style = f"background: rgba({GLOW}, {weight:.2f}); padding: 1px 3px; border-radius: 3px"
        if not known:
            style += "; text-decoration: line-through; opacity: 0.6"
        spans.append(f'<span style="{style}">{html.escape(word)}</span>')
    return f'<p style="line-height: 1.9" id="words">{" ".join(spans)}</p>'


def built_page(run: Trained, split: str, episodes: int) -> Any:
    """The page, a gradio Blocks that is not yet served. UserError where the run's houses are gone."""
    import gradio

    houses = names(GuidedWalk(run, split, episodes).split)

    def shown(walk: GuidedWalk) -> list[Any]:
        found = walk.shown()
        walk.playing = walk.playing and not found.ended
        button = gradio.Button("Pause" if walk.playing else "Play")
        timer = gradio.Timer(TICK_S, active=walk.playing)
        return [walk, found.frame, found.map, found.chances, words_html(found.words), found.told, timer, button]

    def tried(walk: GuidedWalk | None, act: Callable[[GuidedWalk], None]) -> list[Any]:
        """What is shown after something was done; where it cannot be done, why, and all stays as it was."""
        own = walk or GuidedWalk(run, split, episodes)
        # A visitor's clicks and the ticks of the clock wait for each other: a walk is one thing.
        with own.lock:
            try:
                act(own)
            except UserError as error:
                gradio.Warning(html.escape(str(error)), title="Not done")
                own.playing = False
            return shown(own)

    def arrive(walk: GuidedWalk | None) -> list[Any]:
        own = walk or GuidedWalk(run, split, episodes)
        with own.lock:
            return [*shown(own), own.instruction, houses[own.place]]

    def choose(walk: GuidedWalk | None, house: str) -> list[Any]:
        own = walk or GuidedWalk(run, split, episodes)
        found = tried(own, lambda each: each.begin(houses.index(house)))
        return [*found, own.instruction]

    def again(walk: GuidedWalk | None, text: str) -> list[Any]:
        return tried(walk, lambda own: own.begin(own.place, text))

    def tell(walk: GuidedWalk | None, text: str) -> list[Any]:
        return tried(walk, lambda own: own.tell(text))

    def step(walk: GuidedWalk | None) -> list[Any]:
        return tried(walk, lambda own: own.step())

    def tick(walk: GuidedWalk | None) -> list[Any]:
        """A step, unless somebody has pressed Pause since the clock struck."""
        return tried(walk, lambda own: own.step() if own.playing else None)

    def driven(action: str) -> Callable[[GuidedWalk | None], list[Any]]:
        def act(own: GuidedWalk) -> None:
            own.playing = False
            own.step(action)

        return lambda walk: tried(walk, act)

    def play(walk: GuidedWalk | None) -> list[Any]:
        def act(own: GuidedWalk) -> None:
            own.playing = not own.playing
            if own.playing:
                own.step()

        return tried(walk, act)

    with gradio.Blocks(title="vlkit: guide a navigator", analytics_enabled=False, delete_cache=KEPT_S) as page:
        # Each visitor's own: gradio keeps it by session, for an hour.
        walk = gradio.State(None, time_to_live=3600)
        timer = gradio.Timer(TICK_S, active=False)
        gradio.Markdown(f"# Guide a navigator\n{run.folder.name}, {run.settings.policy}, in {split}")
        with gradio.Row():
            house = gradio.Dropdown(label="House", choices=list(houses), value=houses[0], elem_id="house")
            told = gradio.Textbox(label="How it stands", interactive=False, elem_id="told")
        instruction = gradio.Textbox(label="Instruction", lines=3, max_lines=6, elem_id="instruction")
        with gradio.Row():
            tell_button = gradio.Button("Tell on the way", elem_id="tell", min_width=80)
            again_button = gradio.Button("Begin anew with it", elem_id="again", min_width=80)
            step_button = gradio.Button("Step", variant="primary", elem_id="step", min_width=80)
            play_button = gradio.Button("Play", variant="primary", elem_id="play", min_width=80)
        words = gradio.HTML(elem_id="read")
        with gradio.Row():
            frame = gradio.Image(label="What it sees", interactive=False, height=320, elem_id="frame")
            plan = gradio.Image(label="Map", interactive=False, height=320, elem_id="map")
            chances = gradio.Label(label="What it would do", elem_id="chances")
        with gradio.Row():
            keys = {
                name: gradio.Button(label, elem_id=name, min_width=110)
                for name, label in (
                    ("left", "← Left"),
                    ("forward", "↑ Forward"),
                    ("right", "→ Right"),
                    ("stop", "Stop"),
                )
            }
        gradio.Markdown("Keys: arrows drive, space stops, Enter lets it take a step of its own.")
        outputs = [walk, frame, plan, chances, words, told, timer, play_button]
        page.load(arrive, [walk], [*outputs, instruction, house], show_progress="hidden")
        page.load(None, js=KEYS)
        house.input(choose, [walk, house], [*outputs, instruction], show_progress="hidden")
        again_button.click(again, [walk, instruction], outputs, show_progress="hidden")
        tell_button.click(tell, [walk, instruction], outputs, show_progress="hidden")
        step_button.click(step, [walk], outputs, show_progress="hidden", api_name="step")
        play_button.click(play, [walk], outputs, show_progress="hidden")
        timer.tick(tick, [walk], outputs, show_progress="hidden")
        for name, button in keys.items():
            button.click(driven(name), [walk], outputs, show_progress="hidden")
    return page
