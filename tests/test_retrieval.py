"""Where the true candidate comes: ranks, ties, chance, candidate sets, and whole evaluations of retrieval."""

from collections.abc import Sequence
from dataclasses import replace
from math import comb
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from eeg2speech.data import Store
from eeg2speech.data.mixing import Mixer
from eeg2speech.data.types import Segment
from eeg2speech.errors import BadInput
from eeg2speech.evaluation.api import evaluate
from eeg2speech.evaluation.candidates import Candidates
from eeg2speech.evaluation.protocol import PROTOCOLS, Protocol, measure, protocol
from eeg2speech.evaluation.retrieval import RetrievalTest
from eeg2speech.metrics.retrieval import (
    ATTENTION,
    RANK_METRICS,
    Place,
    match_mismatch,
    places,
    rank,
    rank_metric,
    reciprocal_rank,
    top,
    won,
)
from eeg2speech.splits import make_split
from eeg2speech.systems.interface import Context, Facts, NoSettings, System

RETRIEVAL = frozenset({"retrieval"})


def rows(count: int, width: int = 32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)


def test_the_candidate_itself_is_found_first_whatever_the_scale_and_the_chunk() -> None:
    candidates = rows(50)
    scaled = candidates * np.linspace(0.01, 100, 50)[:, None].astype(np.float32)
    for chunk in (1, 7, 50, 1000):
        found = places(scaled, candidates, np.arange(50), chunk)
        assert found == [Place(0, 0, 50)] * 50


def test_places_count_better_candidates_as_a_plain_sort_does() -> None:
    queries, candidates = rows(40, seed=1), rows(30, seed=2)
    truth = np.random.default_rng(3).integers(0, 30, 40)
    cosines = (queries / np.linalg.norm(queries, axis=1)[:, None]) @ (
        candidates / np.linalg.norm(candidates, axis=1)[:, None]
    ).T
    expected = [int((row > row[t] + 1e-5).sum()) for row, t in zip(cosines, truth, strict=True)]
    assert [place.better for place in places(queries, candidates, truth, 8) if place] == expected


def test_an_embedding_that_says_nothing_scores_exactly_at_chance() -> None:
    place = places(np.zeros((1, 8), np.float32), rows(20, 8), [3])[0]
    assert place == Place(0, 19, 20)
    for metric in RANK_METRICS.values():
        assert metric.function(place) == pytest.approx(metric.chance(20)), metric.name


def test_random_embeddings_come_out_at_chance() -> None:
    found = places(rows(4000, seed=4), rows(40, seed=5), np.arange(4000) % 40)
    for metric in RANK_METRICS.values():
        values = [metric.function(place) for place in found if place]
        spread = np.std(values) / np.sqrt(40)  # as many independent candidates
        assert np.mean(values) == pytest.approx(metric.chance(40), abs=4 * spread), metric.name


def test_match_mismatch_is_the_share_of_draws_that_are_won() -> None:
    place = Place(better=3, ties=2, n=12)
    drawn = np.random.default_rng(0)
    others = np.array([1] * 3 + [0] * 2 + [-1] * 6)
    for k in (2, 5):
        wins = []
        for _ in range(20_000):
            picked = drawn.choice(others, k - 1, replace=False)
            wins.append(0.0 if (picked > 0).any() else 1 / (1 + (picked == 0).sum()))
        assert match_mismatch(k)(place) == pytest.approx(np.mean(wins), abs=0.02)
    assert match_mismatch(5)(Place(0, 0, 5)) == 1
    assert match_mismatch(5)(Place(1, 0, 9)) == pytest.approx(comb(7, 4) / comb(8, 4))


def test_ties_share_what_their_ranks_would_earn() -> None:
    place = Place(better=1, ties=3, n=10)
    assert rank(place) == 3.5
    assert [top(k)(place) for k in (1, 2, 3, 5, 10)] == [0, 0.25, 0.5, 1, 1]
    assert reciprocal_rank(place) == pytest.approx(np.mean([1 / 2, 1 / 3, 1 / 4, 1 / 5]))


def test_what_is_not_finite_has_no_place_and_takes_none() -> None:
    queries, candidates = rows(6, seed=6), rows(12, seed=7)
    clean = places(queries, candidates, np.arange(6))
    queries[0], candidates[11] = np.nan, np.inf
    found = places(queries, candidates, np.arange(6))
    assert found[0] is None
    assert all(new.better <= old.better for new, old in zip(found[1:], clean[1:], strict=True) if new and old)
    candidates[2] = np.nan
    assert places(queries, candidates, np.arange(6))[2] is None


