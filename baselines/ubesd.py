"""U-BESD (Hosseini, Celotti and Plourde 2022, "End-to-End Brain-Driven Speech Enhancement in Multi-Talker Conditions",
IEEE/ACM TASLP 30, 1718-1733): the U-shaped Brain Enhanced Speech Denoiser.

Sound and EEG pass through dilated convolutions side by side, at one rate, and modulate each other by FiLM after each;
a decoder with skip connections joins both. What follows the paper and what was decided is told in ``docs/ubesd.md``.
Written from the paper and from facts of its published code; no code was taken over.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eeg2speech.models.dual_path import Film, modulate, resample_frames
from eeg2speech.models.eeg import held, required, standardise
from eeg2speech.models.eeg_graph import ChannelNorm
from eeg2speech.models.masking import Extraction, FilterBank, loudness
from eeg2speech.systems.interface import Facts

from .masking import Extractor, MaskingSystem, PublishedMaskingSettings, PublishedSettings, Separator

SOURCE = "Hosseini, Celotti, Plourde 2022, IEEE/ACM TASLP 30, 1718-1733"

# ``paper`` works on samples and says samples. ``demo`` works on the frames of a 20 ms filter bank that starts as a
# Fourier transform, and says masks: convolutions over single samples learn nothing in minutes.
SIZES: dict[str, dict[str, Any]] = {
    "demo": {"window": 320, "width": 64, "kernel": 9, "layers": 4, "dropout": 0.1, "causal": False},
    "paper": {"window": None, "width": 64, "kernel": 25, "layers": 3, "dropout": 0.3, "causal": True},
}


def padding(span: int, causal: bool) -> tuple[int, int]:
    """Zeros before and after a convolution that sees ``span`` samples beside the one it is at."""
    return (span, 0) if causal else (span // 2, span - span // 2)


class ConvBlock(nn.Module):
    """Dilated convolution, ReLU, norm over channels at each moment, leaky ReLU, dropout: [B, D, L] -> [B, E, L].

    Args:
        causal: pads on the left alone. bounded: tanh in place of the first ReLU.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, dilation: int, dropout: float, causal: bool, bounded: bool = False
    ) -> None:
        super().__init__()
        self.pad = padding(dilation * (kernel - 1), causal)
        self.conv = nn.Conv1d(inputs, outputs, kernel, dilation=dilation)
        self.first = nn.Tanh() if bounded else nn.ReLU()
        self.rest = nn.Sequential(ChannelNorm(outputs), nn.LeakyReLU(), nn.Dropout(dropout))

    def forward(self, x: Tensor, beside: Tensor | None = None) -> Tensor:
        """[B, D, L], and what is added to the convolution [B, E, L] -> [B, E, L]."""
        convolved = self.conv(F.pad(x, self.pad))
        found: Tensor = self.rest(self.first(convolved if beside is None else convolved + beside))
        return found


class MutualFilm(nn.Module):
    """Sound and EEG modulate each other at every moment, [B, D, L] x 2 -> the same. Starts as the identity."""

    def __init__(self, width: int, kernel: int = 3) -> None:
        super().__init__()
        self.of_sound, self.of_eeg = Film(width, width, kernel), Film(width, width, kernel)

    def forward(self, sound: Tensor, eeg: Tensor) -> tuple[Tensor, Tensor]:
        """Two [B, D, L] -> two [B, D, L], each modulated by what the other was."""
        return modulate(sound, *self.of_sound(eeg)), modulate(eeg, *self.of_eeg(sound))


class EegPath(nn.Module):
    """The convolutions of the EEG beside those of the sound, and where both meet."""

    def __init__(self, sensors: int, width: int, kernel: int, layers: int, dropout: float, causal: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            ConvBlock(width if layer else sensors, width, kernel, 2**layer, dropout, causal) for layer in range(layers)
        )
        self.films = nn.ModuleList(MutualFilm(width) for _ in range(layers))
        self.middle = ConvBlock(width, width, kernel, 2 ** (layers - 1), dropout, causal, bounded=True)
        # The published code concatenates both sides before the decoder's first convolution. The sum of two convolutions
        # is the same; apart, the EEG's can begin at 0, so that weights learned without it hold on.
        self.pad = padding(kernel - 1, causal)
        self.join = nn.Conv1d(width, width, kernel, bias=False)
        nn.init.zeros_(self.join.weight)

    def joined(self, felt: Tensor) -> Tensor:
        """[B, D, L] -> what is added to the decoder's first convolution, [B, D, L]."""
        found: Tensor = self.join(F.pad(felt, self.pad))
        return found


