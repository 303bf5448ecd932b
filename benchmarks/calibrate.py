"""How strong is the trace of the speech in the simulated EEG? A linear decoder measures it, level by level.

    python benchmarks/calibrate.py --out docs

writes ``docs/simulated-study.md`` and ``docs/figures/calibration.svg``: the same bytes each time on the same machine.
The decoder (``baselines/backward_model.py``) and the generator (``eeg2speech/data``) share no code.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib
import numpy as np
from eeg2speech_baselines.backward_model import (
    RATE,
    Array,
    BackwardModel,
    SubjectModels,
    pearson,
    prepare_eeg,
    speech_envelope,
)
from numpy.typing import NDArray

from eeg2speech.data.forward_model import LEVELS
from eeg2speech.data.store import Store
from eeg2speech.data.studies.simulated import SimulatedStudy
from eeg2speech.data.types import Segment, Trial

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "eeg2speech"
from matplotlib import pyplot as plt  # noqa: E402  (after the choice of backend)

WINDOWS = (1, 2, 4, 10, 30)
PARTS = (0.7, 0.1, 0.2)
SEED = 7
RESAMPLES = 2000
COLOURS = {"clear": "#1b7837", "realistic": "#2166ac", "null": "#777777", "confounded": "#b35806"}
TARGETS = {
    "clear": "r about 0.55; 0.97 / 1 / 1 / 1 at 2 / 4 / 10 / 30 s",
    "realistic": "r 0.10 to 0.20; from about 0.6 at 2 s to 0.85-0.9 at 30 s",
    "null": "r 0; 0.5 everywhere",
    "confounded": "as `clear`",
}
LISTENER = {2: 0.59, 5: 0.70, 10: 0.80, 30: 1.0}
OSULLIVAN = {60: (0.82, 0.89)}
PUBLISHED = (
    (
        "One real listener, two talkers, 128 sensors, five 1-min trials; ridge, 0-250 ms, 0.5-9 Hz",
        "0.07 to 0.10",
        "0.00 to 0.03",
        ", ".join(f"{accuracy:.2f} at {window} s" for window, accuracy in LISTENER.items()),
        "measured for this project on public data, one listener only",
    ),
    (
        "O'Sullivan et al. 2015, two talkers, 128 sensors, linear, decoders of single subjects",
        "not at hand",
        "not at hand",
        "about 0.82 to 0.89 at 60 s",
        "recalled, not checked against the paper",
    ),
    (
        "Auditory EEG challenge (SparrKULee), one talker, networks: HappyQuokka within / held-out subjects; VLAAI",
        "0.19 / 0.10; 0.19",
        "-",
        "-",
        "seen in an abstract and on the challenge's page",
    ),
)


@dataclass(frozen=True)
class Estimate:
    """A mean over subjects with its 95 % interval (percentile bootstrap over subjects)."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Decoded:
    """One test trial: who heard it, the reconstruction and both envelopes, and the choice in windows seen alone."""

    subject: str
    reconstruction: Array
    attended: Array
    unattended: Array
    alone: Mapping[int, list[float]]


@dataclass(frozen=True)
class Measured:
    """What the decoder finds in one level."""

    level: str
    subjects: int
    hours: float
    test_minutes: float
    r_attended: Estimate
    r_unattended: Estimate
    accuracy: Mapping[int, Estimate]
    alone: Mapping[int, Estimate]


def split_trials(store: Store) -> dict[str, list[Trial]]:
    """Train, valid and test trials: 70, 10 and 20 % of the pairs of stimuli, by chance, the same for all subjects."""
    pairs = sorted({trial.pair for trial in store.trials.values()})
    ends = [round(PARTS[0] * len(pairs)), round((PARTS[0] + PARTS[1]) * len(pairs)), len(pairs)]
    part: dict[str, str] = {}
    for rank, place in enumerate(np.random.default_rng(SEED).permutation(len(pairs))):
        part[pairs[place]] = "train" if rank < ends[0] else "valid" if rank < ends[1] else "test"
    return {name: [t for t in store.trials.values() if part[t.pair] == name] for name in ("train", "valid", "test")}