@pytest.mark.parametrize(
    ("queries", "candidates", "truth", "message"),
    [
        (rows(2, 8), rows(9, 9), [0, 1], "expected .Q, K. and .N, K."),
        (rows(2, 8), rows(4, 8), [0, 1], "at least 5"),
        (rows(2, 8), rows(9, 8), [0, 9], "a row of the candidates"),
        (rows(2, 8), rows(9, 8), [0], "a row of the candidates"),
    ],
)
def test_what_does_not_go_together_is_refused(
    queries: np.ndarray, candidates: np.ndarray, truth: list[int], message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        places(queries, candidates, truth)


def test_attention_is_won_by_the_nearer_talker() -> None:
    candidates, first, second = rows(10, seed=8), range(5), range(5, 10)
    for chunk in (2, 100):
        assert won(candidates[:5], candidates, first, second, chunk).tolist() == [1] * 5
        assert won(candidates[5:], candidates, first, second, chunk).tolist() == [0] * 5
        assert won(candidates[5:], candidates, first, first, chunk).tolist() == [0.5] * 5
    candidates[6] = np.nan
    assert np.isnan(won(candidates[:5], candidates, first, second)).tolist() == [False, True, False, False, False]


def test_every_metric_of_a_protocol_can_be_had_by_name() -> None:
    for chosen in PROTOCOLS.values():
        for name in chosen.metrics:
            assert measure(name).name == name
    assert rank_metric(ATTENTION.name).chance(99) == 0.5
    with pytest.raises(BadInput, match="did you mean 'top10'"):
        rank_metric("top_10")


# -- candidate sets ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chosen() -> Protocol:
    return protocol("demo-retrieval-1")


@pytest.fixture(scope="module")
def candidates(store: Store, chosen: Protocol) -> Candidates:
    segments = chosen.test_segments(store, make_split(store.index, "stimulus"))
    return Candidates.of(store, segments, Mixer(store))


def test_what_several_hear_is_one_candidate(store: Store, candidates: Candidates) -> None:
    heard = {(store.trial(s.trial).attended, s.start) for s in candidates.segments}
    assert len(candidates.windows) == len(heard) < len(candidates.segments)
    assert candidates.reference.n == len(heard)
    assert candidates.reference.duplicates == 0
    assert candidates.reference.seconds == 3.0
    # Each segment's row holds the very sound it is about.
    mixer, names = candidates.mixer, list(candidates.windows)
    for segment, row in list(zip(candidates.segments, candidates.rows, strict=True))[::7]:
        own = candidates.windows[names[row]].sound(mixer)
        np.testing.assert_array_equal(own, mixer.scene(segment).target)


def test_windows_of_the_same_sound_are_found_and_counted_as_one(store: Store, chosen: Protocol) -> None:
    segments = chosen.test_segments(store, make_split(store.index, "stimulus"))

    class Looped(Mixer):
        """Every talker says the same second over and over."""

        def talkers(self, name: str, begin: int, end: int) -> tuple[np.ndarray, np.ndarray]:
            target, other = super().talkers(name, 0, 16_000)
            return np.tile(target, 3), np.tile(other, 3)

    found = Candidates.of(store, segments, Looped(store))
    trials = {store.trial(s.trial).attended for s in segments}
    windows = {(store.trial(s.trial).attended, s.start) for s in segments}
    assert found.reference.n == len(trials)
    assert found.reference.duplicates == len(windows) - len(trials)


def test_the_hash_of_a_set_is_that_of_its_content_and_order(store: Store, candidates: Candidates) -> None:
    again = Candidates.of(store, candidates.segments, Mixer(store))
    assert again.reference == candidates.reference
    fewer = Candidates.of(store, candidates.segments[4:], Mixer(store))
    assert fewer.reference.hash != candidates.reference.hash


# -- whole evaluations ---------------------------------------------------------------------------------------------


class Known(System):
    """Knows the answer: its embedding of EEG is that of the speech it was made for."""

    facts = Facts(title="known", licence="MIT", source="test", tasks=RETRIEVAL)

    def __init__(self, context: Context, answers: dict[bytes, Tensor]) -> None:
        super().__init__(context, NoSettings())
        self.answers, self.calls = answers, 0

    def embed_eeg(self, eeg: Tensor, subject: Tensor) -> Tensor:
        found = [self.answers.get(row.numpy().tobytes(), torch.full((3000,), 1.0)) for row in eeg]
        return torch.stack(found).unsqueeze(1)

    def embed_speech(self, speech: Tensor) -> Tensor:
        self.calls += len(speech)
        return speech[:, :3000].unsqueeze(1)


def answers(store: Store, segments: Sequence[Segment]) -> dict[bytes, Tensor]:
    mixer = Mixer(store)
    scenes = [mixer.scene(segment) for segment in segments]
    return {scene.eeg.tobytes(): torch.from_numpy(scene.target[:3000]) for scene in scenes}


def test_a_system_that_knows_is_right_with_the_eeg_and_lost_without(
    store: Store, candidates: Candidates, chosen: Protocol
) -> None:
    system = Known(Context.of(store, 3.0), answers(store, candidates.segments))
    test = RetrievalTest(system, candidates, 0)
    true = test.scores("true_eeg", chosen.metrics)
    assert (true[["top1", "reciprocal_rank", "match_mismatch_5", "attention_accuracy", "rank"]] == 1).all().all()
    heard = system.calls
    noise = test.scores("noise_cue", chosen.metrics)
    assert noise["top1"].mean() < 0.5
    assert system.calls == heard, "candidates are embedded once for all controls"
    assert test.chances(chosen.metrics)["top1"] == pytest.approx(1 / len(candidates.windows))


def test_an_embedding_that_is_not_finite_is_a_failure_with_its_reason(
    store: Store, candidates: Candidates, chosen: Protocol
) -> None:
    known = answers(store, candidates.segments)
    first = next(iter(known))
    known[first] = torch.full((3000,), torch.nan)
    scores = RetrievalTest(Known(Context.of(store, 3.0), known), candidates, 0).scores("true_eeg", chosen.metrics)
    failed = scores[scores["top1"].isna()]
    assert len(failed) == 1
    assert failed["top1_reason"].item() == failed["attention_accuracy_reason"].item() == "non-finite embedding"


def test_embeddings_of_other_sizes_are_refused(store: Store, candidates: Candidates, chosen: Protocol) -> None:
    system = Known(Context.of(store, 3.0), {})
    system.embed_eeg = lambda eeg, subject: torch.zeros(len(eeg), 2, 7)  # type: ignore[method-assign]
    with pytest.raises(BadInput, match="as many numbers of both, found 14 of EEG, 3000 of speech"):
        RetrievalTest(system, candidates, 0).scores("true_eeg", chosen.metrics)
    system.embed_eeg = lambda eeg, subject: torch.zeros(len(eeg), 7)  # type: ignore[method-assign]
    with pytest.raises(BadInput, match="embedding of EEG: expected a tensor"):
        RetrievalTest(system, candidates, 0).scores("true_eeg", chosen.metrics)


def test_a_system_that_sees_stimuli_is_given_them_whole(store: Store, candidates: Candidates, chosen: Protocol) -> None:
    class Whole(Known):
        facts = replace(Known.facts, sees="stimuli")
        lengths: set[int] = set()

        def embed_speech_in(self, stimulus: Tensor, begin: int, end: int) -> Tensor:
            self.lengths.add(len(stimulus))
            return stimulus[begin : begin + 3000].unsqueeze(0)

    system = Whole(Context.of(store, 3.0), answers(store, candidates.segments))
    scores = RetrievalTest(system, candidates, 0).scores("true_eeg", chosen.metrics)
    assert (scores["top1"] == 1).all()
    assert system.lengths == {12 * 16_000}


def test_evaluate_gives_records_with_candidates_and_chance(store: Store) -> None:
    result = evaluate("retrieval_chance", store, "trial", ("true_eeg", "noise_cue"), "demo-retrieval-1")
    record = result.records["true_eeg"]
    assert (record.task, record.system.sees) == ("retrieval", "candidates")
    assert record.candidates is not None
    for name, found in record.metrics.items():
        assert found.mean == pytest.approx(found.chance), name
    assert record.metrics["rank"].aggregate == "median"
    assert result.table().columns[2].startswith("top10")
    assert result.drop().mean == 0


def test_a_system_of_another_task_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="tasks: expected retrieval among them, found extraction"):
        evaluate("mixture", store, "trial", ("true_eeg",), "demo-retrieval-1")
