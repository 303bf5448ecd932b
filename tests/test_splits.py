import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from eeg2speech.data import Recording, Sensors, Stimulus, Store, StudyFacts, Trial
from eeg2speech.data.types import Index
from eeg2speech.errors import BadInput
from eeg2speech.splits import KINDS, Span, Split, audit, make_split
from eeg2speech.splits.audit import verdict
from eeg2speech.splits.splitters import stimulus_groups

GENERAL = [kind for kind in KINDS if kind not in ("published", "given", "story")]
"""Kinds that any study can be split by."""
FACTS = StudyFacts("toy", "Toy", "CC0", "none", "", "made here", "noise", 16_000, 128)


Attention = Callable[[int, int], int]


def coin(seed: int = 0) -> Attention:
    """The attended side is thrown for each subject and pair."""
    return lambda subject, pair: int(np.random.default_rng([seed, subject, pair]).integers(2))


def alternating(subject: int, pair: int) -> int:
    """Balanced exactly, in each pair and each subject."""
    return (subject + pair) % 2


def own(subject: int, pair: int) -> int:
    """The subject's own, whatever the pair."""
    return subject % 2


def index(subjects: int = 6, pairs: int = 10, attention: Attention = alternating) -> Index:
    """Every subject hears every pair, 10 s each."""
    stimuli = [Stimulus(f"{side}{p:02}", 160_000, 16_000, side, "en", "") for p in range(pairs) for side in "ab"]
    recordings = [Recording(f"r{s}", f"S{s}", 128 * 10 * pairs, 128, "") for s in range(subjects)]
    trials = []
    for s in range(subjects):
        for p in range(pairs):
            one, other = f"a{p:02}", f"b{p:02}"
            if attention(s, p):
                one, other = other, one
            trials.append(Trial(f"S{s}-{p}", f"r{s}", f"S{s}", 10.0 * p, 10.0, one, other))
    return Index(FACTS, "rev", Sensors(("A",), ((0.0, 0.0, 0.1),)), recordings, stimuli, trials)


def audio(made: Split, of: Index, part: str) -> set[str | None]:
    names = set(made.trials(part))
    return {s for t in of.trials if t.id in names for s in (t.attended, t.unattended)}


@pytest.mark.parametrize("kind", GENERAL)
def test_parts_are_disjoint_in_time_and_cover_everything(kind: str) -> None:
    study = index()
    made = make_split(study, kind)
    spans = sorted(span for part in made.parts.values() for span in part)
    for a, b in zip(spans, spans[1:], strict=False):
        assert a.trial != b.trial or a.stop <= b.start
    covered: Counter[str] = Counter()
    for span in spans:
        covered[span.trial] += span.stop - span.start  # type: ignore[assignment]
    assert covered == pytest.approx({t.id: t.duration for t in study.trials})


def test_each_kind_holds_out_what_it_says() -> None:
    study = index()
    trials = {t.id: t for t in study.trials}
    by_trial = make_split(study, "trial")
    assert not set(by_trial.trials("train")) & set(by_trial.trials("test"))
    per_subject = Counter(trials[name].subject for name in by_trial.trials("test"))
    assert set(per_subject.values()) == {2}
    by_stimulus = make_split(study, "stimulus")
    for one, other in (("train", "test"), ("train", "valid"), ("valid", "test")):
        assert not audio(by_stimulus, study, one) & audio(by_stimulus, study, other)
    by_subject = make_split(study, "subject")
    heard = [{trials[name].subject for name in by_subject.trials(part)} for part in ("train", "valid", "test")]
    assert [len(s) for s in heard] == [4, 1, 1] and not set.intersection(*heard)


@pytest.mark.parametrize("kind", GENERAL)
def test_a_split_depends_on_content_and_seed_not_on_order_or_names(kind: str) -> None:
    study = index()
    turned = replace(study, trials=study.trials[::-1])
    assert make_split(turned, kind, 3).hash == make_split(study, kind, 3).hash
    if kind != "within_trial":
        assert make_split(study, kind, 4).hash != make_split(study, kind, 3).hash
    renamed = replace(study, trials=[replace(t, id=f"x{t.id}") for t in study.trials])
    names = [name.removeprefix("x") for name in make_split(renamed, kind, 3).trials("test")]
    assert sorted(names) == sorted(make_split(study, kind, 3).trials("test"))