class Signals:
    """What the decoder sees of a store: EEG and envelopes at 64 Hz, of whole trials and of single windows."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.envelopes: dict[tuple[str, float, float], Array] = {}

    def eeg(self, cut: Segment) -> Array:
        """EEG [C, N] of a stretch, filtered and scaled from that stretch alone."""
        return prepare_eeg(self.store.cut_eeg(cut), self.store.facts.eeg_rate)

    def envelope(self, stimulus: str, cut: Segment) -> Array:
        """Envelope [N] of a stimulus over a stretch of a trial."""
        key = (stimulus, cut.start, cut.duration)
        if key not in self.envelopes:
            self.envelopes[key] = speech_envelope(self.store.cut_audio(stimulus, cut), self.store.facts.audio_rate)
        return self.envelopes[key]

    def examples(self, trials: Iterable[Trial]) -> Iterator[tuple[str, Array, Array]]:
        """(subject, EEG, attended envelope) of whole trials, one after another."""
        for trial in trials:
            whole = Segment(trial.id, 0.0, trial.duration)
            yield trial.subject, self.eeg(whole), self.envelope(trial.attended, whole)

    def decode(self, trial: Trial, model: BackwardModel) -> Decoded:
        """Reconstruct a test trial, and choose in its windows as one does who sees nothing else."""
        whole, other = Segment(trial.id, 0.0, trial.duration), _other(trial)
        alone = {w: [self.choose(cut, model) for cut in _windows(trial, w)] for w in WINDOWS}
        envelopes = [self.envelope(stimulus, whole) for stimulus in (trial.attended, other)]
        return Decoded(trial.subject, model.reconstruct(self.eeg(whole)), envelopes[0], envelopes[1], alone)

    def choose(self, cut: Segment, model: BackwardModel) -> float:
        """1 if the attended envelope fits better in this window, 0 if the other does, 0.5 for a tie."""
        trial, eeg = self.store.trial(cut.trial), self.eeg(cut)
        scores = [model.correlate(eeg, self.envelope(s, cut)) for s in (trial.attended, _other(trial))]
        return _choice(scores[0], scores[1])


def measure(store: Store, level: str) -> Measured:
    """Train a decoder for each subject of a store and score it on trials that it has not seen."""
    signals, parts = Signals(store), split_trials(store)
    models = SubjectModels().fit(signals.examples(parts["train"]), list(signals.examples(parts["valid"])))
    decoded = [signals.decode(trial, models.of(trial.subject)) for trial in parts["test"]]
    return Measured(
        level,
        len(store.subjects),
        sum(t.duration for t in store.trials.values()) / 3600,
        sum(t.duration for t in parts["test"]) / 60,
        _over_subjects((d.subject, [pearson(d.reconstruction, d.attended)]) for d in decoded),
        _over_subjects((d.subject, [pearson(d.reconstruction, d.unattended)]) for d in decoded),
        {w: _over_subjects((d.subject, _choices(d, w)) for d in decoded) for w in WINDOWS},
        {w: _over_subjects((d.subject, d.alone[w]) for d in decoded) for w in WINDOWS},
    )


def _other(trial: Trial) -> str:
    assert trial.unattended is not None, "the simulated study has two talkers in every trial"
    return trial.unattended


def _windows(trial: Trial, seconds: int) -> list[Segment]:
    return [Segment(trial.id, float(k * seconds), float(seconds)) for k in range(int(trial.duration / seconds))]


def _choice(attended: float, unattended: float) -> float:
    return 0.5 if attended == unattended else float(attended > unattended)


def _choices(decoded: Decoded, seconds: int) -> list[float]:
    """The choice in each window of a trial, cut from the reconstruction of the whole trial."""
    length = RATE * seconds
    signals = (decoded.reconstruction, decoded.attended, decoded.unattended)
    starts = range(0, min(map(len, signals)) - length + 1, length)
    cuts = [[s[start : start + length] for s in signals] for start in starts]
    return [_choice(pearson(guess, attended), pearson(guess, other)) for guess, attended, other in cuts]


def _over_subjects(scores: Iterable[tuple[str, Sequence[float]]]) -> Estimate:
    """Mean over subjects of each subject's mean, with a bootstrap over subjects."""
    by_subject: dict[str, list[float]] = {}
    for subject, values in scores:
        by_subject.setdefault(subject, []).extend(values)
    means: NDArray[np.float64] = np.array([np.mean(values) for _, values in sorted(by_subject.items()) if values])
    if not len(means):
        return Estimate(*[float("nan")] * 3)
    drawn = np.random.default_rng(SEED).integers(0, len(means), (RESAMPLES, len(means)))
    low, high = np.percentile(means[drawn].mean(axis=1), [2.5, 97.5])
    return Estimate(float(means.mean()), float(low), float(high))


