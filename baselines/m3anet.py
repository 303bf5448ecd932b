"""M3ANet (Fan et al. 2025, "Multi-scale and Multi-Modal Alignment Network for Brain-Assisted Target Speaker
Extraction", IJCAI, arXiv:2506.00466).

The mixture is heard through windows of four lengths; a group scan mixes these scales, cross attention brings the EEG
in, a dual-path RNN finds the masks, and a contrastive loss aligns EEG with speech. What follows the paper, what follows
its published code and what was decided is told in ``docs/m3anet.md``. Written from the paper and from facts of the
published code; no code was taken over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from eeg2speech.errors import BadInput
from eeg2speech.models.cmca import CrossModalAttention
from eeg2speech.models.contrastive import clip_loss
from eeg2speech.models.dual_path import DualPathBlock, GlobalLayerNorm, overlap_add, resample_frames, segment
from eeg2speech.models.eeg import held, required, standardise
from eeg2speech.models.eeg_graph import ChannelNorm
from eeg2speech.models.graph import ChebyshevGraph
from eeg2speech.models.group_scan import GroupScan
from eeg2speech.models.masking import Extraction, FilterBank, loudness
from eeg2speech.systems.interface import Facts
from eeg2speech.training.examples import Batch

from .masking import Extractor, MaskingSystem, PublishedMaskingSettings, PublishedSettings, Separator

SOURCE = "Fan et al. 2025, arXiv:2506.00466"
WINDOWS = (0.0025, 0.005, 0.01, 0.02)
"""Windows of the four scales in seconds; the hop of all is half the shortest."""
TEMPERATURE = 0.1
"""By which cosines are divided before they compete."""

# ``demo`` has windows eight times as long, the shortest from a filter bank that starts as a Fourier transform: an
# eighth of the frames, on which minutes of training on a CPU suffice. Its EEG stays at its own rate.
SIZES: dict[str, dict[str, Any]] = {
    "demo": {
        "longer": 8,
        "fourier": 320,
        "bands": 40,
        "width": 64,
        "hidden": 64,
        "blocks": 4,
        "chunk": 40,
        "attention": 2,
        "eeg_width": 32,
        "eeg_blocks": (32, 32, 32),
        "hold": False,
    },
    "paper": {
        "longer": 1,
        "fourier": 0,
        "bands": 128,
        "width": 64,
        "hidden": 64,
        "blocks": 4,
        "chunk": 250,
        "attention": 3,
        "eeg_width": 64,
        "eeg_blocks": (64, 128, 128),
        "hold": True,
    },
}


def windows_at(rate: int, longer: int = 1) -> list[int]:
    """The four windows in samples at ``rate`` Hz, ``longer`` times the published ones; the first is even.

    Raises:
        BadInput: a rate at which the shortest window has no sample.
    """
    # Half a millionth more, because a tenth of a second times a rate may fall just short of a whole number.
    exact = [seconds * longer * rate + 5e-7 for seconds in WINDOWS]
    if exact[0] < 2:
        raise BadInput("windows_at", "rate", f"at least {2 / (WINDOWS[0] * longer):.0f} Hz", rate)
    return [2 * int(exact[0] / 2), *(int(window) for window in exact[1:])]


class Scale(nn.Module):
    """Rectified learned filters, one window every ``hop`` samples and centred there: [B, T] -> [B, F, T / hop + 1]."""

    def __init__(self, filters: int, window: int, hop: int) -> None:
        super().__init__()
        self.pad = (window // 2, window - window // 2)
        self.conv = nn.Conv1d(1, filters, window, stride=hop)

    def forward(self, wave: Tensor) -> Tensor:
        """Samples [B, T], T a multiple of the hop -> frames [B, F, T / hop + 1]."""
        return F.relu(self.conv(F.pad(wave, self.pad).unsqueeze(1)))


class LearnedScales(nn.Module):
    """As published: masks act on a projection of all four scales, from which a transposed convolution makes sound."""

    def __init__(self, bands: int, windows: Sequence[int], hop: int) -> None:
        super().__init__()
        self.hop, self.masked = hop, bands
        self.scales = nn.ModuleList(Scale(bands, window, hop) for window in windows)
        self.join = nn.Sequential(ChannelNorm(len(windows) * bands), nn.Conv1d(len(windows) * bands, bands, 1))
        self.norm = ChannelNorm(bands)
        self.synthesis = nn.ConvTranspose1d(bands, 1, windows[0], stride=hop)

    def analyse(self, wave: Tensor) -> tuple[Tensor, Tensor]:
        """[B, T] -> what masks act on [B, F, L] and the scales [B, 4, F, L]."""
        scales = [scale(wave) for scale in self.scales]
        return self.join(torch.cat(scales, dim=1)), torch.stack(scales, dim=1)

    def synthesise(self, frames: Tensor, masks: Tensor, samples: int) -> Tensor:
        """Frames [B, F, L] under masks [B, K, F, L] (any real number) -> waves [B, K, samples]."""
        bounded = self.norm(torch.sigmoid(F.relu(masks)).flatten(0, 1))
        masked = bounded.view_as(masks) * frames.unsqueeze(1)
        waves: Tensor = self.synthesis(masked.flatten(0, 1)).squeeze(1)[..., self.hop : self.hop + samples]
        return torch.unflatten(waves, 0, masks.shape[:2])


class FourierScales(nn.Module):
    """The shortest scale from a paired ``FilterBank``, on whose frames masks act; learned filters for the others."""

    def __init__(self, bands: int, windows: Sequence[int], hop: int, filters: int) -> None:
        super().__init__()
        self.bank = FilterBank("paired", filters, windows[0], hop)
        self.masked = self.bank.bands
        self.shortest = nn.Conv1d(self.bank.bands, bands, 1)
        # Means of neighbouring frequencies: the image that is scanned starts as a spectrogram.
        means = F.adaptive_avg_pool1d(torch.eye(self.bank.bands).unsqueeze(0), bands)
        self.shortest.weight.data = means.transpose(0, 2).contiguous()
        self.scales = nn.ModuleList(Scale(bands, window, hop) for window in windows[1:])

    def analyse(self, wave: Tensor) -> tuple[Tensor, Tensor]:
        """[B, T] -> what masks act on [B, filters, L] and the scales [B, 4, F, L]."""
        frames, features = self.bank.analyse(wave)
        scales = [self.shortest(features), *(scale(wave) for scale in self.scales)]
        return frames, torch.stack(scales, dim=1)

    def synthesise(self, frames: Tensor, masks: Tensor, samples: int) -> Tensor:
        """Frames [B, filters, L] under masks [B, K, filters / 2, L] (any real number) -> waves [B, K, samples]."""
        return self.bank.synthesise(frames, masks, samples)


class ResidualBlock(nn.Module):
    """Two convolutions with norms, a skip path and PReLU: [B, D, N] -> [B, E, N], or a third of N where it pools.

    Args:
        width, outer: channels D and E. pooled: as published (one tap, batch norm, max-pooling by 3). Otherwise the
            first convolution has five taps ``dilation`` apart, so that later blocks see further without losing time,
            and norms look at one segment only.
    """

    def __init__(self, width: int, outer: int, pooled: bool, dilation: int) -> None:
        super().__init__()
        first = nn.Conv1d(width, outer, 1 if pooled else 5, dilation=dilation, padding="same", bias=False)
        second = nn.Conv1d(outer, outer, 1, bias=False)
        norm = nn.BatchNorm1d if pooled else GlobalLayerNorm
        self.body = nn.Sequential(first, norm(outer), nn.PReLU(), second, norm(outer))
        self.skip = nn.Identity() if width == outer else nn.Conv1d(width, outer, 1, bias=False)
        self.after = nn.Sequential(nn.PReLU(), nn.MaxPool1d(3, ceil_mode=True) if pooled else nn.Identity())

    def forward(self, x: Tensor) -> Tensor:
        """[B, D, N] -> [B, E, N] or [B, E, N / 3], rounded up."""
        found: Tensor = self.after(self.body(x) + self.skip(x))
        return found


class ResidualGraphEncoder(nn.Module):
    """Chebyshev graph convolution over electrodes, then convolutions along time: EEG [B, C, N] -> features [B, D, L].

    Args:
        sensors: electrodes C. width: channels D. blocks: channels of the residual blocks.
        hold: as published, on EEG held to the audio rate, with batch norm and max-pooling. Otherwise at the EEG's own
            rate (L is N), where a feature sees 30 samples to either side: 0.23 s at 128 Hz.
    """

    def __init__(self, sensors: int, width: int, blocks: Sequence[int], hold: bool) -> None:
        super().__init__()
        self.hold = hold
        # Two maps an electrode: one that is rectified would lose half of what it says.
        maps = 1 if hold else 2
        norm = nn.BatchNorm1d(sensors) if hold else nn.Identity()
        self.graph = nn.Sequential(norm, ChebyshevGraph(sensors, maps, order=2), nn.ReLU())
        self.project = nn.Conv1d(maps * sensors, width, 8, stride=4 if hold else 1, bias=False)
        sizes = [width, *blocks]
        residual = (ResidualBlock(sizes[k], sizes[k + 1], hold, 1 if hold else 3**k) for k in range(len(blocks)))
        self.temporal = nn.Sequential(
            ChannelNorm(width), nn.Conv1d(width, width, 1), *residual, nn.Conv1d(sizes[-1], width, 1)
        )

    def forward(self, eeg: Tensor, samples: int) -> Tensor:
        """EEG [B, C, N] in any unit beside so many samples of audio -> [B, D, L], both spanning the same time."""
        x = self.graph(standardise(eeg))
        # The graph looks at every sample by itself, so that what follows may as well be held as what it is given.
        x = F.pad(held(x, samples), (2, 5)) if self.hold else F.pad(x, (3, 4))
        features: Tensor = self.temporal(self.project(x))
        return features


class EegBranch(nn.Module):
    """All that hears the EEG: encoder, read-out of the envelope, cross attention, and features for the alignment.

    Args:
        sensors: electrodes C. bands: F of the scanned scales. width: channels D of the separator.
        attention: layers of cross attention. eeg_width, eeg_blocks, hold: see ``ResidualGraphEncoder``.
        assisted: reads the envelope, hands it on as one more feature, and lets the cross attention add little at first.
    """

    def __init__(
        self,
        sensors: int,
        bands: int,
        width: int,
        attention: int,
        eeg_width: int,
        eeg_blocks: Sequence[int],
        hold: bool,
        assisted: bool,
    ) -> None:
        super().__init__()
        self.encoder = ResidualGraphEncoder(sensors, eeg_width, eeg_blocks, hold)
        self.envelope = nn.Conv1d(eeg_width, 1, 1) if assisted else None
        features = eeg_width + assisted
        self.widen = nn.Identity() if features == width else nn.Conv1d(features, width, 1)
        self.fusion = CrossModalAttention(width, attention, gated=assisted)
        self.speech = nn.Conv1d(bands, width, 1)

    def forward(
        self, x: Tensor, scanned: Tensor, eeg: Tensor | None, samples: int
    ) -> tuple[Tensor, Tensor | None, tuple[Tensor, Tensor]]:
        """Speech [B, D, L], the scanned scales [B, F, L] and EEG [B, C, N] beside so many samples of audio.

        Returns the speech with EEG [B, D, L], the envelope [B, N] or None, and features of both, each [B, D, L].
        """
        eeg = required(eeg, "MultiScaleNet")
        features, envelope = self._features(self.encoder(eeg, samples), eeg.shape[-1])
        felt = resample_frames(features, x.shape[-1])
        return self.fusion(x, felt), envelope, (felt, self.speech(scanned))

    def _features(self, encoded: Tensor, samples: int) -> tuple[Tensor, Tensor | None]:
        """Encoded EEG [B, E, L] -> features [B, D, L], and the envelope at ``samples`` times or None."""
        if self.envelope is None:
            return self.widen(encoded), None
        envelope = self.envelope(encoded)
        features = self.widen(torch.cat([encoded, standardise(envelope)], dim=1))
        return features, resample_frames(envelope, samples).squeeze(1)


class MultiScaleNet(nn.Module):
    """Mixture [B, T] (and EEG [B, C, N]) -> ``Extraction``.

    Args:
        sensors: EEG channels; 0 builds the same network without an EEG branch. talkers: number of masks. With two,
            the envelope is read from the EEG, and cross attention begins by adding little.
        rate: of the audio, in Hz. longer: windows are so many times the published ones.
        fourier: filters of the shortest scale's paired bank; 0: learned filters, as published. bands: F of each scale.
        width: channels inside the separator. hidden: RNN units a direction. blocks: dual-path blocks.
        chunk: frames a chunk, even. attention: layers of it. eeg_width, eeg_blocks, hold: see ``ResidualGraphEncoder``.
    """

    def __init__(
        self,
        sensors: int,
        talkers: int,
        rate: int,
        longer: int,
        fourier: int,
        bands: int,
        width: int,
        hidden: int,
        blocks: int,
        chunk: int,
        attention: int,
        eeg_width: int,
        eeg_blocks: Sequence[int],
        hold: bool,
    ) -> None:
        super().__init__()
        windows = windows_at(rate, longer)
        self.talkers, self.chunk, self.hop = talkers, chunk, windows[0] // 2
        self.scales = (
            FourierScales(bands, windows, self.hop, fourier) if fourier else LearnedScales(bands, windows, self.hop)
        )
        self.scan = GroupScan(len(windows), layers=2)
        self.merge = nn.Conv2d(len(windows), 1, 1)
        if fourier:
            # The shortest scale, which starts as what masks act on, leads; those that start at random come after it.
            self.merge.weight.data = torch.tensor([1.0, 0.25, 0.25, 0.25]).view(1, -1, 1, 1)
        self.bottleneck = nn.Sequential(GlobalLayerNorm(bands), nn.Conv1d(bands, width, 1))
        self.blocks = nn.ModuleList(DualPathBlock(width, hidden) for _ in range(blocks))
        self.mask = nn.Sequential(nn.PReLU(), nn.Conv1d(width, talkers * self.scales.masked, 1))
        self.felt = (
            EegBranch(sensors, bands, width, attention, eeg_width, eeg_blocks, hold, assisted=talkers > 1)
            if sensors
            else None
        )

    def forward(self, mixture: Tensor, eeg: Tensor | None = None) -> Extraction:
        """Mixture [B, T], EEG [B, C, N] or None -> estimates [B, talkers, T], envelope [B, N] or None, features.

        Raises:
            BadInput: no EEG for a network that has a branch for it.
        """
        # Padded before its loudness is taken, so that zeros at the end change nothing.
        wave = F.pad(mixture, (0, -mixture.shape[-1] % self.hop))
        scale = loudness(wave)
        frames, scales = self.scales.analyse(wave / scale)
        merged = self.merge(self.scan(scales)).squeeze(1)
        x = self.bottleneck(merged)
        envelope, aligned = None, None
        if self.felt is not None:
            x, envelope, aligned = self.felt(x, merged, eeg, wave.shape[-1])
        masks = self.mask(self._separate(x)).unflatten(1, (self.talkers, -1))
        waves = self.scales.synthesise(frames, masks, mixture.shape[-1]) * scale.unsqueeze(1)
        return Extraction(waves, envelope, aligned)

    def _separate(self, x: Tensor) -> Tensor:
        """[B, D, L] -> [B, D, L], through the dual-path blocks."""
        chunks, length = segment(x, self.chunk)
        for block in self.blocks:
            chunks = block(chunks)
        return overlap_add(chunks, length)


def alignment_loss(eeg: Tensor, speech: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """InfoNCE (nats) of finding, for each row of EEG features [B, D, L], its own speech features [B, D, L].

    The others of the batch are the wrong answers; what competes are cosines over all D * L numbers, divided by the
    temperature. log(B) where all speech features are the same.

    Raises:
        BadInput: shapes that do not go together.
    """
    flat = eeg.flatten(1).float()
    return clip_loss(F.normalize(flat, dim=-1).view_as(eeg), speech, temperature)


class M3anetSettings(PublishedSettings):
    """Settings of the extracting form."""

    alignment_weight: float = Field(default=3.0, ge=0, description="weight of the contrastive alignment, in dB a nat")


class _M3anet(MaskingSystem):
    """What both share."""

    def compose(self, sensors: int, talkers: int, rate: int) -> nn.Module:
        """The network, its windows in seconds."""
        return MultiScaleNet(sensors, talkers, rate, **SIZES[self.settings.size])


class M3anetSeparator(_M3anet, Separator):
    """The same network without EEG."""

    facts = Facts(title="M3ANet, blind separation, first output", licence="MIT", source=SOURCE, uses_eeg=False)
    Settings = PublishedMaskingSettings
    plan = replace(Separator.plan, steps={"demo": 360, "hour": 2400, "full": 200_000})


class M3anet(_M3anet, Extractor):
    """Extraction with EEG."""

    facts = Facts(title="M3ANet (group scan, CMCA, alignment)", licence="MIT", source=SOURCE)
    Settings = M3anetSettings
    settings: M3anetSettings
    separator = M3anetSeparator
    plan = replace(Extractor.plan, steps={"demo": 240, "hour": 1200, "full": 100_000})

    def losses(self, batch: Batch, answer: Extraction) -> dict[str, Tensor]:
        """Those of every extractor, and the alignment of EEG with speech."""
        losses = super().losses(batch, answer)
        if answer.aligned is None:
            return losses
        alignment = alignment_loss(*answer.aligned)
        losses["loss"] = losses["loss"] + self.settings.alignment_weight * alignment
        return losses | {"alignment": alignment}
