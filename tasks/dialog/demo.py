"""`vlkit demo dialog RUN`: a web page on which one talks about a picture, sees what each answer hung on, and changes what was
said.
"""

import html
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from vlkit import config
from vlkit.errors import UserError
from vlkit.image_sets import opened
from vlkit.saliency import glowing
from vlkit.tasks.dialog.chat import save, shown
from vlkit.tasks.dialog.evaluation import EvalOptions, Trained, judged_dialogs, trained
from vlkit.tasks.dialog.state import MOST_LETTERS, SHOWN, Decoding, DialogState, Talker
from vlkit.webpage import PageOptions, serve

SAMPLES = 12  # pictures to begin with
WIDE = 448  # pixels of the picture with attention
KEPT_S = (3600, 3600)  # how often uploads and pictures are looked through, and how old they get


@dataclass(frozen=True, kw_only=True)
class Options(PageOptions):
    """A web page on which one talks with a trained model about pictures."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """folder that `vlkit train` wrote"""
    split: str = "test"
    """whose pictures are offered to begin with"""
    decoding: Decoding = "beam"
    """how a generative decoder chooses its words"""


def main(arguments: Sequence[str]) -> int:
    """`vlkit demo dialog RUN [--port N]`: serves the page until it is interrupted."""
    options = config.load(Options, None, arguments, prog="vlkit demo dialog")
    run = trained(options.run, options.device)
    page = built_page(Talker(run, options.decoding), samples(run, options.split))
    serve(page, options, str(options.run))
    return 0


def samples(run: Trained, split: str) -> list[tuple[Path, str]]:
    """Some pictures with their captions, where the run's data is still there and lies in a folder."""
    try:
        dialogs = judged_dialogs(run, EvalOptions(runs=(run.folder,), split=split))
    except UserError:
        return []
    folder = run.settings.images or dialogs.images
    if not folder.is_dir():
        return []
    some = dialogs.dialogs[:: max(len(dialogs.dialogs) // SAMPLES, 1)][:SAMPLES]
    with opened(folder) as files:
        found = [(files.find(dialog.image), dialog.caption) for dialog in some]
    return [(folder / path, caption) for path, caption in found if path is not None]


@dataclass(frozen=True)
class View:
    """What the page shows of a talk."""

    messages: list[dict[str, str]]  # of the chat
    chances: dict[str, float]  # of the last question's likeliest answers
    looked: np.ndarray | None  # the picture, glowing where the model looked for it
    past: dict[str, float]  # how much each thing that was said counted for it
    tracked: str  # what the next question hangs on
    state: dict[str, Any]  # the talk as JSON
    turns: list[str]  # to choose one to change


def view(state: DialogState | None) -> View:
    """What is shown of a talk; nothing where there is none."""
    if state is None:
        return View([], {}, None, {}, "no picture yet", {}, [])
    messages = []
    for said in state.turns:
        note = " (put there)" if said.corrected else ""
        # Markup is words like any other, and is shown as it was typed.
        messages.append({"role": "user", "content": html.escape(said.question)})
        messages.append({"role": "assistant", "content": html.escape(said.answer + note)})
    turns = [f"{i}. {said.question}" for i, said in enumerate(state.turns, start=1)]
    if not state.turns:
        return View(messages, {}, None, {}, tracked(state), state.to_json(), turns)
    reply = state.turns[-1].reply
    picture = state.pixels.numpy()
    weights = np.ones((1, 1)) if reply.patches is None else reply.patches
    told = {_short(fact, state): share for fact, share in enumerate(reply.past) if fact or state.caption}
    looked = glowing(picture, weights, width=WIDE)
    return View(messages, dict(reply.candidates), looked, told, tracked(state), state.to_json(), turns)


def tracked(state: DialogState) -> str:
    """What the next question hangs on, and what the last one was about, in a line."""
    facts = state.remembered()
    kept = ["the caption"] if 0 in facts else []
    turns = [fact for fact in facts if fact]
    kept += [f"turns {turns[0]} to {turns[-1]}" if len(turns) > 1 else f"turn {turns[0]}"] if turns else []
    focus = state.turns[-1].reply.focus if state.turns else None
    about = "" if focus is None else f"; in focus: {_short(focus, state)}"
    return f"remembers {' and '.join(kept) or 'nothing yet'}{about}"


def _short(fact: int, state: DialogState) -> str:
    text = state.told(fact)
    text = text if len(text) <= 40 else f"{text[:38]}..."
    return f"{'caption' if fact == 0 else fact}: {text}"


def built_page(talker: Talker, pictures: Sequence[tuple[Path, str]]) -> Any:
    """The page, a gradio Blocks that is not yet served."""
    import gradio

    run = talker.run
    exported = tempfile.TemporaryDirectory(prefix="vlkit-")  # removed with the page

    def shown_of(state: DialogState | None) -> list[Any]:
        found = view(state)
        choices = gradio.Dropdown(choices=found.turns, value=found.turns[-1] if found.turns else None)
        file = None if state is None else str(save(state, Path(exported.name) / f"dialog-{id(state)}.json"))
        export = gradio.DownloadButton(value=file, interactive=file is not None)
        shown = [found.messages, found.chances, found.looked, found.past, found.tracked, found.state, choices]
        return [state, *shown, export]

    def tried(state: DialogState | None, act: Any) -> list[Any]:
        """What is shown after something was done; where it cannot be done, why, and all stays as it was."""
        # A visitor's clicks wait for each other: a talk is one thing.
        with nullcontext() if state is None else state.lock:
            try:
                state = act(state)
            except UserError as error:
                gradio.Warning(html.escape(str(error)), title="Not done")
            return shown_of(state)

    def begin(state: DialogState | None, picture: str | None, caption: str) -> list[Any]:
        def act(_: DialogState | None) -> DialogState | None:
            if picture is None:
                return None
            return DialogState(talker, shown(Path(picture), run.settings), caption or "")

        return tried(state, act)

    def ask(state: DialogState | None, question: str) -> list[Any]:
        def act(own: DialogState | None) -> DialogState:
            if own is None:
                raise UserError("choose or upload a picture first")
            own.ask(question or "")
            return own

        before = 0 if state is None else len(state.turns)
        found = tried(state, act)
        done = state is not None and len(state.turns) > before
        return [*found, "" if done else question]  # what was not asked can be mended

    def change(state: DialogState | None, turn: str | None, question: str, answer: str) -> list[Any]:
        def act(own: DialogState | None) -> DialogState:
            place = chosen(own, turn)
            assert own is not None
            if not (question or "").strip() and not (answer or "").strip():
                raise UserError("type another question or another answer for the turn")
            own.edit(place, (question or "").strip() or None, (answer or "").strip() or None)
            return own

        return [*tried(state, act), "", ""]

    def drop(state: DialogState | None, turn: str | None) -> list[Any]:
        def act(own: DialogState | None) -> DialogState:
            place = chosen(own, turn)
            assert own is not None
            own.delete(place)
            return own

        return tried(state, act)

    def clear(state: DialogState | None) -> list[Any]:
        def act(own: DialogState | None) -> DialogState | None:
            if own is not None:
                own.clear()
            return own

        return tried(state, act)

    with gradio.Blocks(title="vlkit: talk about a picture", analytics_enabled=False, delete_cache=KEPT_S) as page:
        # Each visitor's own: gradio keeps it by session, for an hour.
        state = gradio.State(None, time_to_live=3600)
        gradio.Markdown(f"# Talk about a picture\n{run.folder.name}, {run.settings.encoder}, {run.settings.decoder}")
        with gradio.Row():
            with gradio.Column(min_width=280):
                picture = gradio.Image(type="filepath", label="Picture", sources=["upload", "clipboard"], height=300)
                caption = gradio.Textbox(
                    label="Caption (or none; Enter begins anew with it)", max_length=MOST_LETTERS, elem_id="caption"
                )
                looked = gradio.Image(label="Where it looked last", interactive=False, height=300)
            with gradio.Column(min_width=280):
                chat = gradio.Chatbot(
                    label="What was said",
                    height=380,
                    sanitize_html=True,
                    render_markdown=False,
                    elem_id="chat",
                )
                question = gradio.Textbox(label="Question", elem_id="question", max_lines=3)
                with gradio.Row():
                    button = gradio.Button("Ask", variant="primary", elem_id="ask", min_width=80)
                    clear_button = gradio.Button("Begin anew", elem_id="clear", min_width=80)
                    export_button = gradio.DownloadButton("Export", elem_id="export", min_width=80, interactive=False)
                tracked_line = gradio.Textbox(label="Tracked", interactive=False, elem_id="tracked", lines=2)
            with gradio.Column(min_width=280):
                chances = gradio.Label(label="Likeliest answers", num_top_classes=SHOWN, elem_id="chances")
                past = gradio.Label(label="What the answer hung on", num_top_classes=SHOWN, elem_id="past")
                with gradio.Accordion("Change what was said", open=True):
                    turn = gradio.Dropdown(label="Turn", choices=[], elem_id="turn")
                    new_question = gradio.Textbox(
                        label="Ask this instead", max_length=MOST_LETTERS, elem_id="new-question"
                    )
                    new_answer = gradio.Textbox(
                        label="Put this answer there", max_length=MOST_LETTERS, elem_id="new-answer"
                    )
                    with gradio.Row():
                        change_button = gradio.Button("Change, ask again", elem_id="change", min_width=80)
                        drop_button = gradio.Button("Drop the turn", elem_id="drop", min_width=80)
        with gradio.Accordion("The talk as JSON", open=False):
            document = gradio.JSON(elem_id="state")
        outputs = [state, chat, chances, looked, past, tracked_line, document, turn, export_button]
        for event in (picture.change, caption.submit):
            event(begin, [state, picture, caption], outputs, show_progress="hidden")
        button.click(ask, [state, question], [*outputs, question], api_name="ask")
        question.submit(ask, [state, question], [*outputs, question])
        change_button.click(change, [state, turn, new_question, new_answer], [*outputs, new_question, new_answer])
        drop_button.click(drop, [state, turn], outputs)
        clear_button.click(clear, [state], outputs)
        chat.clear(clear, [state], outputs)
        if pictures:
            rows = [[str(path), text] for path, text in pictures]
            gradio.Examples(rows, [picture, caption], label="Pictures that it never saw in training")
    return page


def chosen(state: DialogState | None, turn: str | None) -> int:
    """The place of the turn that was chosen. UserError where none was."""
    if state is None or not turn:
        raise UserError("choose a turn first")
    return int(turn.partition(".")[0]) - 1
