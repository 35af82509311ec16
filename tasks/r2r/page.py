"""A page that goes through walks step by step: the map with the agent in it, and the instruction where it looked.

One file that needs nothing else: no script library, no picture, no address. Choosing a step is done by radio buttons
and CSS, so it works without scripts; the few lines of script only let the arrow keys choose from anywhere.
"""

import html
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vlkit.envs.r2r import Episode, Scan
from vlkit.errors import UserError
from vlkit.files import write_atomic
from vlkit.tasks.r2r.drawing import (
    COLOURS,
    STYLES,
    Disc,
    Drawing,
    Label,
    Shape,
    drawing,
)
from vlkit.tasks.r2r.metrics import LABELS, UNITS
from vlkit.tasks.r2r.narration import Step, attention, described, measured, outcome, steps

if TYPE_CHECKING:  # importing the agents imports torch
    from vlkit.tasks.r2r.agents import Walk

UNKNOWN = "<unk>"  # the tokenizer's word for those it does not know
MOST = 3  # words of a step that are named with their weights


def write_page(
    walks: Sequence["Walk"],
    scans: Mapping[str, Scan],
    tokens_of: Callable[[Episode], Sequence[str]],
    path: str | Path,
    title: str,
    labels: Mapping[str, str] | None = None,
) -> None:
    """Writes the page, one section a walk, in their order.

    `tokens_of` gives the words that the model saw, one for each column of the attention; it is not asked for a walk
    without attention. `labels` says what a walk stands for, by episode id: "best of 1021". Raises UserError where
    there is no walk or the file cannot be written, ValueError where words and attention do not fit.
    """
    if not walks:
        raise UserError(f"no walks to show on {path}; name a split that has episodes, or an episode")
    sections = []
    for number, walk in enumerate(walks, start=1):
        words = None if walk.attention is None else tokens_of(walk.episode)
        label = (labels or {}).get(walk.episode.id, "")
        sections.append(_section(walk, scans[walk.episode.scan], words, label, number))
    longest = max(len(walk.actions) for walk in walks)
    text = PAGE.format(
        title=html.escape(title),
        style=_style(longest),
        script=SCRIPT,
        contents="\n".join(_entry(walk, number, labels or {}) for number, walk in enumerate(walks, start=1)),
        sections="\n".join(sections),
    )
    with write_atomic(path) as temporary:
        # JSON can spell half a surrogate pair, which no file can hold: it becomes a question mark.
        temporary.write_bytes(text.encode("utf-8", "replace"))


def _entry(walk: "Walk", number: int, labels: Mapping[str, str]) -> str:
    label = labels.get(walk.episode.id, "")
    name = f"{label}: episode {walk.episode.id}" if label else f"episode {walk.episode.id}"
    return f'<li><a href="#episode-{number}">{html.escape(name)}</a>, {html.escape(outcome(walk))}</li>'


def _section(walk: "Walk", scan: Scan, words: Sequence[str] | None, label: str, number: int) -> str:
    episode = walk.episode
    every_step = steps(walk, scan)
    weights = None if words is None else attention(walk, words)
    places = None if words is None else spans(episode.instruction, words)
    # An unknown word is named as it stands in the instruction, where it can be found there.
    names = words if places is None else [episode.instruction[start:end] for start, end in places]
    panels = []
    for i, step in enumerate(every_step):
        if words is None or names is None or weights is None:
            read, most = html.escape(episode.instruction), ""
        else:
            read = _read(episode.instruction, words, places, weights[i])
            most = f'<p class="most">Most on {_most(names, weights[i])}</p>'
        panels.append(
            f'<div class="panel s{step.number}"><p class="did"><b>Step {step.number} of {len(every_step)}</b> '
            f'{html.escape(step.words)}</p><p class="read" lang="{html.escape(episode.language)}" dir="auto">{read}</p>'
            f"{most}</div>"
        )
    original = ""
    if places is None and words is not None:
        quoted = html.escape(episode.instruction)
        original = (
            f'<blockquote lang="{html.escape(episode.language)}" dir="auto">{quoted}</blockquote>'
            '<p class="note">Below, the words as the agent read them.</p>'
        )
    success = "success" if walk.metrics.get("success", 0.0) > 0 else "failure"
    return SECTION.format(
        number=number,
        label=f'<span class="label">{html.escape(label)}</span> ' if label else "",
        id=html.escape(episode.id),
        scan=html.escape(episode.scan),
        path_id=html.escape(episode.path_id),
        language=html.escape(episode.language),
        success=success,
        outcome=html.escape(outcome(walk)),
        measured=html.escape(measured(walk)),
        map=_svg(drawing(walk, scan), described(walk, scan), number),
        choices="\n".join(_choice(step, number) for step in every_step),
        original=original,
        panels="\n".join(panels),
        metrics="\n".join(_metric(name, walk.metrics[name]) for name in _ordered(walk.metrics)),
        head="" if words is None else '<th scope="col">looked most at</th>',
        steps="\n".join(_row(step, i, walk, scan, names, weights) for i, step in enumerate(every_step)),
    )


