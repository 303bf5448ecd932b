"""What the linear backward model promises, on small synthetic EEG."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest
from eeg2speech_baselines import backward_model
from eeg2speech_baselines.backward_model import (
    Array,
    BackwardModel,
    Moments,
    SubjectModels,
    lagged,
    pearson,
    prepare_eeg,
    ridge,
    speech_envelope,
)

from eeg2speech.errors import BadInput

CHANNELS, RATE = 6, 64


def noise(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape)


def heard(seed: int, samples: int = 2000, delay: int = 8, deafness: float = 1.0) -> tuple[Array, Array]:
    """EEG [6, N] that repeats an envelope [N] ``delay`` samples after it, in noise."""
    envelope = noise(seed, samples)
    late = np.concatenate([np.zeros(delay), envelope[: samples - delay]])
    topography = noise(99, CHANNELS, 1)
    return topography * late + deafness * noise(seed + 1000, CHANNELS, samples), envelope


@pytest.mark.parametrize("lags", [range(0, 11), range(-4, 7), range(3, 5)])
def test_closed_form_equals_a_dense_solve(lags: range) -> None:
    eeg, envelope = heard(1, 400)
    moments = Moments(CHANNELS, lags)
    moments.add(eeg, envelope)
    whole = slice(max(0, -lags[0]), 400 - max(0, lags[-1]))
    rows, target = lagged(eeg, lags)[whole], envelope[whole]
    prior = noise(5, len(lags), CHANNELS)
    for alpha in (1e-3, 1.0):
        ridge_rows = np.sqrt(alpha * np.mean(np.sum(rows**2, axis=0))) * np.eye(rows.shape[1])
        stacked = np.vstack([rows, ridge_rows])
        for pull in (None, prior):
            wanted = np.concatenate([target, np.zeros(rows.shape[1]) if pull is None else ridge_rows @ pull.ravel()])
            dense = np.linalg.lstsq(stacked, wanted, rcond=None)[0]
            np.testing.assert_allclose(ridge(moments, [alpha], pull)[0].ravel(), dense, atol=1e-8, rtol=0)


def test_chunks_add_up_to_the_whole() -> None:
    eeg, envelope = heard(2)
    lags = range(0, 26)
    whole, parts, halves = Moments(CHANNELS, lags), Moments(CHANNELS, lags), Moments(CHANNELS, lags)
    whole.add(eeg, envelope)
    for start in range(0, 2000, 333):  # the EEG of a chunk goes on after its envelope, up to the last lag
        target = parts if start < 1000 else halves
        target.add(eeg[:, start : start + 333 + lags[-1]], envelope[start : start + 333])
    parts.merge(halves)
    assert parts.rows == whole.rows == 2000 - 25
    np.testing.assert_allclose(parts.covariance, whole.covariance, atol=1e-8)
    np.testing.assert_allclose(parts.cross, whole.cross, atol=1e-8)


def test_reconstruction_is_the_lagged_product() -> None:
    eeg, envelope = heard(3, 300)
    model = BackwardModel((-0.05, 0.2)).fit([(eeg, envelope)], [(eeg, envelope)])
    np.testing.assert_allclose(model.reconstruct(eeg), lagged(eeg, model.lags) @ model.weights.ravel(), atol=1e-10)


def test_planted_filter_is_recovered() -> None:
    planted = noise(7, 27, CHANNELS)
    examples = []
    for seed in range(4):
        eeg = noise(seed, CHANNELS, 5000)
        examples.append((eeg, lagged(eeg, range(27)) @ planted.ravel() + 0.1 * noise(seed + 50, 5000)))
    model = BackwardModel().fit(examples[:3], examples[3:])
    np.testing.assert_allclose(model.weights, planted, atol=0.02)
    assert model.correlate(*examples[3]) > 0.99


def test_noise_reconstructs_nothing() -> None:
    pairs = [(noise(seed, CHANNELS, 4000), noise(seed + 100, 4000)) for seed in range(6)]
    model = BackwardModel().fit(pairs[:3], pairs[3:4])
    assert abs(np.mean([model.correlate(eeg, envelope) for eeg, envelope in pairs[4:]])) < 0.04


def test_the_eeg_follows_the_sound() -> None:
    """An impulse in the sound, an impulse 150 ms later in EEG at 128 Hz: the weights peak there."""
    eeg = 0.01 * noise(8, CHANNELS, 128 * 40)
    envelope = np.zeros(64 * 40)
    for second in range(1, 39):
        envelope[64 * second] = 1.0
        eeg[:, 128 * second + 19] += 1.0  # 148 ms
    prepared = prepare_eeg(eeg, 128)
    after = BackwardModel((0.0, 0.4), alphas=[0.1]).fit([(prepared, envelope)], [(prepared, envelope)])
    before = BackwardModel((-0.4, 0.0), alphas=[0.1]).fit([(prepared, envelope)], [(prepared, envelope)])
    peak = int(np.argmax(np.abs(after.weights).sum(axis=1)))
    assert abs(peak / RATE - 0.148) < 0.02
    assert after.correlate(prepared, envelope) > 1.5 * abs(before.correlate(prepared, envelope))


def test_regularisation_is_chosen_on_valid() -> None:
    """Little data in much noise wants a strong ridge, which train alone would never choose."""
    alphas = [1e-6, 1e-3, 1.0, 1e3]
    train, valid = heard(10, 220, deafness=6.0), heard(11, deafness=6.0)
    poor = BackwardModel(alphas=alphas).fit([train], [valid])
    assert BackwardModel(alphas=alphas).fit([train], [train]).alpha < poor.alpha
    singles = [BackwardModel(alphas=[alpha]).fit([train], [valid]) for alpha in alphas]
    scores = [model.correlate(*valid) for model in singles]
    assert poor.alpha == alphas[int(np.argmax(scores))]
    assert poor.valid_r == pytest.approx(max(scores))


def test_state_brings_the_same_models_back() -> None:
    examples = [(name, *heard(seed)) for seed, name in enumerate(["anna", "bo/b", "anna", "bo/b"])]
    models = SubjectModels().fit(examples[:2], examples[2:])
    again = SubjectModels.from_state(models.state())
    for subject in ("anna", "bo/b", "stranger"):
        assert again.of(subject).correlate(*heard(20)) == models.of(subject).correlate(*heard(20))
    assert again.of("stranger") is again.pooled
    assert again.state().keys() == models.state().keys()


def test_a_subject_with_little_data_leans_on_the_others() -> None:
    many = [(f"s{k}", *heard(30 + k, 4000, deafness=3.0)) for k in range(4)]
    few = ("late", *heard(40, 150, deafness=3.0))
    valid = [("late", *heard(41, 1000, deafness=3.0))]
    models = SubjectModels().fit([*many, few], valid)
    alone = BackwardModel().fit([few[1:]], [valid[0][1:]])
    test = heard(42, 4000, deafness=3.0)
    assert models.of("late").correlate(*test) > alone.correlate(*test) + 0.02


def test_envelope_follows_the_loudness_of_speech() -> None:
    time = np.arange(16000 * 8) / 16000
    swell = 1 + 0.8 * np.sin(2 * np.pi * 3 * time)
    envelope = speech_envelope(swell * noise(50, len(time)), 16000)
    assert envelope.shape == (64 * 8,)
    assert pearson(envelope, np.sin(2 * np.pi * 3 * np.arange(512) / 64)) > 0.9
    assert envelope.mean() == pytest.approx(0, abs=1e-9) and envelope.std() == pytest.approx(1)


def test_a_fast_swell_is_removed_not_folded_down() -> None:
    """A 60 Hz swell would alias to 4 Hz at 64 Hz."""
    time = np.arange(16000 * 8) / 16000
    tone = np.sin(2 * np.pi * 1000 * time)
    wave = np.sin(2 * np.pi * 4 * np.arange(512) / 64)
    swell, slow = 1 + 0.8 * np.sin(2 * np.pi * 60 * time), 0.1 * np.sin(2 * np.pi * 4 * time)
    fast, both = swell * tone, (swell + slow) * tone
    assert pearson(speech_envelope(both, 16000), wave) > 0.95  # an eighth of the fast swell, and all that is left
    assert abs(pearson(speech_envelope(fast, 16000), wave)) < 0.2


@pytest.mark.parametrize("seconds", [2.0, 4.0, 60.0])
def test_eeg_is_prepared_in_windows_of_any_length(seconds: float) -> None:
    time = np.arange(int(128 * seconds)) / 128
    signal = 10 * np.sin(2 * np.pi * 4 * time) + 300 + 50 * time  # a 4 Hz wave on an offset and a drift
    prepared = prepare_eeg(np.stack([signal, -signal]).astype(np.float32), 128)
    assert prepared.shape == (2, int(64 * seconds))
    wave = np.sin(2 * np.pi * 4 * np.arange(prepared.shape[1]) / 64)
    assert pearson(prepared[0], wave) > 0.9
    np.testing.assert_allclose(prepared[0], -prepared[1], atol=1e-9)


def test_a_blink_is_clamped_and_a_dead_channel_is_silent() -> None:
    eeg = noise(60, 2, 128 * 60)
    eeg[0, 3000:3040] += 200.0
    eeg[1] = 7.0
    prepared = prepare_eeg(eeg, 128)
    assert 4 < np.abs(prepared[0]).max() < 15
    assert not prepared[1].any()


def test_silence_gives_a_flat_envelope_and_no_correlation() -> None:
    silence = speech_envelope(np.zeros(32000), 16000)
    assert not silence.any()
    assert pearson(silence, noise(61, 128)) == 0.0


def test_bad_input_is_refused() -> None:
    with pytest.raises(BadInput, match="audio: expected 1 dimensions"):
        speech_envelope(np.zeros((2, 16000)), 16000)
    with pytest.raises(BadInput, match="at least 0.25 s"):
        prepare_eeg(np.zeros((2, 10)), 128)
    with pytest.raises(BadInput, match="finite"):
        prepare_eeg(np.full((2, 256), np.nan), 128)
    with pytest.raises(BadInput, match="examples"):
        BackwardModel().fit([], [heard(1)])
    with pytest.raises(BadInput, match="valid"):
        BackwardModel().fit([heard(1)], [])
    with pytest.raises(BadInput, match="channels"):
        BackwardModel().fit([heard(1), (noise(1, 3, 500), noise(2, 500))], [heard(1)])
    with pytest.raises(BadInput, match=r"\[6, samples\]"):
        BackwardModel().fit([heard(1)], [heard(1)]).reconstruct(noise(1, 3, 500))
    with pytest.raises(BadInput, match="state"):
        BackwardModel.from_state({})


def test_the_decoder_shares_no_code_with_the_generator() -> None:
    tree = ast.parse(Path(backward_model.__file__).read_text())
    modules = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    modules |= {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    assert not [name for name in modules if name.startswith("eeg2speech.data")]
