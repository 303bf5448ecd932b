import numpy as np
import pytest

from eeg2speech.controls import CONTROLS, controlled_eeg
from eeg2speech.data import Segment, Sensors, Store, StoreWriter, StudyFacts, Trial
from eeg2speech.errors import BadInput


def under(name: str, store: Store, start: float = 4.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    segment = Segment(next(iter(store.trials)), start, 4.0)
    eeg = store.cut_eeg(segment)
    return eeg, controlled_eeg(name, eeg, store, segment, seed)


@pytest.mark.parametrize("name", [*CONTROLS])
def test_every_control_keeps_shape_and_type_and_is_repeatable(store: Store, name: str) -> None:
    eeg, changed = under(name, store)
    before = np.random.get_state()[1].copy()
    assert changed.shape == eeg.shape and changed.dtype == np.float32 and np.isfinite(changed).all()
    np.testing.assert_array_equal(under(name, store)[1], changed)
    np.testing.assert_array_equal(np.random.get_state()[1], before)
    assert (name == "true_eeg") == np.array_equal(eeg, changed)


@pytest.mark.parametrize("name", sorted({*CONTROLS} - {"true_eeg", "zero"}))
def test_another_seed_or_segment_gives_other_eeg(store: Store, name: str) -> None:
    assert not np.array_equal(under(name, store)[1], under(name, store, seed=1)[1])


def test_noise_keeps_each_channels_mean_and_deviation_and_the_global_one_does_not(store: Store) -> None:
    eeg, noise = under("noise_cue", store)
    np.testing.assert_allclose(noise.std(1), eeg.std(1), rtol=0.2)
    assert np.abs(noise.mean(1) - eeg.mean(1)).max() < 4 * (eeg.std(1) / np.sqrt(eeg.shape[1])).max()
    _, same = under("noise_cue_global", store)
    np.testing.assert_allclose(same.std(1), eeg.std(), rtol=0.2)
    assert not np.allclose(eeg.std(1), eeg.std(), rtol=0.2)


def test_zero_is_zero(store: Store) -> None:
    assert not under("zero", store)[1].any()


def test_time_shift_stays_in_the_trial_and_leaves_the_segment(store: Store) -> None:
    trial = next(iter(store.trials.values()))
    whole = store.cut_eeg(Segment(trial.id, 0.0, trial.duration))
    for seed in range(5):
        shifted = under("time_shift", store, seed=seed)[1]
        places = [k for k in range(whole.shape[1] - 511) if np.array_equal(whole[:, k : k + 512], shifted)]
        assert places and all(abs(k - 512) >= 512 for k in places)


@pytest.mark.parametrize(("name", "same_subject"), [("other_trial", True), ("other_subject", False)])
def test_borrowed_eeg_comes_from_other_speech_and_the_right_listener(
    store: Store, name: str, same_subject: bool
) -> None:
    trial = next(iter(store.trials.values()))
    for seed in range(4):
        borrowed = under(name, store, seed=seed)[1]
        owners = []
        for other in store.trials.values():
            whole = store.cut_eeg(Segment(other.id, 0.0, other.duration))
            hits = np.flatnonzero(whole[0, : whole.shape[1] - 511] == borrowed[0, 0])
            owners += [other for k in hits if np.array_equal(whole[:, k : k + 512], borrowed)]
        assert len(owners) == 1
        assert (owners[0].subject == trial.subject) == same_subject and owners[0].pair != trial.pair


@pytest.fixture(scope="module")
def sharing(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two subjects hear a+b, then a+c, then b alone. EEG in trial k is about 10 k, for the second subject 100 more."""
    rng = np.random.default_rng(0)
    facts = StudyFacts("toy", "Toy", "CC0", "none", "", "made here", "noise", 16_000, 128)
    made = StoreWriter(tmp_path_factory.mktemp("sharing"), facts, Sensors(("A",), ((0.0, 0.0, 0.1),)), {})
    a, b, c = (
        made.add_stimulus(rng.uniform(-1, 1, 128_000).astype(np.float32), 16_000, "v", "en", name) for name in "abc"
    )
    for number, subject in enumerate(("S1", "S2")):
        level = 100 * number + 10 * np.repeat([1, 2, 3], 1024)
        made.add_recording(subject, subject, (level + rng.uniform(size=3072))[None].astype(np.float32), 128)
        for place, (attended, other) in enumerate(((a, b), (a, c), (b, None))):
            made.add_trial(Trial(f"{subject}-{place + 1}", subject, subject, 8.0 * place, 8.0, attended, other))
    return made.close()


@pytest.mark.parametrize(("name", "offset"), [("other_trial", 0), ("other_subject", 100)])
def test_borrowed_eeg_shares_neither_stimulus(sharing: Store, name: str, offset: int) -> None:
    def lent(trial: str) -> set[int]:
        segment = Segment(trial, 0.0, 4.0)
        eeg = sharing.cut_eeg(segment)
        return {int(controlled_eeg(name, eeg, sharing, segment, seed).mean()) // 10 for seed in range(8)}

    assert lent("S1-2") == {offset // 10 + 3} and lent("S1-3") == {offset // 10 + 2}
    with pytest.raises(BadInput, match="a trial with other speech"):
        lent("S1-1")


def test_phase_randomisation_keeps_spectra_and_correlations_between_channels(store: Store) -> None:
    eeg, surrogate = under("phase_randomised", store)
    np.testing.assert_allclose(np.abs(np.fft.rfft(surrogate)), np.abs(np.fft.rfft(eeg)), rtol=2e-3, atol=0.05)
    np.testing.assert_allclose(np.corrcoef(surrogate), np.corrcoef(eeg), atol=2e-3)
    assert abs(np.corrcoef(surrogate[0], eeg[0])[0, 1]) < 0.5


def test_channel_shuffle_moves_whole_channels(store: Store) -> None:
    eeg, shuffled = under("channel_shuffle", store)
    assert sorted(row.tobytes() for row in shuffled) == sorted(row.tobytes() for row in eeg)


def test_an_unknown_control_is_refused_with_the_nearest(store: Store) -> None:
    with pytest.raises(BadInput, match="did you mean 'noise_cue'"):
        under("noise_que", store)