def spans(instruction: str, words: Sequence[str]) -> list[tuple[int, int]] | None:
    """Where each of the words that a model saw stands in the instruction; None where they do not follow one another.

    The words may be in lower case, in Unicode's NFKC form, unknown ones `<unk>`, and the instruction may go on.
    """
    found = []
    at = 0
    for word in words:
        while at < len(instruction) and (instruction[at].isspace() or unicodedata.category(instruction[at])[0] == "C"):
            at += 1
        end = at + len(word)
        if word == UNKNOWN and instruction[at:end] != UNKNOWN:
            end = at + _word_length(instruction[at:])
        elif unicodedata.normalize("NFKC", instruction[at:end]).lower() != word.lower():
            return None
        if end == at:
            return None
        found.append((at, end))
        at = end
    return found


def _word_length(text: str) -> int:
    """Letters of the word that a text begins with, by the rule of vlkit.text."""
    if number := re.match(r"\d+\.\d+", text):
        return number.end()
    count = 0
    while count < len(text) and unicodedata.category(text[count])[0] in "LMN":
        count += 1
    return count or min(1, len(text))


def _read(instruction: str, words: Sequence[str], places: Sequence[tuple[int, int]] | None, weights: np.ndarray) -> str:
    """The instruction with each word shaded by its share of the step's largest weight."""
    highest = max(float(weights.max()), 1e-12)
    if places is None:
        return " ".join(_word(word, word, float(w), highest) for word, w in zip(words, weights, strict=True))
    parts, at = [], 0
    for word, (start, end), weight in zip(words, places, weights.tolist(), strict=True):
        parts += [html.escape(instruction[at:start]), _word(instruction[start:end], word, weight, highest)]
        at = end
    rest = html.escape(instruction[at:])
    return "".join(parts) + (
        f'<span class="unread" title="the agent reads no further">{rest}</span>' if rest.strip() else ""
    )


def _word(text: str, word: str, weight: float, highest: float) -> str:
    unknown = ' class="unknown"' if word == UNKNOWN else ""
    title = f"{weight:.3f}{', a word the agent does not know' if unknown else ''}"
    return (
        f'<span{unknown} data-weight="{weight:.5g}" style="--w:{weight / highest:.3f}" title="{title}">'
        f"{html.escape(text)}</span>"
    )


def _most(words: Sequence[str], weights: np.ndarray) -> str:
    first = np.argsort(-weights, kind="stable")[:MOST].tolist()
    return ", ".join(f"“{html.escape(words[i])}” {weights[i]:.2f}" for i in first)


def _choice(step: Step, number: int) -> str:
    checked = " checked" if step.number == 1 else ""
    return (
        f'<label title="{html.escape(step.words)}"><input type="radio" name="step-{number}" class="s{step.number}" '
        f'autocomplete="off" aria-label="step {step.number}: {html.escape(step.words)}"{checked}>{step.number}</label>'
    )


def _ordered(metrics: Mapping[str, float]) -> list[str]:
    return [name for name in UNITS if name in metrics] + sorted(set(metrics) - set(UNITS))


def _metric(name: str, value: float) -> str:
    shown = f"{value:.2f}"
    if UNITS.get(name) == "m":
        shown += " m"
    elif name.endswith("success"):
        shown = "yes" if value > 0 else "no"
    elif name == "steps":
        shown = f"{value:.0f}"
    return f'<tr><th scope="row">{html.escape(LABELS.get(name, name))}</th><td>{shown}</td></tr>'


def _row(step: Step, i: int, walk: "Walk", scan: Scan, names: Sequence[str] | None, weights: np.ndarray | None) -> str:
    known = len(walk.episode.path) > 1
    away = f"{scan.distances[scan.index[step.before[0]], scan.index[walk.episode.goal]]:.1f} m" if known else "unknown"
    looked = "" if names is None or weights is None else f"<td>{_most(names, weights[i])}</td>"
    return (
        f'<tr><th scope="row">{step.number}</th><td>{_viewpoint(step.before[0])}</td>'
        f"<td>{away}</td><td>{html.escape(step.words)}</td>{looked}</tr>"
    )


def _viewpoint(name: str) -> str:
    """Matterport3D's names have 32 digits, of which the first tell them apart."""
    shown = name if len(name) <= 12 else f"{name[:8]}…"
    return f'<code title="{html.escape(name)}">{html.escape(shown)}</code>'


