"""Ceilings: what a perfect choice of talker would give."""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from eeg2speech.data.types import Stimulus, StudyFacts
from eeg2speech.systems.codecs import codec_heard, load_codec, require_rate
from eeg2speech.systems.interface import Context, Facts, System


class OracleTarget(System):
    """The attended speech itself. Its scores are the metrics' own ceilings."""

    facts = Facts(title="Attended speech itself", licence="MIT", source="this suite", uses_eeg=False, sees="target")

    def extract_from(self, mixture: Tensor, eeg: Tensor, subject: Tensor, sources: Tensor) -> Tensor:
        """[B, 2, T], target first -> [B, T]."""
        return sources[:, 0].clone()


class OracleMask(System):
    """Ideal ratio mask on the magnitude spectrum (Srinivasan, Roman and Wang 2006; Wang, Narayanan and Wang 2014):
    mask = sqrt(S^2 / (S^2 + N^2)), 32 ms Hann windows, hop 8 ms, phase of the mixture."""

    facts = Facts(
        title="Ideal ratio mask",
        licence="MIT",
        source="Wang, Narayanan, Wang 2014, doi:10.1109/TASLP.2014.2352935",
        uses_eeg=False,
        sees="target",
    )

    def extract_from(self, mixture: Tensor, eeg: Tensor, subject: Tensor, sources: Tensor) -> Tensor:
        """[B, 2, T], target first -> [B, T]."""
        size = 2 * round(0.016 * self.context.audio_rate)
        window = torch.hann_window(size, device=mixture.device)

        def spectrum(x: Tensor) -> Tensor:
            return torch.stft(x, size, size // 4, window=window, return_complex=True)

        speech, noise = (spectrum(sources[:, k]).abs().square() for k in (0, 1))
        mask = (speech / (speech + noise).clamp_min(1e-12)).sqrt()
        return torch.istft(spectrum(mixture) * mask, size, size // 4, window=window, length=mixture.shape[-1])


class CodecSettings(BaseModel):
    """Which codec, and how much of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    codec: str = Field(default="demo", description="demo, dac-16khz, dac-24khz, dac-44khz, or the path of weights")
    books: int | None = Field(default=None, ge=0, description="codebooks; all if None, 0: latents are not quantised")


class _RoundTrip(System):
    """Sound through the codec and back: what a system on its latents can reach at most."""

    Settings = CodecSettings
    settings: CodecSettings

    def __init__(self, context: Context, settings: BaseModel) -> None:
        super().__init__(context, settings)
        assert isinstance(settings, CodecSettings)
        self.books = settings.books
        self.codec = load_codec(settings.codec)
        require_rate(self.codec, context.audio_rate, f"codec {settings.codec!r}")

    @property
    def parts(self) -> dict[str, str]:
        """The codec."""
        return {"codec": self.codec.fingerprint}

    def heard_before(self, stimulus: Stimulus, study: StudyFacts) -> bool:
        """Whether the codec may have."""
        return codec_heard(self.settings.codec, stimulus, study)

    def round_trip(self, wave: Tensor) -> Tensor:
        """[B, T] -> [B, T]."""
        return self.codec.round_trip(wave, self.books)


class CodecTarget(_RoundTrip):
    """The attended speech through the codec: a ceiling for systems that answer in its latents."""

    facts = Facts(
        title="Codec round trip of the attended speech",
        licence="MIT",
        source="Kumar et al. 2023, arXiv 2306.06546",
        uses_eeg=False,
        sees="target",
    )

    def extract_from(self, mixture: Tensor, eeg: Tensor, subject: Tensor, sources: Tensor) -> Tensor:
        """[B, 2, T], target first -> [B, T]."""
        return self.round_trip(sources[:, 0])


class CodecMixture(_RoundTrip):
    """The mixture through the codec: what the codec alone costs a system that does nothing."""

    facts = Facts(
        title="Codec round trip of the mixture",
        licence="MIT",
        source="Kumar et al. 2023, arXiv 2306.06546",
        uses_eeg=False,
    )

    def extract(self, mixture: Tensor, eeg: Tensor, subject: Tensor) -> Tensor:
        """[B, T] -> [B, T]."""
        return self.round_trip(mixture)
