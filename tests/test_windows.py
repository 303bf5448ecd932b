import time
from collections import Counter

import numpy as np
import pytest
import torch

from eeg2speech.data import Segment, Store
from eeg2speech.data.mixing import Mixer
from eeg2speech.data.windows import even_segments, random_segments, tiled_segments
from eeg2speech.errors import BadInput
from eeg2speech.splits import Span, make_split
from eeg2speech.training.examples import Batch, Examples

SPANS = [Span("a", 0.0, 60.0), Span("b", 42.0, 60.0), Span("c", 0.0, 4.0)]


def test_even_windows_lie_inside_their_span_and_do_not_overlap() -> None:
    for count in (1, 2, 3, 4):
        segments = even_segments(SPANS, 4.0, count, 128)
        for span in SPANS:
            own = sorted(s.start for s in segments if s.trial == span.trial)
            assert own and own[0] >= span.start and own[-1] + 4.0 <= span.stop
            assert all(b - a >= 4.0 for a, b in zip(own, own[1:], strict=False))
        assert Counter(s.trial for s in segments)["c"] == 1


def test_all_windows_start_on_eeg_samples_also_where_spans_do_not() -> None:
    odd = [Span("a", 8.4003, 51.3)]
    for segment in (*even_segments(odd, 4.0, 3, 128), *random_segments(odd, 4.0, 50, (0,), 128)):
        assert (segment.start * 128) % 1 == 0 and 8.4003 <= segment.start <= 51.3 - 4.0


def test_random_windows_are_uniform_over_time_and_depend_on_the_seed_alone() -> None:
    first = random_segments(SPANS, 4.0, 4000, (1, 2), 128)
    np.random.seed(0)
    assert random_segments(SPANS, 4.0, 4000, (1, 2), 128) == first
    assert random_segments(SPANS, 4.0, 4000, (1, 3), 128) != first
    share = Counter(s.trial for s in first)["b"] / 4000
    assert share == pytest.approx(14 / 70, abs=0.03)


def test_tiles_stand_side_by_side() -> None:
    assert [s.start for s in tiled_segments([Span("b", 42.0, 60.0)], 4.0, 128)] == [42.0, 46.0, 50.0, 54.0]


def test_a_span_shorter_than_a_window_is_refused() -> None:
    with pytest.raises(BadInput, match=r"trial 'c': duration: expected at least one window of 5.0 s, found 4.000 s"):
        even_segments(SPANS, 5.0, 1, 128)


def examples(store: Store, part: str = "train") -> Examples:
    return Examples(store, make_split(store.index, "stimulus").parts[part], Mixer(store))


def test_mixing_gives_equal_power_over_the_trial_and_adds_up(store: Store) -> None:
    mixer = Mixer(store)
    for trial in list(store.trials.values())[:4]:
        scene = mixer.scene(tiled_segments([Span(trial.id, 0.0, trial.duration)], trial.duration, 128)[0])
        np.testing.assert_allclose(scene.mixture, scene.target + scene.interferer, atol=1e-7)
        ratio = 10 * np.log10(np.mean(scene.target**2) / np.mean(scene.interferer**2))
        assert ratio == pytest.approx(0.0, abs=1e-3)
    louder = Mixer(store, 6.0).scene(scene.segment)
    assert 10 * np.log10(np.mean(louder.target**2) / np.mean(louder.interferer**2)) == pytest.approx(6.0, abs=1e-3)


def test_batches_do_not_depend_on_the_number_of_workers(store: Store) -> None:
    made = examples(store)
    segments = made.random(2.0, 10, seed=5, epoch=1)
    loaded: list[list[Batch]] = [list(made.loader(segments, 4, workers)) for workers in (0, 1, 4)]  # type: ignore[arg-type]
    for others in loaded[1:]:
        assert len(others) == 3
        for one, other in zip(loaded[0], others, strict=True):
            for name in ("mixture", "target", "interferer", "eeg", "subject"):
                assert torch.equal(getattr(one, name), getattr(other, name)), name


def test_whole_spans_start_audio_and_eeg_at_the_same_time_also_within_trials(store: Store) -> None:
    spans = make_split(store.index, "within_trial").parts["valid"][:4]
    assert all(abs(0.7 * store.trial(span.trial).duration * 128 % 1) > 0.01 for span in spans), "off the grid as told"
    for span, (_, scene) in zip(spans, Examples(store, spans, Mixer(store)).scenes(), strict=True):
        trial = store.trial(span.trial)
        begin = int(span.start * 128)
        whole = store.cut(Segment(trial.id, 0.0, trial.duration))
        np.testing.assert_array_equal(scene.eeg, whole.eeg[:, begin : begin + scene.eeg.shape[1]])
        heard = whole.attended[125 * begin : 125 * (begin + scene.eeg.shape[1])]
        assert np.corrcoef(scene.target, heard)[0, 1] > 0.999


def test_ten_thousand_segments_a_minute_on_one_core(store: Store) -> None:
    made = examples(store)
    segments = made.random(4.0, 200, seed=0, epoch=0)
    began = time.perf_counter()
    for _ in made.loader(segments, 8):
        pass
    assert 60 * len(segments) / (time.perf_counter() - began) > 10_000


def test_audio_key_sees_the_speech_and_its_roles_but_not_the_eeg(store: Store) -> None:
    train, test = examples(store), examples(store, "test")
    assert train.audio_key == examples(store).audio_key != test.audio_key
    assert Examples(store, train.spans, Mixer(store, 3.0)).audio_key != train.audio_key