@pytest.mark.parametrize("kind", GENERAL)
@pytest.mark.parametrize("later", [0.0, 400.0])
def test_repeats_are_in_exactly_one_part_together(kind: str, later: float) -> None:
    """Half of what each subject hears comes again in a second recording, at the same time or another."""
    study = index()
    again = [
        replace(t, id=f"{t.id}-again", recording=f"{t.recording}b", start=t.start + later)
        for t in study.trials
        if t.start < 50
    ]
    recordings = [*study.recordings, *(replace(r, id=f"{r.id}b", samples=2 * r.samples) for r in study.recordings)]
    repeated = replace(study, trials=[*study.trials, *again], recordings=recordings)
    made = make_split(repeated, kind)
    parts = {t.id: [part for part in made.parts if t.id in made.trials(part)] for t in repeated.trials}
    if kind == "within_trial":
        assert all(len(found) == 3 for found in parts.values())
        return
    assert all(len(found) == 1 for found in parts.values())
    assert all(parts[t.id] == parts[t.id.removesuffix("-again")] for t in repeated.trials)
    assert all(len(spans) == len(set(spans)) for spans in made.parts.values())
    turned = replace(repeated, trials=repeated.trials[::-1])
    assert make_split(turned, kind).hash == made.hash
    if kind == "trial":
        first = {part: {n.removesuffix("-again") for n in made.trials(part)} for part in made.parts}
        once = make_split(study, kind)
        assert first == {part: set(once.trials(part)) for part in once.parts}, "a repeat moves nothing"


def test_cuts_within_trials_fall_on_eeg_samples() -> None:
    study = index()
    odd = replace(study, trials=[replace(t, duration=9.7 + 0.01 * k) for k, t in enumerate(study.trials)])
    made = make_split(odd, "within_trial")
    assert any(0.7 * t.duration * 128 % 1 for t in odd.trials)
    assert all((span.start * 128) % 1 == 0 for spans in made.parts.values() for span in spans)
    stops = {span.trial: span.stop for span in made.parts["test"]}
    assert stops == {t.id: t.duration for t in odd.trials}
    for part, following in (("train", "valid"), ("valid", "test")):
        assert [s.stop for s in made.parts[part]] == [s.start for s in made.parts[following]]


def test_stimuli_that_share_trials_in_a_chain_stay_together() -> None:
    chain = [Trial(f"t{k}", "r", "S", 0.0, 1.0, f"s{k}", f"s{k + 1}") for k in range(4)]
    assert len(set(stimulus_groups(chain).values())) == 1
    assert stimulus_groups(chain) == stimulus_groups(chain[::-1])


def test_the_test_part_does_not_move_with_the_valid_fraction() -> None:
    study = index()
    small, large = (make_split(study, "stimulus", 0, (0.8 - v, v, 0.2)) for v in (0.1, 0.3))
    assert small.parts["test"] == large.parts["test"] and len(small.parts["valid"]) < len(large.parts["valid"])


def test_an_empty_part_an_unknown_kind_and_bad_fractions_are_refused() -> None:
    with pytest.raises(BadInput, match=r"train: expected at least one span, found none \(an empty split\)"):
        make_split(index(subjects=2), "subject")
    with pytest.raises(BadInput, match="did you mean 'stimulus'"):
        make_split(index(), "stimuli")
    with pytest.raises(BadInput, match="add up to 1"):
        make_split(index(), "trial", 0, (0.5, 0.1, 0.1))


def test_a_manifest_comes_back_and_a_changed_one_is_refused(tmp_path: Path) -> None:
    made, path = make_split(index(), "trial"), tmp_path / "m.json"
    made.save(path)
    assert Split.load(path) == made and Split.load(path).hash == made.hash
    path.write_text(path.read_text().replace('"trial": "S0-0"', '"trial": "S0-1"', 1))
    with pytest.raises(BadInput, match="hash"):
        Split.load(path)
    path.write_text(path.read_text()[:-30])
    with pytest.raises(BadInput, match="a split manifest"):
        Split.load(path)


