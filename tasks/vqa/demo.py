"""`vlkit demo vqa RUN`: a web page on which one asks about a picture and sees what the model looked at.

Beside each answer stands what the model would say without the picture: where the two agree, it need not have looked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro

from vlkit import config
from vlkit.batches import moved
from vlkit.errors import UserError
from vlkit.image_sets import ImageSet, opened
from vlkit.images import fitted, read_image
from vlkit.saliency import glowing
from vlkit.tasks.vqa.evaluation import EvalOptions, Trained, asked_of, test_examples, trained
from vlkit.tasks.vqa.examples import Example, Examples
from vlkit.tasks.vqa.training import Answerable
from vlkit.webpage import PageOptions, serve

MOST_LETTERS = 500  # of a question, and of each choice
MOST_CHOICES = 50  # typed
SHOWN = 5  # answers with their chances
SAMPLES = 12  # pictures to begin with
WIDE = 448  # pixels of the picture with attention


@dataclass(frozen=True, kw_only=True)
class Options(PageOptions):
    """A web page on which one asks a trained model about pictures."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """folder that `vlkit train` wrote"""
    split: str = "test"
    """whose pictures are offered to begin with"""


@dataclass(frozen=True)
class Answer:
    """What the page shows."""

    chances: dict[str, float]  # of the likeliest answers
    unseen: dict[str, float]  # the same without the picture
    picture: np.ndarray  # (height, width, 3) uint8, glowing where the model looked
    told: str  # the whole in a sentence


def main(arguments: Sequence[str]) -> int:
    """`vlkit demo vqa RUN [--port N]`: serves the page until it is interrupted."""
    options = config.load(Options, None, arguments, prog="vlkit demo vqa")
    run = trained(options.run, options.device)
    blind = blind_run(run, options.device)
    page = built_page(run, blind, samples(run, options.split))
    serve(page, options, str(options.run))
    return 0


def blind_run(run: Trained, device: str | None) -> Trained | None:
    """The arm that was trained on questions alone, where there is one."""
    folder = run.folder / "arms" / "question_only"
    return trained(folder, device) if (folder / "best").is_dir() else None


def samples(run: Trained, split: str) -> list[tuple[Path, str, tuple[str, ...]]]:
    """Some pictures with a question each and its choices, where the run's data is still there and lies in a folder."""
    try:
        options = EvalOptions(runs=(run.folder,), split=split)
        examples = test_examples(run, options)
        folder = run.settings.images or examples.images
        if run.settings.features is not None or not folder.is_dir():
            return []
        some = examples.examples[:: max(len(examples.examples) // SAMPLES, 1)][:SAMPLES]
        few = asked_of(run, options, Examples(split, examples.files, some, folder))
    except UserError:
        return []
    with opened(folder) as files:
        found = [(files.find(example.image), example) for example in few.examples]
    # In files the right choice may come first.
    return [(folder / path, each.text, tuple(sorted(each.choices))) for path, each in found if path is not None]


def asked(run: Trained, picture: str | Path | None, question: str, choices: str) -> Answerable:
    """What was typed as a question that a run can answer; UserError for what cannot be asked."""
    text = " ".join(question.split())
    if not text:
        raise UserError("type a question first")
    if len(text) > MOST_LETTERS:
        raise UserError(f"the question has {len(text)} letters; at most {MOST_LETTERS} are read")
    if picture is None:
        raise UserError("choose or upload a picture first")
    typed = tuple(dict.fromkeys(line.strip() for line in choices.splitlines() if line.strip()))
    if len(typed) == 1:
        raise UserError("there is one choice; type two or more, each on a line of its own, or none")
    if len(typed) > MOST_CHOICES or any(len(each) > MOST_LETTERS for each in typed):
        raise UserError(f"at most {MOST_CHOICES} choices of at most {MOST_LETTERS} letters are read")
    if run.vocabulary:
        typed = ()  # it knows common answers alone
    elif not typed:
        typed = run.known
        if not typed:
            raise UserError("this model chooses among given answers; type two or more, each on a line of its own")
    shown = fitted(read_image(picture), run.settings.size, run.settings.fit)
    pixels = (shown * 255).round().to(torch.uint8).permute(1, 2, 0)[None].numpy()
    one = Examples("typed", (), (Example("typed", "picture", text, typed),), Path())
    return Answerable(
        one, ImageSet(("picture",), pixels, None, {}), run.tokenizer, run.settings.max_words, run.vocabulary
    )


def answer(run: Trained, blind: Trained | None, picture: str | Path | None, question: str, choices: str = "") -> Answer:
    """Answers a typed question. UserError for what cannot be asked, and for a picture that cannot be read."""
    if run.model.region is not None:
        raise UserError("this model points at parts of pictures; name a run that answers in words")
    if run.settings.features is not None:
        raise UserError("this model reads features, not pictures; name a run that was trained from pixels")
    chances, picture_shown, words = _answered(run, asked(run, picture, question, choices), run.settings.blank)
    other = blind or run
    blank = (*other.settings.blank, "image")
    unseen, _, _ = _answered(other, asked(other, picture, question, choices), blank)
    first, guess = next(iter(chances)), next(iter(unseen))
    how = "a model trained on questions alone" if blind else "the same model before a grey picture"
    agreed = "says the same" if first == guess else f"says {guess}"
    told = f"{first} ({chances[first]:.0%}). Without the picture {how} {agreed} ({unseen[guess]:.0%})."
    if words:
        told += f" Words it does not know: {', '.join(words)}."
    return Answer(chances, unseen, picture_shown, told)


@torch.inference_mode()
def _answered(run: Trained, one: Answerable, blank: Sequence[str]) -> tuple[dict[str, float], np.ndarray, list[str]]:
    """Chances of the likeliest answers, the picture with what was looked at, and the words that are not known."""
    device = next(run.model.parameters()).device
    batch = moved(one.batch(np.array([0]), tuple(blank)), device)
    seen = run.model.see(batch.images)
    found = run.model.answer(seen, batch)
    scores = found.scores[0]
    chances = (scores.sigmoid() if run.vocabulary else scores.softmax(0)).cpu()
    names = run.vocabulary or one.examples[0].choices
    order = chances.argsort(descending=True).tolist()[:SHOWN]
    picture = one.images.read(np.array([0]))[0].numpy()
    look = found.weights.get("patches")
    weights = np.ones(seen.shape) if look is None else look[0].float().cpu().reshape(seen.shape).numpy()
    text = one.examples[0].text
    unknown = [word for word in text.lower().split() if run.tokenizer.unknown in run.tokenizer.encode(word)]
    return {names[i]: float(chances[i]) for i in order}, glowing(picture, weights, width=WIDE), unknown


def built_page(run: Trained, blind: Trained | None, pictures: Sequence[tuple[Path, str, tuple[str, ...]]]) -> Any:
    """The page, a gradio Blocks that is not yet served."""
    import gradio

    def ask(picture: str | None, question: str, choices: str) -> tuple[dict[str, float], Any, dict[str, float], str]:
        try:
            found = answer(run, blind, picture, question or "", choices or "")
        except UserError as error:
            gradio.Warning(str(error), title="Not answered")
            return {}, None, {}, ""
        return found.chances, found.picture, found.unseen, found.told

    with gradio.Blocks(title="vlkit: ask about a picture", analytics_enabled=False) as page:
        gradio.Markdown(f"# Ask about a picture\n{run.folder}, {run.settings.fusion}, {run.settings.image_encoder}")
        with gradio.Row():
            with gradio.Column():
                picture = gradio.Image(type="filepath", label="Picture", sources=["upload", "clipboard"], height=320)
                question = gradio.Textbox(label="Question", max_length=MOST_LETTERS, elem_id="question")
                choices = gradio.Textbox(
                    label="Choices, one a line (or none)",
                    lines=4,
                    max_lines=8,
                    elem_id="choices",
                    visible=not run.vocabulary,
                )
                button = gradio.Button("Ask", variant="primary", elem_id="ask")
            with gradio.Column():
                told = gradio.Textbox(label="Answer", interactive=False, elem_id="told", lines=2)
                chances = gradio.Label(label="With the picture", num_top_classes=SHOWN, elem_id="chances")
                looked = gradio.Image(label="Where it looked", interactive=False, height=320)
                unseen = gradio.Label(label="Without the picture", num_top_classes=SHOWN, elem_id="unseen")
        inputs, outputs = [picture, question, choices], [chances, looked, unseen, told]
        button.click(ask, inputs, outputs, api_name="ask")
        question.submit(ask, inputs, outputs)
        if pictures:
            rows = [[str(path), text, "\n".join(own)] for path, text, own in pictures]
            gradio.Examples(rows, inputs, label="Pictures that it never saw in training")
    return page
