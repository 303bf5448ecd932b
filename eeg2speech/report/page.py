"""The page: the leaderboard as one HTML file with figures and sound in it; it needs no network."""

from __future__ import annotations

import base64
import html
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from string import Template
from typing import Any

from eeg2speech.errors import BadInput
from eeg2speech.records.files import write_atomically
from eeg2speech.records.intervals import RESAMPLES
from eeg2speech.records.store import EXAMPLES, RecordStore
from eeg2speech.report.blocks import Block, Code, Figure, Heading, Text
from eeg2speech.report.document import SUITE, blocks
from eeg2speech.report.tables import Table, table_to_html, text_to_html

FIRST_CLIPS = ("mixture", "target", "interferer")
"""Clips in the order of the players; the systems follow by name."""

PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>EEG2Speech leaderboard</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 76rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2, h3, h4 { line-height: 1.2; margin: 2rem 0 .6rem; }
code, pre { background: #f4f4f4; border-radius: 4px; padding: .1em .3em; }
pre { padding: .7em 1em; }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; white-space: nowrap; }
th, td { padding: .3rem .7rem; text-align: right; border-bottom: 1px solid #e4e4e4; }
th { border-bottom: 2px solid #999; }
.word { text-align: left; }
.ref { color: #777; font-style: italic; }
.incomplete { color: #a33; }
figure { margin: 1rem 0; }
figure svg { max-width: 100%; height: auto; }
.clips { display: flex; flex-wrap: wrap; gap: 1rem; }
.clips figcaption { font-size: .85rem; }
</style>
</head>
<body>
$body
</body>
</html>
""")


def render_page(records_root: Path, out: Path, suite: str = SUITE, resamples: int = RESAMPLES) -> str:
    """Write the HTML file ``out``; returns the text. Raises BadInput as render_leaderboard does."""
    records = Path(os.path.relpath(records_root, out.parent)).as_posix()
    return write_page(blocks(RecordStore(records_root), suite, resamples, records), records_root, out)


def write_page(content: Iterable[Block], records_root: Path, out: Path) -> str:
    """Write what ``document.blocks`` has found, and the sound beside the records; returns the text."""
    parts = [_html(block) for block in content]
    body = "\n".join([*parts, *_examples(records_root / EXAMPLES)])
    text = PAGE.substitute(body=body.replace("</ul>\n<ul>\n", ""))
    write_atomically(out, text.encode("utf-8"))
    return text


def _html(block: Block) -> str:
    match block:
        case Heading(level, text):
            return f"<h{level}>{text_to_html(text)}</h{level}>"
        case Text(text, bullet):
            return f"<ul>\n<li>{text_to_html(text)}</li>\n</ul>" if bullet else f"<p>{text_to_html(text)}</p>"
        case Code(text):
            return f"<pre>{html.escape(text)}</pre>"
        case Figure():
            return f'<figure role="img" aria-label="{html.escape(block.alt)}">{_inline(block)}</figure>'
        case Table():
            return table_to_html(block)


def _inline(figure: Figure) -> str:
    """The SVG element alone, its identifiers made the figure's own: one page must not have the same one twice."""
    svg = figure.svg[figure.svg.index("<svg") :]
    prefix = re.sub(r"\W", "_", figure.file)
    svg = re.sub(r' id="', f' id="{prefix}-', svg)
    return svg.replace("url(#", f"url(#{prefix}-").replace('href="#', f'href="#{prefix}-')


def _examples(folder: Path) -> Iterable[str]:
    """Players for ``<folder>/<study>/<split>/<segment>/*.ogg``; nothing if there is no such folder."""
    segments = sorted(path.parent for path in folder.glob("*/*/*/index.json"))
    if segments:
        yield "<h2>Listen</h2>"
    for segment in segments:
        yield _example(segment)


def _example(segment: Path) -> str:
    """One segment: ``index.json`` may hold ``title`` and ``notes`` (a text a clip); clips are the Ogg files."""
    index = _index(segment / "index.json")
    study, split, name = segment.parts[-3:]
    title = str(index.get("title") or f"{study}, split {split}, segment {name}")
    clips = {path.stem: path for path in segment.glob("*.ogg")}
    order = sorted(clips, key=lambda clip: (FIRST_CLIPS.index(clip) if clip in FIRST_CLIPS else len(FIRST_CLIPS), clip))
    players = "\n".join(_player(clip, clips[clip], str(index.get("notes", {}).get(clip, ""))) for clip in order)
    return f'<h3>{html.escape(title)}</h3>\n<div class="clips">\n{players}\n</div>'


def _index(path: Path) -> dict[str, Any]:
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadInput(path, "content", "a whole JSON document", str(error)) from error
    if not isinstance(index, dict) or not isinstance(index.get("notes", {}), dict):
        raise BadInput(path, "notes", "an object with a text a clip", repr(index)[:80])
    return index


def _player(name: str, path: Path, note: str) -> str:
    sound = base64.b64encode(path.read_bytes()).decode("ascii")
    caption = html.escape(f"{name}: {note}" if note else name)
    source = f"data:audio/ogg;base64,{sound}"
    return f'<figure><figcaption>{caption}</figcaption><audio controls preload="none" src="{source}"></audio></figure>'
