"""The page of all studies, made from what they declare."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from eeg2speech.data.types import StudyFacts

KEPT = {"audio": "sound", "envelope": "envelope only", "mel": "mel spectrogram only"}
HEAD = """# Studies

<!-- Made by `eeg2speech list studies --markdown`. -->

What each study declares of itself. Nothing is fetched: data is downloaded by who uses it, under its own licence; then
`eeg2speech prepare NAME --root FOLDER` brings it into a store, once. FOLDER is the folder of the files, or the archive
as it was downloaded. Settings are given by `--set name=value`; those that hold, the hashes of all source files and the
versions of the packages are kept in the store (`provenance.json`).
"""


def studies_page(studies: Iterable[StudyFacts]) -> str:
    """The page, in Markdown."""
    known = sorted(studies, key=lambda facts: facts.name)
    table = ["| study | speech | EEG | licence | source |", "|---|---|---|---|---|", *map(_row, known)]
    return "\n".join([HEAD, *table, *(line for facts in known for line in _section(facts))]) + "\n"


def _row(facts: StudyFacts) -> str:
    speech = f"{KEPT[facts.stimuli]}, {facts.audio_rate} Hz"
    doi = f"[{facts.doi}](https://doi.org/{facts.doi})" if facts.doi else "none"
    return f"| [{facts.name}](#{facts.name}) | {speech} | {facts.eeg_rate} Hz | {facts.licence} | {doi} |"


def _section(facts: StudyFacts) -> Iterator[str]:
    yield f"\n## {facts.name}\n\n{facts.title}: {facts.note}.\n"
    yield f"- Cite: {facts.citation}"
    yield f"- To get it: {facts.how_to_get}"
    for label, texts in (("Splits in the literature", facts.splits), ("Known problems", facts.known_problems)):
        if texts:
            yield f"- {label}:"
            yield from (f"  - {text}" for text in texts)