def draw(results: Sequence[Measured], path: Path) -> None:
    """Accuracy against the length of the window, a line a level, with the published points."""
    figure, axes = plt.subplots(figsize=(7.2, 4.4), layout="constrained")
    for place, result in enumerate(results):
        shift = 1 + 0.02 * (place - (len(results) - 1) / 2)  # side by side, so that equal levels can both be seen
        found = [result.accuracy[w] for w in WINDOWS]
        error = [[e.mean - e.low for e in found], [e.high - e.mean for e in found]]
        where, means = [w * shift for w in WINDOWS], [e.mean for e in found]
        colour, dashes = COLOURS[result.level], "--" if result.level == "confounded" else "-"
        axes.errorbar(where, means, error, color=colour, marker="o", ms=4, ls=dashes, capsize=2, label=result.level)
    axes.plot(list(LISTENER), list(LISTENER.values()), "kD", mfc="none", label="one real listener")
    for window, (low, high) in OSULLIVAN.items():
        middle, half = (low + high) / 2, (high - low) / 2
        axes.errorbar([window], [middle], [half], color="k", marker="s", mfc="none", label="O'Sullivan 2015 (recalled)")
    axes.axhline(0.5, color="k", lw=0.8, ls=":")
    axes.set_xscale("log", base=2)
    axes.set_xticks([*WINDOWS, 60], [str(w) for w in (*WINDOWS, 60)])
    axes.minorticks_off()
    axes.set(xlabel="window (s)", ylabel="accuracy of the choice", ylim=(0.3, 1.03))
    axes.set_title("Simulated EEG, real speech: linear decoder on held-out trials", fontsize=10)
    axes.legend(fontsize=8, loc="center right", frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="svg", metadata={"Date": None})
    plt.close(figure)


def page(results: Sequence[Measured]) -> str:
    """The study's page, with every number from the results."""
    example = results[0]
    return TEMPLATE.format(
        subjects=example.subjects,
        hours=f"{example.hours:.1f}",
        minutes=f"{example.test_minutes:.0f}",
        accuracy=_accuracy_table(results, "accuracy"),
        alone=_accuracy_table(results, "alone"),
        reconstruction=_reconstruction_table(results),
        published=_table(
            ("source", "r attended", "r unattended", "accuracy", "evidence"), [tuple(row) for row in PUBLISHED]
        ),
        constants=_constants_table(),
    )


def _reconstruction_table(results: Sequence[Measured]) -> str:
    rows = [(f"`{m.level}`", str(m.r_attended), str(m.r_unattended), TARGETS[m.level]) for m in results]
    return _table(("level", "r attended", "r unattended", "meant to be"), rows)


def _accuracy_table(results: Sequence[Measured], kind: str) -> str:
    rows = [(f"`{m.level}`", *(str(getattr(m, kind)[w]) for w in WINDOWS)) for m in results]
    return _table(("level", *(f"{w} s" for w in WINDOWS)), rows)