def _svg(picture: Drawing, description: str, number: int) -> str:
    left, top, right, bottom = picture.frame
    name = html.escape(description)
    box = f'x="{left:g}" y="{top:g}" width="{right - left:g}" height="{bottom - top:.1f}"'
    agents = (
        f'<g class="agent-at s{k}">{"".join(map(_element, shapes))}</g>' for k, shapes in enumerate(picture.agents, 1)
    )
    return "\n".join(
        [
            f'<svg class="map" viewBox="0 0 {picture.width:g} {picture.height:.1f}" role="img" aria-label="{name}">',
            f'<clipPath id="frame-{number}"><rect {box}/></clipPath>',
            f'<g clip-path="url(#frame-{number})">',
            *map(_element, picture.inside),
            *agents,
            "</g>",
            *map(_element, picture.outside),
            "</svg>",
        ]
    )


def _element(shape: Shape) -> str:
    if isinstance(shape, Disc):
        return f'<circle class="{shape.style}" cx="{shape.centre[0]:.1f}" cy="{shape.centre[1]:.1f}" r="{shape.radius:g}"/>'
    if isinstance(shape, Label):
        return (
            f'<text class="{shape.style}" x="{shape.place[0]:.1f}" y="{shape.place[1]:.1f}" '
            f'text-anchor="{shape.anchor}">{html.escape(shape.text)}</text>'
        )
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in shape.points)
    return f'<{"polygon" if shape.closed else "polyline"} class="{shape.style}" points="{points}"/>'


def _style(longest: int) -> str:
    """The page's CSS, with the map's styles and one rule for each step that can be chosen."""
    light, dark = (
        "".join(f"--{name}:{colours[i]};" for name, colours in (COLOURS | PAGE_COLOURS).items()) for i in (0, 1)
    )
    shapes = []
    for name, style in STYLES.items():
        rules = [f"fill:{f'var(--{style.fill})' if style.fill else 'none'}"]
        if style.stroke:
            rules.append(f"stroke:var(--{style.stroke});stroke-width:{style.width:g}")
            rules.append(f"stroke-linejoin:round;stroke-linecap:{'butt' if style.butt else 'round'}")
        if style.dashes:
            rules.append(f"stroke-dasharray:{' '.join(f'{dash:g}' for dash in style.dashes)}")
        if style.size:
            rules.append(f"font-size:{style.size:g}px;font-weight:{700 if style.bold else 400}")
        if style.opacity < 1:
            rules.append(f"opacity:{style.opacity:g}")
        shapes.append(f".map .{name}{{{';'.join(rules)}}}")
    numbers = range(1, longest + 1)
    panel, agent = (
        ",".join(f".episode:has(.s{k}:checked) {kind}.s{k}" for k in numbers) for kind in (".panel", ".agent-at")
    )
    chosen = f"{panel}{{visibility:visible}}\n{agent}{{display:inline}}" if longest else ""
    return CSS.format(light=light, dark=dark, shapes="\n".join(shapes), chosen=chosen)


