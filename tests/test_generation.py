"""Generation, scored: what is asked, what is counted, what fails with a reason, and what a record says of it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from eeg2speech.data import Store
from eeg2speech.data.mixing import Mixer
from eeg2speech.errors import BadInput
from eeg2speech.evaluation.api import evaluate
from eeg2speech.evaluation.candidates import Candidates
from eeg2speech.evaluation.examples import Clips
from eeg2speech.evaluation.generation import FRECHET, GenerationTest, generator_of, mel_row, speech
from eeg2speech.evaluation.protocol import Protocol, protocol, protocol_for
from eeg2speech.evaluation.run import Bench, scorer_of
from eeg2speech.metrics import Scorer, mel_correlation
from eeg2speech.splits import make_split
from eeg2speech.splits.manifest import Split
from eeg2speech.systems.interface import Context, Facts, NoSettings, System, generated

GENERATION = frozenset({"generation"})
CHEAP = ("mel_correlation", "mel_top1", "mel_top10", "mel_reciprocal_rank", "envelope_correlation")


@pytest.fixture(scope="module")
def chosen() -> Protocol:
    return protocol("demo-generation-1")


@pytest.fixture(scope="module")
def split(store: Store) -> Split:
    return make_split(store.index, "trial")


@pytest.fixture(scope="module")
def candidates(store: Store, chosen: Protocol, split: Split) -> Candidates:
    return Candidates.of(store, chosen.test_segments(store, split), Mixer(store))


class Echo(System):
    """The true speech; with ``silent`` and ``broken``, numbers of segments for which it answers otherwise."""

    facts = Facts(title="echo", licence="MIT", source="test", tasks=GENERATION, sees="target")

    def __init__(self, context: Context, silent: int = -1, broken: int = -1) -> None:
        super().__init__(context, NoSettings())
        self.silent, self.broken, self.seen = silent, broken, 0

    def generate_from(
        self, eeg: Tensor, subject: Tensor, generators: Sequence[torch.Generator], target: Tensor
    ) -> Tensor:
        found = target.clone()
        for row in range(len(found)):
            if self.seen == self.silent:
                found[row] = 0
            if self.seen == self.broken:
                found[row, 7] = torch.nan
            self.seen += 1
        return found


class Noise(System):
    """Noise from each segment's own generator."""

    facts = Facts(title="noise", licence="MIT", source="test", tasks=GENERATION)

    def generate(self, eeg: Tensor, subject: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        return torch.stack([0.05 * torch.randn(64_000, generator=each) for each in generators])


def scores(system: System, candidates: Candidates, metrics: Sequence[str] = CHEAP) -> GenerationTest:
    with Scorer(
        [name for name in metrics if not name.startswith("mel_") or name == "mel_correlation"], 16_000
    ) as scorer:
        test = GenerationTest(system, candidates, scorer, 0)
        test.frame = test.scores("true_eeg", metrics)  # type: ignore[attr-defined]
    return test


def test_the_true_speech_is_found_again_and_has_no_distance(store: Store, candidates: Candidates) -> None:
    test = scores(Echo(Context.of(store, 4.0)), candidates)
    assert (test.frame[["mel_top1", "mel_top10", "mel_reciprocal_rank"]] == 1).all().all()  # type: ignore[attr-defined]
    assert np.allclose(test.frame["mel_correlation"], 1)  # type: ignore[attr-defined]
    assert test.set_metrics[FRECHET].value == pytest.approx(0, abs=1e-6)
    assert test.set_metrics[FRECHET].n == len(candidates.segments)


def test_noise_is_at_chance(store: Store, candidates: Candidates) -> None:
    test = scores(Noise(Context.of(store, 4.0), NoSettings()), candidates)
    chances = test.chances(CHEAP)
    assert chances["mel_top1"] == 1 / len(candidates.windows)
    found = test.frame["mel_reciprocal_rank"].mean()  # type: ignore[attr-defined]
    assert found == pytest.approx(chances["mel_reciprocal_rank"], abs=0.35)
    value = test.set_metrics[FRECHET].value
    assert value is not None and value > 0.3


def test_silence_and_nan_are_failures_with_reasons_and_stop_nothing(store: Store, candidates: Candidates) -> None:
    test = scores(Echo(Context.of(store, 4.0), silent=1, broken=3), candidates)
    frame = test.frame  # type: ignore[attr-defined]
    assert frame["mel_correlation_reason"].dropna().to_dict() == {1: "silent estimate", 3: "non-finite estimate"}
    assert frame["mel_top1_reason"].dropna().to_dict() == {3: "non-finite estimate"}
    assert frame["mel_top1"][1] == pytest.approx(1 / len(candidates.windows)), "silence is nearest to none"
    whole = test.set_metrics[FRECHET]
    assert whole.n == len(candidates.segments) - 2
    assert whole.note is not None and "2 left out" in whole.note


def test_what_is_drawn_depends_on_seed_and_segment_alone(store: Store, candidates: Candidates) -> None:
    system, mixer, segments = Noise(Context.of(store, 4.0), NoSettings()), candidates.mixer, list(candidates.segments)
    whole = [wave for _, wave in speech(system, mixer, segments, "true_eeg", 0)]
    other = [wave for _, wave in speech(system, mixer, segments[::-1], "noise_cue", 0)]
    for one, two in zip(whole, other[::-1], strict=True):
        np.testing.assert_array_equal(one, two)
    again = [wave for _, wave in speech(system, mixer, segments[:1], "true_eeg", 1)]
    assert not np.array_equal(whole[0], again[0])
    assert generator_of(segments[0], 0).initial_seed() != generator_of(segments[1], 0).initial_seed()


def test_the_cosine_of_mel_rows_is_the_mel_correlation(store: Store, candidates: Candidates) -> None:
    waves = [window.sound(candidates.mixer) for window in list(candidates.windows.values())[:2]]
    one, two = (mel_row(wave, 16_000) for wave in waves)
    cosine = float(one @ two / np.linalg.norm(one) / np.linalg.norm(two))
    assert cosine == pytest.approx(mel_correlation(*waves, 16_000), abs=1e-3)


def test_an_answer_of_another_length_is_refused(store: Store, candidates: Candidates) -> None:
    system = Noise(Context.of(store, 4.0), NoSettings())
    eeg, subject, generators = torch.zeros(1, 64, 256), torch.zeros(1).long(), [torch.Generator()]
    with pytest.raises(BadInput, match=r"estimate: expected a tensor \[1, 32000\], found \[1, 64000\]"):
        generated(system, eeg, subject, generators, torch.zeros(1, 32_000))


def test_records_say_what_was_asked(store: Store) -> None:
    result = evaluate("vocoder_target", store, "trial", ("true_eeg", "time_shift"))
    record = result.records["true_eeg"]
    assert (record.task, record.system.sees, record.protocol.name) == ("generation", "target", "demo-generation")
    assert record.system.parts is not None and {*record.system.parts} == {"vocoder"}
    assert record.system.segments_heard is not None
    assert record.candidates is not None and record.candidates.seconds == 4
    assert record.metrics["mel_top1"].chance == pytest.approx(1 / record.candidates.n)
    assert record.set_metrics[FRECHET].value is not None
    # Costly metrics are there with the true EEG, and not under every control.
    assert "dnsmos" in record.metrics and "dnsmos" not in result.records["time_shift"].metrics
    assert record.metrics["mel_top1"].mean == pytest.approx(1), "speech through a vocoder is still that speech"
    assert result.table().columns[2].startswith("mel_correlation")


def test_a_callable_generates(store: Store) -> None:
    def hum(eeg: Tensor, subject: Tensor) -> Tensor:
        return 0.05 * torch.sin(torch.arange(64_000) * 0.1).expand(len(eeg), -1)

    record = evaluate(hum, store, "trial", ("true_eeg",), "demo-generation-1").records["true_eeg"]
    assert record.system.sees == "nothing"
    assert record.metrics["mel_correlation"].n > 0


def test_clips_hold_the_target_and_what_was_made_of_it(
    store: Store, split: Split, chosen: Protocol, tmp_path: Path
) -> None:
    clips = Clips(tmp_path, store, split, chosen, 1)
    clips.keep("echo", Echo(Context.of(store, 4.0)), None)
    assert sorted(path.name for path in tmp_path.rglob("*.ogg")) == ["echo.ogg", "target.ogg"]
    assert clips.kept("echo", None) and not clips.kept("echo", "other")
    assert "mel correlation 1.00" in next(tmp_path.rglob("index.json")).read_text()


def test_a_metric_of_another_task_is_refused() -> None:
    for label, name in (("demo-retrieval-1", "stoi"), ("demo-generation-1", "top1"), ("demo-1", "mel_top1")):
        with pytest.raises(BadInput, match=f"metrics: expected one of .*, found '{name}'"):
            protocol(label).adding([name])
    assert protocol("demo-generation-1").adding(["sdr", "stoi"]).metrics[-1] == "sdr"


def test_a_system_has_a_protocol_of_its_own() -> None:
    assert protocol_for({"generation"}) == "demo-generation-1"
    assert protocol_for({"generation", "retrieval"}) == "demo-retrieval-1"
    assert protocol_for({"extraction", "generation"}) == "demo-1"
    with pytest.raises(BadInput, match="task"):
        protocol_for({"translation"})


def test_a_bench_makes_its_candidates_once(store: Store, split: Split, chosen: Protocol) -> None:
    with scorer_of(chosen, 1) as scorer:
        bench = Bench(store, split, chosen, scorer)
        assert bench.candidates is bench.candidates
        assert {entry.name for entry in scorer.metrics}.isdisjoint({"mel_top1", "top1"})
