"""Each known leak, planted one at a time in a study that is clean: the audit names it and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from eeg2speech.data import Sensors, Store, StudyFacts, Trial
from eeg2speech.data.fingerprint import alike, fingerprint, near_duplicates
from eeg2speech.data.store import StoreWriter
from eeg2speech.data.types import Samples
from eeg2speech.errors import BadInput
from eeg2speech.evaluation.audit import audit_split, keep
from eeg2speech.evaluation.probes import Probe, probe_all
from eeg2speech.models.probe import LinearProbe, features, one_hot, smoother
from eeg2speech.records.audits import AUDITS, MANIFESTS, Audit, read_audit, write_audit
from eeg2speech.splits import Split, make_split
from eeg2speech.splits.amounts import effective
from eeg2speech.splits.audit import audit, verdict
from eeg2speech.splits.findings import KNOWN, Finding
from eeg2speech.splits.manifest import PARTS, Span

RATE, EEG_RATE, SENSORS = 8000, 64, 8
SUBJECTS, PAIRS, SECONDS = 8, 15, 12.0
VOICES = "abc"
PERMUTATIONS = 300
NOT_LEAKS = {"amounts", "probe", "subject in train and test"}
"""Findings that are there in a clean study too, as notes."""


@dataclass
class Draft:
    """A study and a split in the making: every list may be edited before it is written."""

    eeg: dict[str, Samples]
    audio: dict[str, Samples]
    trials: list[dict[str, object]]
    kind: str = "stimulus"
    stories: dict[str, str] = field(default_factory=dict)
    voices: dict[str, str] = field(default_factory=dict)
    named: str | None = None
    edit: Callable[[dict[str, list[Span]]], None] = lambda parts: None

    def write(self, root: Path) -> tuple[Store, Split]:
        facts = StudyFacts("drafted", "Drafted", "CC0", "none", "", "made here", "noise", RATE, EEG_RATE)
        places = tuple((0.01 * k, 0.0, 0.1) for k in range(SENSORS))
        writer = StoreWriter(root, facts, Sensors(tuple(f"E{k}" for k in range(SENSORS)), places), {})
        ids = {
            name: writer.add_stimulus(
                wave, RATE, self.voices.get(name, name[0]), "en", name, self.stories.get(name, "")
            )
            for name, wave in self.audio.items()
        }
        for name, eeg in self.eeg.items():
            writer.add_recording(name, name, eeg, EEG_RATE)
        for trial in self.trials:
            both = {role: ids[str(trial[role])] for role in ("attended", "unattended")}
            writer.add_trial(Trial(**(trial | both)))  # type: ignore[arg-type]
        store = writer.close()
        made = make_split(store.index, self.kind)
        parts = {part: list(made.parts[part]) for part in PARTS}
        self.edit(parts)
        kind = self.named or made.kind
        return store, replace(made, kind=kind, parts={part: tuple(spans) for part, spans in parts.items()})


def drafted(seed: int = 1) -> Draft:
    """A clean study: every subject hears every pair, in an order of its own, attention by a coin; EEG of noise."""
    rng = np.random.default_rng(seed)
    audio = {name: speech(rng) for p in range(PAIRS) for name in _names(p)}
    eeg = {
        f"S{s}": rng.standard_normal((SENSORS, int(PAIRS * SECONDS * EEG_RATE))).astype(np.float32)
        for s in range(SUBJECTS)
    }
    trials = [t for name in eeg for t in _heard(name, rng)]
    return Draft(eeg, audio, trials)


def _names(pair: int) -> tuple[str, str]:
    """Two voices of three, in turn."""
    return f"{VOICES[pair % 3]}{pair:02}", f"{VOICES[(pair + 1) % 3]}{pair:02}"


def _heard(subject: str, rng: np.random.Generator) -> Iterable[dict[str, object]]:
    for place, pair in enumerate(rng.permutation(PAIRS)):
        attended, unattended = rng.permutation(_names(int(pair))).tolist()
        about = {"id": f"{subject}-{place:02}", "recording": subject, "subject": subject}
        yield about | {"start": place * SECONDS, "duration": SECONDS, "attended": attended, "unattended": unattended}


def speech(rng: np.random.Generator, seconds: float = SECONDS) -> Samples:
    """Noise whose bands come and go as those of speech do."""
    length = int(seconds * RATE)
    spectrum = np.fft.rfft(rng.standard_normal(length))
    frequency = np.fft.rfftfreq(length, 1 / RATE)
    wave = np.zeros(length)
    for low in np.geomspace(200, 3000, 12):
        band = np.fft.irfft(spectrum * ((frequency > low) & (frequency < 1.25 * low)), length)
        wave += band * np.interp(
            np.arange(length), np.arange(0, length, RATE // 6), rng.random(int(np.ceil(length / (RATE // 6))))
        )
    loud: Samples = (0.1 * wave / wave.std()).astype(np.float32)
    return loud


Plant = Callable[[Draft, Split], None]
PLANTS: dict[str, Plant] = {}


def plant(name: str) -> Callable[[Plant], Plant]:
    """A way to spoil a clean draft, whose split is known, by the name of the finding."""

    def register(function: Plant) -> Plant:
        PLANTS[name] = function
        return function

    return register


def pair_of(trial: dict[str, object]) -> frozenset[str]:
    return frozenset((str(trial["attended"]), str(trial["unattended"])))


def side(trial: dict[str, object]) -> int:
    """Voices differ within a pair, so sides are ordered by name."""
    return sorted(pair_of(trial)).index(str(trial["attended"]))


def named(draft: Draft, name: str) -> dict[str, object]:
    return next(trial for trial in draft.trials if trial["id"] == name)


@plant("overlapping windows")
def _(draft: Draft, clean: Split) -> None:
    """A tested trial and one of training come last in a recording, and the second begins before the first ends."""
    tested, learned = (named(draft, next(n for n in clean.trials(p) if n.startswith("S0"))) for p in ("test", "train"))
    end = PAIRS * SECONDS
    more = np.random.default_rng(0).standard_normal((SENSORS, int(2 * SECONDS * EEG_RATE))).astype(np.float32)
    draft.eeg["S0"] = np.concatenate([draft.eeg["S0"], more], axis=1)
    tested["start"], learned["start"] = end, end + SECONDS - 4


@plant("valid used as test")
def _(draft: Draft, clean: Split) -> None:
    draft.edit = lambda parts: parts.update(valid=parts["test"])


@plant("windows counted twice")
def _(draft: Draft, clean: Split) -> None:
    def edit(parts: dict[str, list[Span]]) -> None:
        parts["test"] = [Span(s.trial, *ends) for s in parts["test"] for ends in ((0.0, 8.0), (4.0, SECONDS))]

    draft.edit = edit


def halved(part: str) -> Callable[[dict[str, list[Span]]], None]:
    """The second half of a tested trial is in another part."""

    def edit(parts: dict[str, list[Span]]) -> None:
        first, *others = parts["test"]
        parts["test"] = [replace(first, stop=6.0), *others]
        parts[part] = [*parts[part], replace(first, start=6.0)]

    return edit


@plant("trial in train and test")
def _(draft: Draft, clean: Split) -> None:
    draft.edit = halved("train")


@plant("trial in valid and test")
def _(draft: Draft, clean: Split) -> None:
    draft.edit = halved("valid")


@plant("attended audio in train and test")
def _(draft: Draft, clean: Split) -> None:
    draft.kind = "trial"


def other_role(draft: Draft, clean: Split, part: str) -> Callable[[dict[str, list[Span]]], None]:
    """Of one tested pair, the trials in which its second side was attended are in another part."""
    pair = pair_of(named(draft, clean.trials("test")[0]))
    moved = {t["id"] for t in draft.trials if pair_of(t) == pair and side(t) == 1}

    def edit(parts: dict[str, list[Span]]) -> None:
        parts[part] = [*parts[part], *(span for span in parts["test"] if span.trial in moved)]
        parts["test"] = [span for span in parts["test"] if span.trial not in moved]

    return edit


@plant("audio in train and test")
def _(draft: Draft, clean: Split) -> None:
    draft.edit = other_role(draft, clean, "train")


@plant("audio in valid and test")
def _(draft: Draft, clean: Split) -> None:
    draft.edit = other_role(draft, clean, "valid")


@plant("near-duplicate audio in train and test")
def _(draft: Draft, clean: Split) -> None:
    """One voice says the same in all of its pairs: softer each time, begun later, with noise."""
    rng = np.random.default_rng(2)
    names = sorted(name for name in draft.audio if name.startswith("a"))
    first = draft.audio[names[0]]
    for place, name in enumerate(names[1:], start=1):
        shifted = np.roll(first, -331 * place) * 0.9**place
        draft.audio[name] = (shifted + 0.1 * shifted.std() * rng.standard_normal(len(first))).astype(np.float32)


@plant("subject in train and test")
def _(draft: Draft, clean: Split) -> None:
    """Listeners are shared by a split that says it is one of listeners."""
    draft.named = "subject"


@plant("subject decides target")
def _(draft: Draft, clean: Split) -> None:
    for trial in draft.trials:
        attend(trial, int(str(trial["subject"])[1:]) % 2)


@plant("speaker decides target")
def _(draft: Draft, clean: Split) -> None:
    """a wins over b, b over c, c over a."""
    for trial in draft.trials:
        attend(trial, 1 if {name[0] for name in pair_of(trial)} == {"a", "c"} else 0)


@plant("story decides target")
def _(draft: Draft, clean: Split) -> None:
    rng = np.random.default_rng(3)
    for pair in {pair_of(trial): trial for trial in draft.trials}:
        names = rng.permutation(sorted(pair)).tolist()
        draft.stories |= dict(zip(names, ("told", "ignored"), strict=True))
    for trial in draft.trials:
        attend(trial, [draft.stories[name] for name in sorted(pair_of(trial))].index("told"))


@plant("ear decides target")
def _(draft: Draft, clean: Split) -> None:
    for trial in draft.trials:
        trial["ear"] = "left"


@plant("trial order decides target")
def _(draft: Draft, clean: Split) -> None:
    for trial in draft.trials:
        attend(trial, int(str(trial["id"])[-2:]) % 2)


@plant("attention told by training")
def _(draft: Draft, clean: Split) -> None:
    """Every subject has a side, but for two trials that are learned from."""
    for trial in draft.trials:
        attend(trial, int(str(trial["subject"])[1:]) % 2)
    for subject in draft.eeg:
        for name in [n for n in clean.trials("train") if n.startswith(subject)][:2]:
            attend(named(draft, name), 1 - side(named(draft, name)))


@plant("unbalanced attended roles")
def _(draft: Draft, clean: Split) -> None:
    pair = pair_of(named(draft, clean.trials("train")[0]))
    for trial in draft.trials:
        if pair_of(trial) == pair:
            attend(trial, 0)


@plant("attention told by EEG alone")
def _(draft: Draft, clean: Split) -> None:
    """Alpha at one sensor is stronger where the second side is attended."""
    time = np.arange(int(SECONDS * EEG_RATE)) / EEG_RATE
    for trial in draft.trials:
        stretch(draft, trial)[0] += (0.4 + 0.8 * side(trial)) * np.sin(2 * np.pi * 10 * time).astype(np.float32)


@plant("trial fingerprint")
def _(draft: Draft, clean: Split) -> None:
    """Every trial has an offset of its own at each sensor, as electrodes that drift have."""
    rng = np.random.default_rng(4)
    for trial in draft.trials:
        stretch(draft, trial)[:] += rng.standard_normal((SENSORS, 1)).astype(np.float32)


def attend(trial: dict[str, object], wanted: int) -> None:
    ordered = sorted(pair_of(trial))
    trial["attended"], trial["unattended"] = ordered[wanted], ordered[1 - wanted]


def stretch(draft: Draft, trial: dict[str, object]) -> Samples:
    """The EEG of a trial, to be written to."""
    begin = int(float(str(trial["start"])) * EEG_RATE)
    return draft.eeg[str(trial["recording"])][:, begin : begin + int(SECONDS * EEG_RATE)]


def grave(found: Audit) -> set[str]:
    return {finding.name for finding in found.findings if finding.level != "note"}


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Split]:
    return drafted().write(tmp_path_factory.mktemp("clean"))


def test_a_clean_study_raises_no_alarm(clean: tuple[Store, Split], tmp_path: Path) -> None:
    found = audit_split(*clean, 3.0, PERMUTATIONS)
    assert (found.verdict, grave(found)) == ("clean", set())
    for seed in (2, 3):
        other = audit_split(*drafted(seed).write(tmp_path / str(seed)), 3.0, PERMUTATIONS)
        assert (seed, other.verdict) == (seed, "clean")


@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_leak_is_named_and_nothing_else(name: str, clean: tuple[Store, Split], tmp_path: Path) -> None:
    draft = drafted()
    PLANTS[name](draft, clean[1])
    found = audit_split(*draft.write(tmp_path), 3.0, PERMUTATIONS)
    assert grave(found) == {name}
    (finding,) = (each for each in found.findings if each.name == name)
    assert finding.level in ("fatal", "warning") and finding.meaning and finding.cure
    assert found.verdict == f"{finding.level}: {name}"


def test_every_leak_the_audit_knows_is_planted() -> None:
    assert {*PLANTS} == {*KNOWN} - NOT_LEAKS | {"subject in train and test"}
    with pytest.raises(BadInput, match="finding"):
        Finding("note", "amount", "")


def test_probes_tell_subjects_that_differ_and_no_others(clean: tuple[Store, Split], tmp_path: Path) -> None:
    probes = {probe.name: probe for probe in probe_all(*clean, 3.0, PERMUTATIONS)}
    assert not any(probe.told for probe in probes.values())
    assert 0 < probes["subject"].chance < 1 / SUBJECTS + 0.05, "of balanced classes, the others are learned more of"
    draft = drafted()
    rng = np.random.default_rng(7)
    for eeg in draft.eeg.values():
        eeg *= np.exp(rng.normal(0, 0.7, (SENSORS, 1))).astype(np.float32)
    told = {probe.name: probe for probe in probe_all(*draft.write(tmp_path), 3.0, PERMUTATIONS)}
    assert told["subject"].told and told["subject"].accuracy > 0.5 and told["subject"].p == pytest.approx(1 / 301)
    assert not told["attended side"].told


def test_p_values_of_probes_are_uniform_where_the_eeg_tells_nothing(tmp_path: Path) -> None:
    """A false alarm is as rare as its level, over studies and probes."""
    found: list[Probe] = []
    for seed in range(8):
        found += probe_all(*drafted(100 + seed).write(tmp_path / str(seed)), 3.0, 60)
    p = np.array([probe.p for probe in found])
    assert 0.35 < p.mean() < 0.65 and np.mean(p < 0.05) < 0.15


def test_the_smoother_is_the_probe_with_labels_left_open() -> None:
    rng = np.random.default_rng(0)
    train, test, labels = rng.standard_normal((30, 50)), rng.standard_normal((9, 50)), rng.integers(0, 3, 30)
    fitted = LinearProbe.fit(train, labels, 3).scores(test)
    np.testing.assert_allclose(smoother(train, test) @ one_hot(labels, 3), fitted, atol=1e-9)


def test_features_are_means_and_decibels() -> None:
    time = np.arange(256) / 64
    eeg = np.stack([3 + 2 * np.sin(2 * np.pi * 10 * time), np.zeros(256)])
    found = features(eeg, 64).reshape(6, 2)
    assert found[0] == pytest.approx([3, 0], abs=1e-9)
    assert found[3, 0] == pytest.approx(10 * np.log10(1.0), abs=0.1), (
        "alpha: amplitude 2, half of whose square is one-sided"
    )
    assert (found[[1, 2, 4, 5], 0] < -30).all() and (found[1:, 1] < -50).all()
    with pytest.raises(BadInput, match="one second"):
        features(eeg[:, :40], 64)


@pytest.mark.parametrize("change", ["gain", "polarity", "later", "noise", "coarse"])
def test_a_fingerprint_survives_what_leaves_speech_the_same(change: str) -> None:
    rng = np.random.default_rng(5)
    wave, other = speech(rng), speech(rng)
    changed = {
        "gain": 0.05 * wave,
        "polarity": -wave,
        "later": wave[3 * RATE + 77 :],
        "noise": wave + 0.3 * wave.std() * rng.standard_normal(len(wave)),
        "coarse": np.round(wave * 24) / 24,
    }[change]
    found = list(
        alike({"one": fingerprint(wave, RATE), "two": fingerprint(changed, RATE), "other": fingerprint(other, RATE)})
    )
    assert [(each.first, each.second) for each in found] == [("one", "two")]
    assert found[0].offset == pytest.approx(3.0 if change == "later" else 0.0, abs=0.05)


def test_other_rates_and_too_short_sounds_are_handled() -> None:
    rng = np.random.default_rng(6)
    wave = speech(rng)
    doubled = np.interp(np.arange(2 * len(wave)) / 2, np.arange(len(wave)), wave)
    assert len(list(alike({"one": fingerprint(wave, RATE), "two": fingerprint(doubled, 2 * RATE)}))) == 1
    assert len(fingerprint(wave[: RATE // 4], RATE).bits) == 0
    silent = {name: fingerprint(np.zeros(4 * RATE), RATE) for name in ("one", "two")}
    assert not list(alike(silent | {"three": fingerprint(wave, RATE)})), "silence is like nothing"


def test_the_corpus_repeats_itself_only_where_the_split_allows_it(store: Store) -> None:
    alike_there = near_duplicates(store)
    made = make_split(store.index, "stimulus")
    names = [(each.first, each.second) for each in alike_there]
    assert verdict(audit(store.index, made, names)) == "clean"


def test_an_audit_is_made_once_and_kept_beside_the_records(clean: tuple[Store, Split], tmp_path: Path) -> None:
    store, split = clean
    found = audit_split(store, split, 3.0, PERMUTATIONS)
    (kept,) = (store.root / AUDITS).iterdir()
    before = kept.stat().st_mtime_ns
    assert audit_split(store, split, 3.0, PERMUTATIONS) == found and kept.stat().st_mtime_ns == before
    keep(found, split, tmp_path)
    place = Path("drafted") / "stimulus-s0.json"
    assert read_audit(tmp_path / AUDITS / place) == found
    assert Split.load(tmp_path / MANIFESTS / place).hash == split.hash == found.manifest_hash


def test_what_is_no_audit_is_refused_and_another_version_is_made_anew(
    clean: tuple[Store, Split], tmp_path: Path
) -> None:
    path = tmp_path / "audit.json"
    assert read_audit(path) is None
    write_audit(path, audit_split(*clean, 3.0, PERMUTATIONS))
    path.write_text(path.read_text().replace('"version": 1', '"version": 0'))
    assert read_audit(path) is None
    path.write_text('{"version": 1}')
    with pytest.raises(BadInput, match=r"audit.json.*content"):
        read_audit(path)


def test_effective_numbers() -> None:
    assert effective("aabbcc") == pytest.approx(3)
    assert effective("aaaaaaab") < 1.3


def test_amounts_are_counted(clean: tuple[Store, Split]) -> None:
    store, split = clean
    (note,) = (f for f in audit(store.index, split, seconds=3.0) if f.name == "amounts")
    trials = len(split.trials("test"))
    assert f"test: {4 * trials} windows, {trials} trials, {SUBJECTS} subjects, 3 stimulus pairs" in note.detail
    assert f"{trials * SECONDS / 60:.1f} min of EEG, {3 * SECONDS / 60:.1f} min distinct" in note.detail
    assert "worth" in note.detail