PAGE_COLOURS = {  # as drawing.COLOURS
    "paper": ("#f4f5f7", "#0e1013"),
    "hot": ("255 176 64", "196 104 10"),
    "good": ("#00694d", "#4fd9ae"),
    "bad": ("#a34700", "#ff9f59"),
}

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>{title}</title>
<style>
{style}
</style>
</head>
<body>
<header>
<h1>{title}</h1>
<p>Choose a step, or press ← and →: the map shows where the agent stands before it, and the shading of the words where
it looks in the instruction, relative to the step's largest weight. Point at a word for its weight.</p>
<nav aria-label="episodes"><ul>
{contents}
</ul></nav>
</header>
<main>
{sections}
</main>
<script>
{script}
</script>
</body>
</html>
"""

SECTION = """<section class="episode" id="episode-{number}" aria-labelledby="name-{number}">
<h2 id="name-{number}">{label}Episode {id} <span class="{success}">{outcome}</span></h2>
<p class="note">building {scan} · path {path_id} · language {language} · {measured}</p>
<div class="choices" role="radiogroup" aria-label="step">
{choices}
</div>
{original}
<div class="panels">
{panels}
</div>
<div class="wide">{map}</div>
<div class="columns">
<div class="wide"><table class="steps">
<caption>Steps</caption>
<thead><tr><th scope="col">step</th><th scope="col">from</th><th scope="col">to the goal</th><th scope="col">what it did</th>{head}</tr></thead>
<tbody>
{steps}
</tbody>
</table></div>
<table class="metrics">
<caption>Measures</caption>
<tbody>
{metrics}
</tbody>
</table>
</div>
</section>"""

CSS = """:root{{{light}}}
@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}
*{{box-sizing:border-box}}
body{{margin:0 auto;padding:1.5rem;max-width:68rem;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif}}
h1{{font-size:1.6rem;margin:0 0 .5rem}}
h2{{font-size:1.25rem;margin:0}}
a{{color:inherit}}
nav ul{{padding-left:1.2rem}}
.episode{{background:var(--ground);border:1px solid var(--frame);border-radius:.6rem;padding:1.2rem;margin:1.5rem 0}}
.label{{background:var(--ink);color:var(--ground);border-radius:.3rem;padding:.1rem .5rem;font-size:1rem}}
.label::first-letter{{text-transform:uppercase}}
.label{{display:inline-block}}
.success,.failure{{font-weight:400}}
.success{{color:var(--good)}}
.failure{{color:var(--bad)}}
.note,.most,.did{{margin:.2rem 0 .8rem;color:var(--faint)}}
.did b{{color:var(--ink);margin-right:.4rem}}
.wide{{overflow-x:auto}}
.map{{display:block;width:100%;min-width:40rem;height:auto;font-family:inherit}}
.map text{{dominant-baseline:central}}
{shapes}
.agent-at{{display:none}}
.columns{{display:grid;grid-template-columns:1fr auto;gap:2rem;margin-top:1rem}}
.choices{{display:flex;flex-wrap:wrap;gap:.3rem;margin:.8rem 0}}
.choices label{{border:1px solid var(--frame);border-radius:.3rem;min-width:2.2rem;padding:.15rem .4rem;text-align:center;cursor:pointer;font-variant-numeric:tabular-nums}}
.choices label:hover{{border-color:var(--walked)}}
.choices label:has(:checked){{background:var(--walked);border-color:var(--walked);color:var(--on-walked);font-weight:700}}
.choices label:has(:focus-visible){{outline:2px solid var(--ink);outline-offset:2px}}
.choices input{{position:absolute;opacity:0;pointer-events:none}}
.panels{{display:grid}}
.panel{{grid-area:1/1;visibility:hidden}}
.read{{margin:0 0 .6rem;font-size:1.1rem;line-height:1.75}}
.read span{{border-radius:.25rem;padding:.12em .1em;background:rgb(var(--hot)/var(--w,0))}}
.read .unknown{{text-decoration:underline dotted}}
.read .unread{{color:var(--faint)}}
blockquote{{margin:0 0 .6rem;padding-left:.8rem;border-left:3px solid var(--frame)}}
table{{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums;align-self:start}}
caption{{text-align:left;font-weight:700;padding-bottom:.3rem}}
th,td{{text-align:left;font-weight:400;padding:.15rem .9rem .15rem 0;border-top:1px solid var(--frame);vertical-align:top}}
thead th{{color:var(--faint);border-top:0}}
.metrics td,.steps tbody th{{text-align:right}}
.steps td:not(:last-child){{white-space:nowrap}}
code{{font-size:.85em;overflow-wrap:anywhere}}
{chosen}
@supports not selector(:has(*)){{.panels{{display:block}}.panel{{visibility:visible}}.choices{{display:none}}}}
@media (max-width:46rem){{body{{padding:.6rem}}.columns{{grid-template-columns:100%}}.episode{{padding:.7rem}}}}
@media print{{
*{{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
body{{max-width:none;padding:0;font-size:11pt;background:none}}
header p,nav,.choices{{display:none}}
.episode{{display:flex;flex-direction:column;border:0;padding:0;margin:0}}
.episode>*{{order:2}}
.episode>h2,h2+.note{{order:0}}
.wide{{overflow:visible}}
.episode>.wide{{order:1}}
.most{{display:none}}
.episode+.episode{{break-before:page}}
.panels{{display:block}}
.panel{{visibility:visible;break-inside:avoid}}
.agent-at{{display:none!important}}
.read{{font-size:1rem;line-height:1.5}}
tr,.map{{break-inside:avoid}}
.map{{min-width:0}}
}}"""

SCRIPT = """addEventListener("keydown", (event) => {
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  const held = event.altKey || event.ctrlKey || event.metaKey || event.shiftKey;
  if (!by || held || event.target.closest("input")) return;
  const episodes = [...document.querySelectorAll(".episode")];
  const seen = episodes.find((each) => each.getBoundingClientRect().bottom > innerHeight / 2);
  const choices = [...(seen ?? episodes.at(-1)).querySelectorAll("input")];
  const next = choices[choices.findIndex((each) => each.checked) + by];
  if (next) next.checked = true;
});"""