def _constants_table() -> str:
    columns = {name: asdict(level) for name, level in LEVELS.items()}
    names = [name for name in next(iter(columns.values())) if name != "name"]
    rows = [(name.replace("_", " "), *(f"{column[name]}" for column in columns.values())) for name in names]
    return _table(("constant", *(f"`{name}`" for name in columns)), rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


TEMPLATE = """# The simulated study: real speech, simulated EEG

This page is written by `python benchmarks/calibrate.py --out docs`; do not edit it by hand.

**The EEG in this study is simulated.** A score on it says whether a system can learn to use a known trace of attention
in signals of a known strength. It says nothing about how well the system reads a human brain.

## What it is

Four professional voices are played in pairs to {subjects} simulated subjects ({hours} h of trials in each level). For
each subject, the attended talker's envelope (several auditory bands and their onsets) is convolved with a temporal
response function with the peaks P1, N1 and P2; so is the other talker's, with less weight. The result is the activity
of two dipoles, one in each auditory cortex, seen by 64 BioSemi sensors through a spherical head model. To this come
1/f noise from the same two places, background activity of the rest of the brain, alpha, blinks, and sensor noise.
Subjects differ in gain, latency and topography. A pair of stimuli is heard by different subjects with attention on
either of the two, so that nothing but the EEG tells which is the target. The forward model, with its sources, is in
`eeg2speech/data/forward_model.py`.

## What it is not

- Not a brain: the response to speech is linear and does not change over time, attention never lapses or switches, and
  there are no words, no meaning and no effort in it. A network cannot find here what only a real brain would show.
- Not a head: a sphere, two dipoles, the same sensor positions for everybody, no electrode that comes off.
- Not free of what its authors believe: a decoder that assumes what the generator assumes (a linear response to the
  envelope within 400 ms) does better here than it would on real EEG. The decoder below shares no code with the
  generator, but it does share that assumption.

## The levels

| level | for | read it so |
|---|---|---|
| `clear` | learning, tests, `make bench` | a cue far stronger than in scalp EEG: what fails here is broken |
| `realistic` | what the field faces | as weak as published figures for scalp EEG |
| `null` | no trace of the speech at all | no system may show an effect of the EEG: one that does is at fault |
| `confounded` | as `clear`, but the subject decides the target | a good score proves nothing: who listens tells whom |

The constants behind them:

{constants}

## Calibration

A linear backward model (`baselines/backward_model.py`: 1 to 9 Hz, 64 Hz, lags of 0 to 400 ms, ridge) is trained for
each subject on the trials of 70 % of the pairs of stimuli; 10 % choose the regularisation; these figures are from the
other 20 % ({minutes} min over all subjects), which no subject's training has touched. A subject's ridge pulls towards
the weights of all subjects together. In brackets, here and below: 95 % interval, bootstrap over subjects. One in twenty
such intervals misses the truth by chance, and one of no width says only that no window was decided wrongly.

{reconstruction}

(r is Pearson's correlation of the reconstruction with an envelope, over whole trials.)

Accuracy: in how many windows, side by side without overlap, the attended envelope correlates better than the other one.
Windows are cut from the reconstruction of the whole trial, as is usual in the literature:

{accuracy}

The same where the decoder sees nothing but the window, EEG and sound, as a system in this benchmark does. Filters and
lags lose something at the ends, most in short windows:

{alone}

![Accuracy against the length of the window](figures/calibration.svg)

Published figures beside them:

{published}

`confounded` scores as `clear` does, because this decoder has no way to profit from the confound: it compares envelopes.
The level is there for systems that could.
"""


def main() -> None:
    """Prepare every level, measure it, write the page and the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    home = os.environ.get("EEG2SPEECH_CACHE", "~/.cache/eeg2speech")
    parser.add_argument("--out", type=Path, default=Path("docs"), help="folder of the page and figures/ (docs)")
    parser.add_argument("--cache", type=Path, default=Path(home).expanduser(), help="where prepared studies are kept")
    parser.add_argument("--levels", nargs="+", choices=list(LEVELS), default=list(LEVELS), help="levels (all)")
    arguments = parser.parse_args()
    results = []
    for level in arguments.levels:
        begin = time.perf_counter()
        store = SimulatedStudy(level=level).prepare(arguments.cache / f"simulated-{level}")
        prepared = time.perf_counter()
        results.append(measure(store, level))
        print(f"{level}: prepared in {prepared - begin:.0f} s, decoded in {time.perf_counter() - prepared:.0f} s")
        print(f"  r {results[-1].r_attended} attended, {results[-1].r_unattended} unattended")
        print("  accuracy " + ", ".join(f"{e} at {w} s" for w, e in results[-1].accuracy.items()), flush=True)
    draw(results, arguments.out / "figures" / "calibration.svg")
    (arguments.out / "simulated-study.md").write_text(page(results))


if __name__ == "__main__":
    main()
