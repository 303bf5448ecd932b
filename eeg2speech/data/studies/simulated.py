"""The embedded study: real speech, simulated EEG with a known truth.

**What it is.** Real voices (the embedded corpus) and EEG computed by ``eeg2speech.data.forward_model``: a listener with
two auditory sources that follow the attended talker strongly and the other one weakly, among noise. The truth is known
and can be switched off (level ``null``), so it tells whether a system, a control or an audit does what it claims.

**What it is not.** No person was measured; no number made on it says how well a system does with people. The forward
model is linear and does not change over time: attention never wanders, no one tires, there is no adaptation, no effect
of meaning, of language, of loudness or of where a talker stands. All listeners have the same kind of response, in about
the same two places of a perfect sphere. Noise is Gaussian and stationary but for the blinks: no muscles, movement,
drifts or bad sensors. ``clear`` is far clearer than any scalp EEG. The two talkers are equally loud, dry, at one place,
and never were in one room. The simulation uses envelopes, so a system built on envelopes has the advantage here. The
speech is telephone prompts, read well, with short pauses; a stimulus runs over many short prompts, not over a story.

**Plan.** Every track is cut into consecutive stimuli of ``trial_seconds`` (what is left over is dropped). Stimuli are
paired by chance, always two different voices, so that as many as possible are used; a stimulus is in one pair only.
Sides of a pair are numbered by (speaker, stimulus id). A pair is heard by ``listeners_per_pair`` subjects, half of them
from each half of the subjects, always those who have had the fewest trials so far (by chance among equals): within a
half, numbers of trials differ by at most one. Which side a listener attends is a fair coin, thrown again for a pair
only when all its listeners would attend the same side: exact balance would let the trials of training tell those of
the test. In ``confounded`` the first half of the subjects always attends side 0, the other half always side 1. A
subject's trials come in an order of their own, one after another without gaps, in one recording; noise runs on across
trials, responses end with their trial (but for the short tail of the high-pass filter at 0.5 Hz).

**Repeatable.** Random numbers depend on the seed, the subject and the purpose only: subjects can be made in any order,
and the noise of one seed is the same on every level. The settings in the store hold every size, constant and the hash
of the corpus; a store with other settings is refused. The same machine and packages give the same bytes; elsewhere a
sample may differ by a rounding step (1/32 microvolt). So the settings, not the bytes, decide the study's revision:
records and weights of one machine hold on another.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eeg2speech.assets import corpus
from eeg2speech.data import forward_model as model
from eeg2speech.data.store import Store, StoreWriter, rename_revision
from eeg2speech.data.types import Samples, Stimulus, StudyFacts, Trial
from eeg2speech.errors import BadInput, unknown_name

REVISIONS = {"3946cd6bb1592dd2": "de113601322d5659", "a493b68a9dd29a78": "28bfe866b4c1d65a"}
"""Revision by the hash of the settings, for data whose first results are known under the hash of its bytes."""
WORKERS = 2
"""Threads, for the work is in libraries that let go of the interpreter. Processes would have to import the caller's
main program anew, which breaks a script without a main guard."""


@dataclass(frozen=True)
class Piece:
    """A stimulus to be: samples ``start`` to ``stop`` of a track."""

    track: corpus.Track
    start: int
    stop: int

    @property
    def title(self) -> str:
        """Track and begin, for people."""
        return f"{self.track.track} at {self.start / model.AUDIO_RATE:.0f} s"


@dataclass(frozen=True)
class Listening:
    """Subject number ``subject`` hears pair number ``pair`` and attends ``side`` (0 or 1)."""

    subject: int
    pair: int
    side: int


class SimulatedStudy:
    """Real speech, simulated EEG, at one of the levels of ``forward_model.LEVELS``.

    Args:
        level: ``clear``, ``realistic``, ``null`` or ``confounded``.
        seed: of everything that is drawn by chance.
        n_subjects: an even number of listeners.
        n_pairs: how many pairs of stimuli; all that the corpus gives if None.
        listeners_per_pair: an even number, at most ``n_subjects``.
        trial_seconds: length of every trial, a whole number of EEG samples.

    Raises:
        BadInput: an unknown level, or sizes that do not fit.
    """

    def __init__(
        self,
        level: str = "clear",
        seed: int = 2026,
        n_subjects: int = 16,
        n_pairs: int | None = None,
        listeners_per_pair: int = 8,
        trial_seconds: float = 60.0,
    ) -> None:
        if level not in model.LEVELS:
            raise unknown_name("SimulatedStudy", "level", level, model.LEVELS)
        self.level = model.LEVELS[level]
        self.seed, self.n_subjects, self.listeners_per_pair = seed, n_subjects, listeners_per_pair
        self.n_pairs, self.trial_seconds = n_pairs, float(trial_seconds)
        self._check_sizes()
        self.facts = _facts(self.level)

    @property
    def settings(self) -> dict[str, object]:
        """All that decides the bytes of the store, as JSON gives it back."""
        settings = {
            "generator_version": model.GENERATOR_VERSION,
            "level": asdict(self.level),
            "seed": self.seed,
            "n_subjects": self.n_subjects,
            "n_pairs": self.n_pairs,
            "listeners_per_pair": self.listeners_per_pair,
            "trial_seconds": self.trial_seconds,
            "corpus": corpus.corpus_hash(),
            "constants": model.constants(),
        }
        result: dict[str, object] = json.loads(json.dumps(settings))
        return result

    @property
    def revision(self) -> str:
        """Name of the data, by the settings alone."""
        canonical = json.dumps(self.settings, sort_keys=True)
        name = hashlib.sha256(canonical.encode()).hexdigest()[:16]
        return REVISIONS.get(name, name)

    def prepare(self, root: Path) -> Store:
        """Open the store in ``root``, or generate it there.

        Raises:
            BadInput: ``root`` holds a store with other settings, or the corpus gives fewer pairs than asked for.
        """
        root = Path(root)
        if (root / "index.json").exists():
            return self._open(root)
        return self._generate(root)

    def _check_sizes(self) -> None:
        where = "SimulatedStudy"
        if self.seed < 0:
            raise BadInput(where, "seed", "0 or more", self.seed)
        if self.n_subjects < 2 or self.n_subjects % 2:
            raise BadInput(where, "n_subjects", "an even number, 2 or more", self.n_subjects)
        if self.n_pairs is not None and self.n_pairs < 1:
            raise BadInput(where, "n_pairs", "1 or more", self.n_pairs)
        if not 2 <= self.listeners_per_pair <= self.n_subjects or self.listeners_per_pair % 2:
            expected = f"an even number from 2 to {self.n_subjects}"
            raise BadInput(where, "listeners_per_pair", expected, self.listeners_per_pair)
        if not self.trial_seconds > 0 or self.trial_seconds * model.EEG_RATE % 1:
            expected = f"a positive multiple of 1/{model.EEG_RATE} s"
            raise BadInput(where, "trial_seconds", expected, self.trial_seconds)

    def _open(self, root: Path) -> Store:
        store = Store(root)
        expected = _flat({"study": self.facts.name, **self.settings})
        found = _flat({"study": store.facts.name, **store.index.settings})
        for key in [*expected, *found]:
            if expected.get(key) != found.get(key):
                hint = f"{found.get(key)!r} ({self._cure(root)})"
                raise BadInput(root / "index.json", f"settings: {key}", repr(expected.get(key)), hint)
        # Older versions took the hash of the bytes, which is another on another processor.
        return store if store.index.revision == self.revision else rename_revision(root, self.revision)

    def _cure(self, root: Path) -> str:
        """What to do about a store with other settings."""
        return (
            "made with other settings or by another version of this package: delete the folder "
            f"{str(root)!r} and prepare it again, or name another with `eeg2speech prepare {self.facts.name} --out`"
        )

    def _generate(self, root: Path) -> Store:
        pairs = self._pairs()
        writer = StoreWriter(root, self.facts, model.sensors(), self.settings)
        with ThreadPoolExecutor(WORKERS) as pool:
            audio = _cut({piece for pair in pairs for piece in pair}, pool)
            ids = {piece: _add_stimulus(writer, piece, samples) for piece, samples in audio.items()}
            drives = dict(zip(audio, pool.map(model.drives, audio.values()), strict=True))
            del audio
            self._add_recordings(writer, pool, [_in_order(pair, ids) for pair in pairs], ids, drives)
        return writer.close(self.revision)

    def _add_recordings(
        self,
        writer: StoreWriter,
        pool: ThreadPoolExecutor,
        pairs: Sequence[tuple[Piece, Piece]],
        ids: dict[Piece, str],
        drives: dict[Piece, model.Array],
    ) -> None:
        """Simulate the subjects, a few at a time, and write them in order."""
        subjects = [f"S{number + 1:02d}" for number in range(self.n_subjects)]
        heard = self._schedule(pairs)
        orders = [self._order(name, [h for h in heard if h.subject == n]) for n, name in enumerate(subjects)]
        listeners = [model.make_listener(self.seed, name) for name in subjects]

        def record(number: int) -> Samples:
            trials = [(drives[pairs[h.pair][h.side]], drives[pairs[h.pair][1 - h.side]]) for h in orders[number]]
            return model.simulate(listeners[number], self.level, trials)

        busy = [n for n in range(self.n_subjects) if orders[n]]
        for first in range(0, len(busy), WORKERS):
            batch = busy[first : first + WORKERS]
            for number, eeg in zip(batch, pool.map(record, batch), strict=True):
                writer.add_recording(subjects[number], subjects[number], eeg, model.EEG_RATE)
                for place, listening in enumerate(orders[number]):
                    writer.add_trial(self._trial(subjects[number], place, listening, pairs, ids))

    def _trial(
        self,
        subject: str,
        place: int,
        listening: Listening,
        pairs: Sequence[tuple[Piece, Piece]],
        ids: dict[Piece, str],
    ) -> Trial:
        pair = pairs[listening.pair]
        attended, unattended = ids[pair[listening.side]], ids[pair[1 - listening.side]]
        start = place * self.trial_seconds
        name = f"{subject}-{place + 1:02d}"
        return Trial(name, subject, subject, start, self.trial_seconds, attended, unattended)

    def _pairs(self) -> list[tuple[Piece, Piece]]:
        """All pairs, or the first ``n_pairs`` of them."""
        pairs = _match(_pieces(self.trial_seconds), model.stable_rng(self.seed, "pairs"))
        if len(pairs) < (self.n_pairs or 1):
            raise BadInput("SimulatedStudy", "n_pairs", f"at most {len(pairs)}, as the corpus gives", self.n_pairs)
        return pairs[: self.n_pairs]

    def _schedule(self, pairs: Sequence[tuple[Piece, Piece]]) -> list[Listening]:
        """Who hears what and attends to which side; see "Plan" in the module's docstring."""
        rng = model.stable_rng(self.seed, "schedule")
        half = self.n_subjects // 2
        trials = np.zeros(self.n_subjects)
        plan: list[Listening] = []
        for number in range(len(pairs)):
            one = _fewest(trials[:half], self.listeners_per_pair // 2, rng)
            other = half + _fewest(trials[half:], self.listeners_per_pair // 2, rng)
            fixed = np.repeat([0, 1], [len(one), len(other)])
            sides = fixed if self.level.subject_decides_target else _coins(len(fixed), rng)
            listeners = np.concatenate([one, other])
            plan += [Listening(int(subject), number, int(side)) for subject, side in zip(listeners, sides, strict=True)]
            trials[listeners] += 1
        return plan

    def _order(self, subject: str, heard: list[Listening]) -> list[Listening]:
        order = model.stable_rng(self.seed, subject, "order").permutation(len(heard))
        return [heard[place] for place in order]


def is_simulated(study: StudyFacts) -> bool:
    """Whether these are the facts of a study of this module, on any level and of any size."""
    return study.name in {f"simulated-{level}" for level in model.LEVELS}


def corpus_range(stimulus: Stimulus) -> tuple[str, int, int]:
    """Where a stimulus of this study lies in the embedded corpus: track, first sample, sample after the last."""
    track, _, begin = stimulus.title.partition(" at ")
    # Pieces follow one another, so the title's whole seconds tell which of them it is, whatever their length.
    number = round(float(begin.removesuffix(" s")) / stimulus.seconds)
    return track, number * stimulus.samples, (number + 1) * stimulus.samples


def _flat(settings: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Nested settings in one dictionary, names joined by a dot."""
    flat: dict[str, object] = {}
    for key, value in settings.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return flat


def _facts(level: model.Level) -> StudyFacts:
    problems = ["the EEG is simulated: no result on it says how well a system does with people"]
    if level.subject_decides_target:
        problems.append("on purpose, the subject alone decides which side is attended")
    if not level.attended_gain:
        problems.append("on purpose, the EEG has no trace of speech: an effect of the EEG is a fault of the evaluation")
    voices = _listed(track.speaker_name for track in corpus.tracks())
    return StudyFacts(
        name=f"simulated-{level.name}",
        title=f"Embedded study, level {level.name}: real speech, simulated EEG",
        licence=f"speech: {_listed(t.licence for t in corpus.tracks())}; EEG: that of this package",
        citation=f"Speech: Asterisk core sounds by {voices}. EEG: simulated by this package.",
        doi="",
        how_to_get="comes with the package; generated by `eeg2speech prepare`",
        note=f"simulated EEG (level {level.name}), real speech",
        audio_rate=model.AUDIO_RATE,
        eeg_rate=model.EEG_RATE,
        known_problems=tuple(problems),
    )


def _listed(names: Iterable[str]) -> str:
    """Each name once, in the order of first mention."""
    return ", ".join(dict.fromkeys(names))


def _pieces(seconds: float) -> list[Piece]:
    """Every track in consecutive pieces of this length; the rest is dropped."""
    length = round(seconds * model.AUDIO_RATE)
    return [
        Piece(track, start, start + length)
        for track in corpus.tracks()
        for start in range(0, track.samples - length + 1, length)
    ]


def _match(pieces: Iterable[Piece], rng: np.random.Generator) -> list[tuple[Piece, Piece]]:
    """Pairs of different voices, by chance, as many as there can be.

    Each voice is drawn with the number of its pieces that are left as weight; when one voice holds half of what is left
    or more, it must be in every further pair, or pieces would be wasted.
    """
    left: dict[str, list[Piece]] = {}
    for piece in pieces:
        left.setdefault(piece.track.speaker, []).append(piece)
    left = {voice: [left[voice][n] for n in rng.permutation(len(left[voice]))] for voice in sorted(left)}
    pairs: list[tuple[Piece, Piece]] = []
    while sum(bool(rest) for rest in left.values()) >= 2:
        largest = max(sorted(left), key=lambda voice: len(left[voice]))
        forced = 2 * len(left[largest]) >= sum(map(len, left.values()))
        first = largest if forced else _draw_voice(left, rng)
        second = _draw_voice({voice: rest for voice, rest in left.items() if voice != first}, rng)
        pairs.append((left[first].pop(), left[second].pop()))
    return [pairs[place] for place in rng.permutation(len(pairs))]


def _draw_voice(left: dict[str, list[Piece]], rng: np.random.Generator) -> str:
    voices = sorted(left)
    counts = np.array([len(left[voice]) for voice in voices], float)
    return voices[int(rng.choice(len(voices), p=counts / counts.sum()))]


def _coins(count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """A side for each listener by a fair coin, thrown again only when all came out alike.

    Not balanced exactly, on purpose: where it is, who attended what in training tells what is left for the test.
    """
    sides = rng.integers(0, 2, count)
    while count > 1 and len(set(sides)) == 1:
        sides = rng.integers(0, 2, count)
    return sides


def _fewest(trials: NDArray[np.float64], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Places of the ``count`` smallest numbers, by chance among equals."""
    return np.lexsort((rng.random(len(trials)), trials))[:count]


def _cut(pieces: Iterable[Piece], pool: ThreadPoolExecutor) -> dict[Piece, Samples]:
    """Audio of the pieces, in order of track and time; each track is decoded once."""
    wanted = sorted(pieces, key=lambda piece: (piece.track.track, piece.start))
    tracks = sorted({piece.track for piece in wanted}, key=lambda track: track.track)
    decoded = dict(zip(tracks, pool.map(corpus.load_track, tracks), strict=True))
    return {piece: decoded[piece.track][piece.start : piece.stop].copy() for piece in wanted}


def _add_stimulus(writer: StoreWriter, piece: Piece, audio: Samples) -> str:
    return writer.add_stimulus(audio, model.AUDIO_RATE, piece.track.speaker, piece.track.language, piece.title)


def _in_order(pair: tuple[Piece, Piece], ids: dict[Piece, str]) -> tuple[Piece, Piece]:
    """The pair with side 0 first."""
    first, second = sorted(pair, key=lambda piece: (piece.track.speaker, ids[piece]))
    return first, second


clear = partial(SimulatedStudy, "clear")
realistic = partial(SimulatedStudy, "realistic")
null = partial(SimulatedStudy, "null")
confounded = partial(SimulatedStudy, "confounded")
