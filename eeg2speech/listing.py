"""What ``eeg2speech list`` shows: names with a line each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.metadata import entry_points

from eeg2speech.data.types import StudyFacts
from eeg2speech.errors import unknown_name

Rows = list[tuple[str, str]]
INDENT = " " * 29
"""Where the second column begins."""


def listing(what: str) -> Rows:
    """Names and a line each, of studies, systems, metrics, controls, splits or protocols."""
    if what not in LISTINGS:
        raise unknown_name("list", "what", what, LISTINGS)
    return LISTINGS[what]()


def studies_in_markdown() -> str:
    """The page of all studies."""
    from eeg2speech.report.studies import studies_page

    return studies_page(_facts())


def _facts() -> Iterator[StudyFacts]:
    from eeg2speech.data.studies.registry import study, study_names

    return (study(name).facts for name in study_names())


def _studies() -> Rows:
    return [(facts.name, "\n".join(_told(facts))) for facts in _facts()]


def _told(facts: StudyFacts) -> Iterator[str]:
    """A line on what it is, then all that it declares, each on a line of its own."""
    yield f"{facts.note}; {facts.audio_rate} Hz {facts.stimuli}, {facts.eeg_rate} Hz EEG; {facts.licence}"
    told = {
        "source": f"{facts.citation}; doi:{facts.doi}" if facts.doi else facts.citation,
        "to get it": facts.how_to_get,
        "splits in the literature": "; ".join(facts.splits),
        "known problems": "; ".join(facts.known_problems),
    }
    yield from (f"{INDENT}{label}: {text}" for label, text in told.items() if text)


def _systems() -> Rows:
    from eeg2speech.systems.interface import Facts, seen
    from eeg2speech.systems.registry import system_class, system_names

    def line(facts: Facts) -> str:
        given = [word for task in sorted(facts.tasks) if (word := seen(facts, task)) != "nothing"]
        words = ", ".join(dict.fromkeys([*given, *(["EEG"] if facts.uses_eeg else [])])) or "nothing"
        return f"{', '.join(sorted(facts.tasks))}: {facts.title} [sees {words}] {facts.source}"

    return [(name, line(system_class(name).facts)) for name in system_names()]


def _metrics() -> Rows:
    from eeg2speech.evaluation.protocol import PROTOCOLS, measure
    from eeg2speech.metrics import METRICS
    from eeg2speech.metrics.table import ENTRY_POINTS

    arrows = {True: "higher is better", False: "lower is better"}
    ours = [name for entry in PROTOCOLS.values() for name in entry.metrics]
    names = dict.fromkeys((*METRICS, *ours, *(point.name for point in entry_points(group=ENTRY_POINTS))))
    found = [measure(name) for name in names]
    return [(m.name, ", ".join(filter(None, (m.unit, arrows[m.higher_is_better], m.source)))) for m in found]


def _controls() -> Rows:
    from eeg2speech.controls import CONTROLS

    return [(name, (function.__doc__ or "").split("\n")[0]) for name, function in CONTROLS.items()]


def _splits() -> Rows:
    return [
        ("within_trial", "time within each trial; leaks by design"),
        ("trial", "other trials of the same subjects; audio may be shared"),
        ("stimulus", "audio that no one heard in training"),
        ("story", "stories that no one heard in training"),
        ("subject", "other subjects"),
        ("given", "the parts that the authors of the study give"),
        ("published", "runs 27, 11, 1, 14 and 24 of the Cocktail Party data are test, as in published code"),
    ]


def _protocols() -> Rows:
    from eeg2speech.evaluation.protocol import PROTOCOLS, Protocol

    def line(entry: Protocol) -> str:
        count = f"{entry.segments_per_span} a test trial" if entry.segments_per_span else "side by side"
        return f"{entry.task}, {entry.audio_rate} Hz, {entry.segment_seconds:g} s segments, {count}"

    return [(label, line(entry)) for label, entry in PROTOCOLS.items()]


LISTINGS: dict[str, Callable[[], Rows]] = {
    "studies": _studies,
    "systems": _systems,
    "metrics": _metrics,
    "controls": _controls,
    "splits": _splits,
    "protocols": _protocols,
}
