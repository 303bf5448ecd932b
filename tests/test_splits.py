from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from eeg2speech.data import Recording, Sensors, Stimulus, Store, StudyFacts, Trial
from eeg2speech.data.types import Index
from eeg2speech.errors import BadInput
from eeg2speech.splits import KINDS, Span, Split, audit, make_split
from eeg2speech.splits.audit import verdict
from eeg2speech.splits.splitters import stimulus_groups

FACTS = StudyFacts("toy", "Toy", "CC0", "none", "", "made here", "noise", 16_000, 128)


def index(subjects: int = 6, pairs: int = 10, confounded: bool = False) -> Index:
    """Every subject hears every pair; attention alternates, or is the subject's own when confounded."""
    stimuli = [Stimulus(f"{side}{p:02}", 160_000, 16_000, side, "en", "") for p in range(pairs) for side in "ab"]
    recordings = [Recording(f"r{s}", f"S{s}", 128 * 10 * pairs, 128, "") for s in range(subjects)]
    trials = []
    for s in range(subjects):
        for p in range(pairs):
            one, other = f"a{p:02}", f"b{p:02}"
            if (s if confounded else s + p) % 2:
                one, other = other, one
            trials.append(Trial(f"S{s}-{p}", f"r{s}", f"S{s}", 10.0 * p, 10.0, one, other))
    return Index(FACTS, "rev", Sensors(("A",), ((0.0, 0.0, 0.1),)), recordings, stimuli, trials)


def audio(made: Split, of: Index, part: str) -> set[str | None]:
    names = set(made.trials(part))
    return {s for t in of.trials if t.id in names for s in (t.attended, t.unattended)}


@pytest.mark.parametrize("kind", [*KINDS])
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


@pytest.mark.parametrize("kind", [*KINDS])
def test_a_split_depends_on_content_and_seed_not_on_order_or_names(kind: str) -> None:
    study = index()
    turned = replace(study, trials=study.trials[::-1])
    assert make_split(turned, kind, 3).hash == make_split(study, kind, 3).hash
    if kind != "within_trial":
        assert make_split(study, kind, 4).hash != make_split(study, kind, 3).hash
    renamed = replace(study, trials=[replace(t, id=f"x{t.id}") for t in study.trials])
    names = [name.removeprefix("x") for name in make_split(renamed, kind, 3).trials("test")]
    assert sorted(names) == sorted(make_split(study, kind, 3).trials("test"))


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


def names(findings: list, level: str) -> set[str]:
    return {f.name for f in findings if f.level == level}


def test_the_audit_names_what_each_split_leaks_and_nothing_else() -> None:
    study = index()
    expected = {
        "within_trial": ({"trial in train and test"}, {"audio in train and test"}),
        "trial": (set(), {"audio in train and test"}),
        "stimulus": (set(), set()),
        "subject": (set(), {"audio in train and test"}),
    }
    for kind, (fatal, warning) in expected.items():
        findings = audit(study, make_split(study, kind))
        assert (names(findings, "fatal"), names(findings, "warning")) == (fatal, warning), kind


def test_the_audit_finds_planted_leaks() -> None:
    study = index(confounded=True)
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


def test_the_simulated_study_is_clean_under_the_strict_split(store: Store) -> None:
    assert verdict(audit(store.index, make_split(store.index, "stimulus"))) == "clean"
