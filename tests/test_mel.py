"""The mel spectrogram in torch: that of the metrics, with a gradient, and for batches."""

import numpy as np
import pytest
import torch
import torchaudio
from torch import Tensor

from eeg2speech.assets.corpus import RATE as CORPUS_RATE
from eeg2speech.assets.corpus import load_track, tracks
from eeg2speech.errors import BadInput
from eeg2speech.metrics.mel import FLOOR as METRIC_FLOOR
from eeg2speech.metrics.mel import log_mel, mel_filterbank
from eeg2speech.models import mel as module
from eeg2speech.models.mel import BANDS, FLOOR, HOP, LOUDNESS_OF_SILENCE, PAD, RATE, LogMel
from eeg2speech.training.features import SpeechFeatures


@pytest.fixture(scope="module")
def speech() -> Tensor:
    """Three seconds of two voices, [2, T]."""
    waves = [load_track(track)[20 * CORPUS_RATE : 23 * CORPUS_RATE] for track in tracks()[:2]]
    return torch.from_numpy(np.stack(waves))


def noise(*shape: int, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_it_is_the_mel_spectrogram_of_the_metrics(speech: Tensor) -> None:
    """Also where nearly nothing is heard, and at lengths that no hop divides."""
    for wave in (speech, 1e-3 * speech, speech[:, :4567], noise(2, 433)):
        found = LogMel()(wave).numpy()
        expected = np.stack([log_mel(row.numpy(), RATE) for row in wave])
        assert found.shape == expected.shape and found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=2e-3, rtol=0)


def test_filters_and_floor_are_the_same() -> None:
    bank = LogMel().get_buffer("bank")
    np.testing.assert_allclose(bank, mel_filterbank(), atol=1e-6)
    assert FLOOR == METRIC_FLOOR and pytest.approx(np.log(FLOOR), abs=1e-5) == LOUDNESS_OF_SILENCE
    edges = torchaudio.functional.melscale_fbanks(513, 0.0, 8000.0, 64, 16_000, norm="slaney", mel_scale="slaney")
    assert torch.equal(bank, edges.T)


@pytest.mark.parametrize("samples", [433, 479, 480, 639, 640, 1600, 15_999, 16_000])
def test_a_hop_is_a_frame(samples: int) -> None:
    mel = LogMel()
    assert mel(noise(3, samples)).shape == (3, BANDS, samples // HOP) == (3, 64, mel.frames(samples))


def test_frames_stand_where_they_say() -> None:
    """A click in the middle of frame 20 is loudest there, and is not heard 4 frames on."""
    wave = torch.zeros(1, 8000)
    wave[0, 20 * HOP + HOP // 2] = 1
    loudness = LogMel()(wave)[0].mean(0)
    assert int(loudness.argmax()) == 20
    assert torch.equal(loudness[24:], torch.full_like(loudness[24:], LOUDNESS_OF_SILENCE))


def test_gain_adds_its_logarithm(speech: Tensor) -> None:
    mel = LogMel()
    before, after = mel(speech), mel(10 * speech)
    heard = before > LOUDNESS_OF_SILENCE + 1
    torch.testing.assert_close((after - before)[heard], torch.full_like(before[heard], np.log(10)), atol=1e-3, rtol=0)


def test_silence_is_the_floor_and_has_a_slope() -> None:
    """A finite one, from which a network can learn."""
    for level in (0.0, 1e-12, 1e-3):
        wave = (level * noise(1, 1600)).requires_grad_()
        found = LogMel()(wave)
        if level < 1e-6:
            torch.testing.assert_close(found, torch.full_like(found, LOUDNESS_OF_SILENCE))
        found.sum().backward()
        assert wave.grad is not None and bool(wave.grad.isfinite().all())
        assert bool(wave.grad.any()) == (level > 1e-6)


def test_the_slope_is_that_of_the_values() -> None:
    wave, direction = noise(1, 1600).requires_grad_(), noise(1, 1600, seed=1)
    mel = LogMel()
    mel(wave).mean().backward()
    assert wave.grad is not None
    with torch.no_grad():
        bank, window = mel.get_buffer("bank").double(), mel.get_buffer("window").double()

        def mean(w: Tensor) -> Tensor:
            padded = torch.nn.functional.pad(w.double()[None], (PAD, PAD), mode="reflect")[0]
            spectrum = torch.stft(padded, 1024, HOP, window=window, center=False, return_complex=True)
            return (bank @ spectrum.abs()).clamp_min(FLOOR).log().mean()

        expected = (mean(wave + 1e-4 * direction) - mean(wave - 1e-4 * direction)) / 2e-4
        assert float((wave.grad * direction).sum()) == pytest.approx(float(expected), rel=1e-2)


def test_rows_are_by_themselves(speech: Tensor) -> None:
    mel = LogMel()
    torch.testing.assert_close(mel(speech)[1:], mel(speech[1:]), atol=1e-4, rtol=0)
    broken = torch.cat([torch.full_like(speech[:1], torch.nan), speech[1:]])
    found = mel(broken)
    assert bool(found[0].isnan().all()), "NaN is not to pass for silence"
    torch.testing.assert_close(found[1:], mel(speech[1:]), atol=1e-4, rtol=0)


def test_precision_is_single_whatever_is_asked(speech: Tensor) -> None:
    mel = LogMel()
    expected = mel(speech)
    torch.testing.assert_close(mel(speech.double()), expected)
    with torch.autocast("cpu", torch.bfloat16):
        found = mel(speech)
    assert torch.equal(found, expected) and found.dtype == torch.float32


def test_it_can_be_kept_as_features_are() -> None:
    features: SpeechFeatures = LogMel()
    assert (features.name, features.dimension, features.rate) == ("mel", 64, 100.0)
    assert features.fingerprint == LogMel().fingerprint
    # Nothing in it is learned or kept with weights.
    assert not LogMel().state_dict() and not list(LogMel().parameters())
    assert module.FRAME_RATE * HOP == RATE


@pytest.mark.parametrize(
    ("wave", "found"),
    [
        (torch.zeros(1600), r"torch.float32 \[1600\]"),
        (torch.zeros(1, 1, 1600), r"torch.float32 \[1, 1, 1600\]"),
        (torch.zeros(1, 432), r"torch.float32 \[1, 432\]"),
        (torch.zeros(2, 0), r"torch.float32 \[2, 0\]"),
        (torch.zeros(1, 1600, dtype=torch.int16), r"torch.int16 \[1, 1600\]"),
    ],
)
def test_other_waves_are_refused(wave: Tensor, found: str) -> None:
    with pytest.raises(
        BadInput, match=rf"LogMel: wave: expected floats \[B, T\] of at least 433 samples, found {found}"
    ):
        LogMel()(wave)