class UbesdNet(nn.Module):
    """Mixture [B, T] (and EEG [B, C, N]) -> ``Extraction``.

    Args:
        sensors: EEG channels; 0 builds the same network without an EEG branch. talkers: number of outputs.
        window: of the filter bank in samples, with 50 % overlap; None: convolutions on the samples themselves, the EEG
            held to the audio rate, and waves in place of masks, as published.
        width: channels of all layers. kernel: of all convolutions. layers: convolutions down and up.
        dropout, causal: see ``ConvBlock``. FiLM's convolutions are centred either way, as published.
    """

    def __init__(
        self,
        sensors: int,
        talkers: int,
        window: int | None,
        width: int,
        kernel: int,
        layers: int,
        dropout: float,
        causal: bool,
    ) -> None:
        super().__init__()
        self.talkers = talkers
        self.bank = None if window is None else FilterBank("paired", window, window, window // 2)
        bands = 1 if self.bank is None else self.bank.bands
        self.down = nn.ModuleList(
            ConvBlock(width if layer else bands, width, kernel, 2**layer, dropout, causal) for layer in range(layers)
        )
        self.middle = ConvBlock(width, width, kernel, 2 ** (layers - 1), dropout, causal, bounded=True)
        self.up = nn.ModuleList(
            ConvBlock(2 * width, width, kernel, 2**layer, dropout, causal) for layer in range(layers)
        )
        self.pad = padding(kernel - 1, causal)
        self.last = nn.Conv1d(width, talkers * bands, kernel)
        self.eeg = EegPath(sensors, width, kernel, layers, dropout, causal) if sensors else None
        self.envelope = nn.Conv1d(width, 1, 1) if sensors and talkers > 1 else None

    def forward(self, mixture: Tensor, eeg: Tensor | None = None) -> Extraction:
        """Mixture [B, T], EEG [B, C, N] or None -> estimates [B, talkers, T], envelope [B, N] or None."""
        scale = self._scale(mixture)
        frames, features = self._analyse(mixture / scale)
        x, felt = self._pass(features, self._felt(eeg, features.shape[-1]))
        waves = self._synthesise(frames, x, mixture.shape[-1]) * scale.unsqueeze(1)
        if self.envelope is None or felt is None or eeg is None:
            return Extraction(waves)
        return Extraction(waves, resample_frames(self.envelope(felt), eeg.shape[-1]).squeeze(1))

    def _scale(self, mixture: Tensor) -> Tensor:
        """[B, T] -> [B, 1]: loudness, or, where waves come out of a tanh, the peak, so that speech fits in."""
        if self.bank is None:
            return mixture.abs().amax(-1, keepdim=True).clamp_min(1e-8)
        return loudness(self.bank.whole(mixture))

    def _analyse(self, wave: Tensor) -> tuple[Tensor, Tensor]:
        if self.bank is None:
            return wave.unsqueeze(1), wave.unsqueeze(1)
        return self.bank.analyse(wave)

    def _felt(self, eeg: Tensor | None, length: int) -> Tensor | None:
        """EEG with one sample a frame of the sound, [B, C, L]."""
        if self.eeg is None:
            return None
        normal = standardise(required(eeg, "UbesdNet"))
        return held(normal, length) if self.bank is None else resample_frames(normal, length)

    def _pass(self, x: Tensor, felt: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Down, across and up: [B, D, L] -> the last layer's features and the EEG's [B, W, L]."""
        kept, beside, read = [], None, None
        for number, block in enumerate(self.down):
            x = block(x)
            if self.eeg is not None and felt is not None:
                x, felt = self.eeg.films[number](x, self.eeg.blocks[number](felt))
            kept.append(x)
        x = self.middle(x)
        if self.eeg is not None and felt is not None:
            read = self.eeg.middle(felt)
            beside = self.eeg.joined(read)
        for block, before in zip(self.up, reversed(kept), strict=True):
            x, beside = block(torch.cat([before, x], dim=1), beside), None
        return x, read

    def _synthesise(self, frames: Tensor, x: Tensor, samples: int) -> Tensor:
        """[B, talkers, T]: masks on the frames, or the last layer's own waves."""
        answer = self.last(F.pad(x, self.pad))
        if self.bank is None:
            # Twice, as published: the last convolution's own, and one after it.
            return torch.tanh(torch.tanh(answer))
        return self.bank.synthesise(frames, answer.unflatten(1, (self.talkers, -1)), samples)


class _Ubesd(MaskingSystem):
    """What both share."""

    def compose(self, sensors: int, talkers: int, rate: int) -> nn.Module:
        """The network, its windows in samples at the rate inside."""
        return UbesdNet(sensors, talkers, **SIZES[self.settings.size])


class UbesdSeparator(_Ubesd, Separator):
    """The same network without EEG."""

    facts = Facts(title="U-BESD, blind separation, first output", licence="MIT", source=SOURCE, uses_eeg=False)
    Settings = PublishedMaskingSettings
    plan = replace(Separator.plan, steps={"demo": 360, "hour": 3600, "full": 200_000})


class Ubesd(_Ubesd, Extractor):
    """Extraction with EEG."""

    facts = Facts(title="U-BESD (FiLM)", licence="MIT", source=SOURCE)
    Settings = PublishedSettings
    settings: PublishedSettings
    separator = UbesdSeparator
    plan = replace(Extractor.plan, steps={"demo": 240, "hour": 1800, "full": 100_000})
