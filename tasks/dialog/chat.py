"""`vlkit chat RUN IMAGE`: talks about a picture in the terminal."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from torch import Tensor

from vlkit import config
from vlkit.errors import UserError
from vlkit.files import write_atomic
from vlkit.images import fitted, read_image
from vlkit.judging import parsed, text_of
from vlkit.tasks.dialog.evaluation import trained
from vlkit.tasks.dialog.settings import Config
from vlkit.tasks.dialog.state import Decoding, DialogState, Talker

HELP = """Type a question. What begins with / is a command:
  /state            what was said, and what each answer hung on
  /answer N TEXT    put another answer to turn N, and ask again what was said behind it
  /edit N TEXT      ask something else in turn N, and ask again what was said behind it
  /drop N           drop turn N
  /new              begin anew with the same picture
  /save FILE        write the talk as JSON
  /help, /quit"""


@dataclass(frozen=True)
class Options:
    """Talk about a picture with a trained model."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """folder that `vlkit train` wrote"""
    image: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="IMAGE")]
    """the picture"""
    caption: str = ""
    """what is told of it before the first question"""
    replay: Path | None = None
    """a talk that was saved, whose questions are asked first"""
    decoding: Decoding = "beam"
    """how a generative decoder chooses its words"""
    temperature: float = 1.0
    """of sampling"""
    max_turns: int | None = None
    """so many of the newest turns are remembered; as in training where it is not given"""
    max_words: int | None = None
    """so many words of the past are remembered"""
    seed: int = 0
    """of sampling"""
    device: Literal["cpu", "cuda", "mps"] | None = None
    """where to run; the GPU where there is one"""

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"temperature = {self.temperature}, expected above 0")


def main(arguments: Sequence[str]) -> int:
    """The command: reads questions line by line until /quit or the end of the input."""
    options = config.load(Options, None, arguments, prog="vlkit chat")
    run = trained(options.run, options.device)
    talker = Talker(run, options.decoding, options.temperature, options.seed)
    pixels = shown(options.image, run.settings)
    if options.replay is not None:
        document = parsed(text_of(options.replay), str(options.replay), line=None)
        if not isinstance(document, dict):
            raise UserError(f"{options.replay} is no talk that vlkit exported")
        state = DialogState.from_json(talker, pixels, document)
        _say(told(state))
    else:
        state = DialogState(talker, pixels, options.caption, options.max_turns, options.max_words)
    typed = sys.stdin.isatty()
    if typed:
        _say(HELP)
    while True:
        if typed:
            sys.stdout.write("> ")
            sys.stdout.flush()
        line = sys.stdin.readline()
        if not line or line.strip() == "/quit":
            return 0
        if not line.strip():
            continue
        try:
            _say(answered(state, line.strip()))
        except UserError as error:
            _say(str(error))


def shown(image: Path, settings: Config) -> Tensor:
    """A picture as the model sees it: (size, size, 3) uint8. UserError where it cannot be read."""
    pixels = fitted(read_image(image), settings.size, settings.fit)
    return (pixels * 255).round().to(torch.uint8).permute(1, 2, 0)


def answered(state: DialogState, line: str) -> str:
    """What a line brings: an answer, or what a command shows."""
    if not line.startswith("/"):
        reply = state.ask(line)
        chance = reply.candidates[0][1]
        note = f"  (does not know: {', '.join(reply.unknown)})" if reply.unknown else ""
        return f"{reply.answer} ({chance:.0%}){note}"
    name, _, rest = line[1:].partition(" ")
    if name == "help":
        return HELP
    if name == "state":
        return told(state)
    if name == "new":
        state.clear()
        return "begun anew"
    if name == "save":
        if not rest.strip():
            raise UserError("name a file: /save FILE")
        try:
            return f"written: {save(state, Path(rest.strip()))}"
        except (OSError, ValueError) as error:
            raise UserError(f"cannot write {rest.strip()!a}: {error}; name another file") from error
    if name in ("answer", "edit", "drop"):
        number, _, text = rest.strip().partition(" ")
        if not number.isdecimal():
            raise UserError(f"name a turn by its number: /{name} N{'' if name == 'drop' else ' TEXT'}")
        place = int(number) - 1
        if name == "drop":
            state.delete(place)
        elif name == "answer":
            state.edit(place, answer=text)
        else:
            state.edit(place, question=text)
        return told(state)
    raise UserError(f"there is no command /{name}; /help lists them")


def told(state: DialogState) -> str:
    """What was said, and what each answer hung on most."""
    lines = [f"   {state.caption}"] if state.caption else []
    for i, said in enumerate(state.turns, start=1):
        focus = said.reply.focus
        hung = "" if focus is None else "  [caption]" if focus == 0 else f"  [turn {focus}]"
        put = " (put there)" if said.corrected else f" ({said.reply.candidates[0][1]:.0%})"
        lines.append(f"{i:2d} {said.question}  {said.answer}{put}{hung}")
    return "\n".join(lines) or "nothing was said yet"


def save(state: DialogState, file: Path) -> Path:
    """Writes the talk as JSON; returns the file."""
    with write_atomic(file) as temporary:
        temporary.write_text(json.dumps(state.to_json(), indent=1) + "\n", encoding="utf-8")
    return file


def _say(text: Any) -> None:
    print(text, flush=True)  # noqa: T201