def test_what_is_no_manifest_is_refused(tmp_path: Path) -> None:
    made, path = make_split(index(), "trial"), tmp_path / "m.json"
    with pytest.raises(BadInput, match="file: expected a split manifest, found no such file"):
        Split.load(path)
    made.save(path)
    body = json.loads(path.read_text())
    contents = [
        b"",
        b"[]",
        b"\xff\xfe",
        json.dumps(body | {"parts": []}).encode(),
        json.dumps(body | {"parts": body["parts"] | {"test": [{"trial": "S0-0", "begin": 0.0}]}}).encode(),
    ]
    for content in contents:
        path.write_bytes(content)
        with pytest.raises(BadInput, match="content: expected a split manifest"):
            Split.load(path)
    with pytest.raises(BadInput, match="content: expected a split manifest"):
        Split.load(tmp_path)


def names(findings: list, level: str) -> set[str]:
    return {f.name for f in findings if f.level == level}


def test_the_audit_names_what_each_split_leaks_and_nothing_else() -> None:
    study = index()
    expected = {
        "within_trial": ({"trial in train and test"}, set()),
        "trial": (set(), {"attended audio in train and test"}),
        "stimulus": (set(), set()),
        "subject": (set(), {"attended audio in train and test"}),
    }
    for kind, (fatal, warning) in expected.items():
        findings = audit(study, make_split(study, kind))
        assert (names(findings, "fatal"), names(findings, "warning")) == (fatal, warning), kind


def test_the_audit_finds_planted_leaks() -> None:
    study = index(attention=own)
    findings = audit(study, make_split(study, "stimulus"))
    assert names(findings, "fatal") == {"subject decides target"}
    assert verdict(findings) == "fatal: subject decides target"
    one_sided = replace(study, trials=[t for t in study.trials if t.attended.startswith("a")])
    assert "unbalanced attended roles" in names(audit(one_sided, make_split(one_sided, "stimulus")), "warning")
    clean = index()
    made = make_split(clean, "stimulus")
    first = made.parts["train"][0]
    leaky = replace(made, parts=dict(made.parts) | {"test": (*made.parts["test"], Span(first.trial, 5.0, 9.0))})
    assert "overlapping windows" in names(audit(clean, leaky), "fatal")


def divided(study: Index, **parts: list[Span]) -> Split:
    return Split("trial", 0, study.study.name, study.revision, {part: tuple(spans) for part, spans in parts.items()})


def test_a_long_span_is_compared_with_all_that_begin_within_it() -> None:
    study = index()
    inside = [Span("S0-0", 1.0, 2.0), Span("S0-0", 3.0, 4.0)]
    long = [Span("S0-0", 0.0, 9.0), *inside]
    made = divided(study, train=long, valid=[Span("S1-0", 0.0, 9.0)], test=[Span("S0-0", 5.0, 6.0)])
    clash = next(f for f in audit(study, made) if f.name == "overlapping windows")
    assert clash.level == "fatal"
    assert clash.detail == "1 overlaps between parts, the first of trial 'S0-0' (train) with trial 'S0-0' (test)"
    assert "windows counted twice" in names(audit(study, made), "warning"), "two lie within the long one"


def test_trials_of_one_recording_that_overlap_in_time_are_found() -> None:
    study = index()
    late = replace(study.trials[0], id="late", start=4.0, attended="a09", unattended="b09")
    elsewhere = replace(late, id="elsewhere", recording="r1", subject="S1")
    found = replace(study, trials=[*study.trials, late, elsewhere])

    def overlap(test: Span) -> bool:
        made = divided(found, train=[Span("S0-0", 0.0, 10.0)], valid=[Span("S1-9", 0.0, 10.0)], test=[test])
        return "overlapping windows" in names(audit(found, made), "fatal")

    assert overlap(Span("late", 0.0, 10.0)) and overlap(Span("late", 5.9, 6.1))
    assert not overlap(Span("late", 6.0, 10.0)), "it begins where the other ends"
    assert not overlap(Span("elsewhere", 0.0, 10.0)), "another recording"


def told(study: Index, kind: str) -> list[str]:
    return [f.detail for f in audit(study, make_split(study, kind)) if f.name == "attention told by training"]


