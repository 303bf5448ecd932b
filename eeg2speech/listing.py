"""What ``eeg2speech list`` shows: names with a line each."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points

from eeg2speech.errors import unknown_name

Rows = list[tuple[str, str]]


def listing(what: str) -> Rows:
    """Names and a line each, of studies, systems, metrics, controls, splits or protocols."""
    if what not in LISTINGS:
        raise unknown_name("list", "what", what, LISTINGS)
    return LISTINGS[what]()


def _studies() -> Rows:
    from eeg2speech.data.studies.registry import study, study_names

    facts = [study(name).facts for name in study_names()]
    return [(f.name, f"{f.note}; {f.audio_rate} Hz audio, {f.eeg_rate} Hz EEG; {f.licence}") for f in facts]


def _systems() -> Rows:
    from eeg2speech.systems.registry import system_class, system_names

    facts = [(name, system_class(name).facts) for name in system_names()]
    return [(name, f"{f.title} [sees {f.sees}{', EEG' if f.uses_eeg else ''}] {f.source}") for name, f in facts]


def _metrics() -> Rows:
    from eeg2speech.metrics import METRICS, metric
    from eeg2speech.metrics.table import ENTRY_POINTS

    arrows = {True: "higher is better", False: "lower is better"}
    names = dict.fromkeys((*METRICS, *(point.name for point in entry_points(group=ENTRY_POINTS))))
    found = [metric(name) for name in names]
    return [(m.name, ", ".join(filter(None, (m.unit, arrows[m.higher_is_better], m.source)))) for m in found]


def _controls() -> Rows:
    from eeg2speech.controls import CONTROLS

    return [(name, (function.__doc__ or "").split("\n")[0]) for name, function in CONTROLS.items()]


def _splits() -> Rows:
    return [
        ("within_trial", "time within each trial; leaks by design"),
        ("trial", "other trials of the same subjects; audio may be shared"),
        ("stimulus", "audio that no one heard in training"),
        ("subject", "other subjects"),
    ]


def _protocols() -> Rows:
    from eeg2speech.evaluation.protocol import PROTOCOLS

    return [
        (label, f"{p.task}, {p.audio_rate} Hz, {p.segment_seconds:g} s segments, {p.segments_per_span} a test trial")
        for label, p in PROTOCOLS.items()
    ]


LISTINGS: dict[str, Callable[[], Rows]] = {
    "studies": _studies,
    "systems": _systems,
    "metrics": _metrics,
    "controls": _controls,
    "splits": _splits,
    "protocols": _protocols,
}