def test_exact_balance_lets_training_tell_the_test() -> None:
    """What is missing from a balanced count in training is in the test."""
    (by_pair,) = (d for d in told(index(40, 20), "subject") if "pair" in d)
    assert by_pair.startswith("the side less often attended in training by pair is the one attended in ")
    (by_subject,) = told(index(60, 20), "stimulus")
    assert "less often attended in training by subject" in by_subject
    study = index(60, 20)
    assert verdict(audit(study, make_split(study, "stimulus"))) == "warning: attention told by training"


def test_a_leaning_lets_training_tell_the_test() -> None:
    """Three quarters of the time the side is the pair's own, or the subject's own."""

    def leaning(of_pair: bool) -> Attention:
        other = coin(1)
        return lambda s, p: (p if of_pair else s) % 2 if coin(2)(s, p) else other(s, p)

    (detail,) = told(index(30, 20, leaning(of_pair=True)), "subject")
    assert "more often attended in training by pair" in detail
    (detail,) = told(index(30, 20, leaning(of_pair=False)), "stimulus")
    assert "more often attended in training by subject" in detail


def test_attention_by_a_coin_raises_no_alarm() -> None:
    for seed in range(20):
        study = index(16, 20, coin(seed))
        assert not [kind for kind in GENERAL if told(study, kind)], seed
    assert verdict(audit(study, make_split(study, "stimulus"))) == "clean"


def test_subjects_who_decide_the_target_are_not_reported_twice() -> None:
    study = index(40, 20, own)
    findings = audit(study, make_split(study, "stimulus"))
    assert names(findings, "fatal") == {"subject decides target"} and not told(study, "stimulus")


def test_repeats_are_no_further_evidence_that_training_tells() -> None:
    """By chance few presentations are guessed; each told ten times over, they would look like proof."""
    study = index(6, 10, coin(3))
    again = [replace(t, id=f"{t.id}x{k}", start=100.0 * k + t.start) for t in study.trials for k in range(1, 10)]
    recordings = [replace(r, samples=10 * r.samples) for r in study.recordings]
    repeated = replace(study, trials=[*study.trials, *again], recordings=recordings)
    for seed in range(5):
        made = make_split(repeated, "trial", seed)
        assert not [f for f in audit(repeated, made) if f.name == "attention told by training"]


def test_the_simulated_study_is_clean_under_the_strict_split(store: Store) -> None:
    assert verdict(audit(store.index, make_split(store.index, "stimulus"))) == "clean"


def with_stories(stories: int = 10, parts: bool = True) -> Index:
    """As ``index``, with a story for each pair of stimuli (modulo ``stories``) and parts as the authors give them."""
    plain = index()
    stimuli = [replace(s, story=f"story {int(s.id[1:]) % stories}") for s in plain.stimuli]
    cut = ("test", "test", "valid", *["train"] * 7)
    trials = [replace(t, part=cut[int(t.attended[1:])] if parts else "") for t in plain.trials]
    return replace(plain, stimuli=stimuli, trials=trials)


def test_no_story_of_a_test_trial_was_heard_in_training() -> None:
    of = with_stories(stories=5)
    made = make_split(of, "story")
    stories = {s.id: s.story for s in of.stimuli}
    heard = {part: {stories[s] for s in audio(made, of, part) if s} for part in made.parts}
    assert not heard["test"] & (heard["train"] | heard["valid"]) and not heard["train"] & heard["valid"]
    assert set().union(*heard.values()) == {*stories.values()}


def test_a_story_split_needs_stories() -> None:
    with pytest.raises(BadInput, match="none: the study tells of none"):
        make_split(index(), "story")


def test_parts_are_those_of_the_authors() -> None:
    of = with_stories()
    made = make_split(of, "given")
    for part in made.parts:
        assert {*made.trials(part)} == {t.id for t in of.trials if t.part == part}
    with pytest.raises(BadInput, match="part of trial 'S0-0': expected train, valid, test, found none"):
        make_split(with_stories(parts=False), "given")
    with pytest.raises(BadInput):
        make_split(replace(of, trials=[t for t in of.trials if t.part != "valid"]), "given")
