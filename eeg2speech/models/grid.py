"""TF-GridNet: full- and sub-band modelling of a short-time spectrum, with the EEG fused before every block.

Source: Wang, Cornell, Choi, Lee, Kim and Watanabe 2023, "TF-GridNet: Integrating Full- and Sub-Band Modeling for Speech
Separation", IEEE/ACM TASLP, doi:10.1109/TASLP.2023.3304482. Written from the paper; no code was taken over. Inside,
features are [B, L, F, D]: frames, frequencies, channels last. Frames stand one hop apart.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eeg2speech.errors import BadInput
from eeg2speech.models.dual_path import CovarianceFilm, Film, GlobalLayerNorm, modulate, resample_frames
from eeg2speech.models.eeg import EegEncoder, required
from eeg2speech.models.masking import Extraction, loudness

MASK_START = 0.05
"""Share of its usual random start that the last layer keeps where it makes masks: they begin near 1/2."""


class Stft(nn.Module):
    """Short-time Fourier transform and its inverse, square-root Hann window, in float32 whatever autocast says.

    Args:
        window, hop: in samples; the hop is at most half the window, so that every sample is seen and comes back.

    Raises:
        BadInput: a longer hop.
    """

    window: Tensor

    def __init__(self, window: int, hop: int) -> None:
        super().__init__()
        if not 0 < hop <= window // 2:
            raise BadInput("Stft", "hop", f"1 to {window // 2} samples (half a window)", hop)
        self.size, self.hop = window, hop
        self.register_buffer("window", torch.hann_window(window).sqrt(), persistent=False)

    def forward(self, wave: Tensor) -> Tensor:
        """[B, T], T a multiple of the hop -> complex [B, L, F] with L = T / hop + 1 and F = window // 2 + 1."""
        with torch.autocast(wave.device.type, enabled=False):
            spectrum = torch.stft(
                wave.float(),
                self.size,
                self.hop,
                window=self.window,
                pad_mode="constant",
                normalized=True,
                return_complex=True,
            )
        return spectrum.transpose(-1, -2)

    def inverse(self, spectrum: Tensor, samples: int) -> Tensor:
        """Complex [B, L, F] -> [B, samples]."""
        frames = spectrum.transpose(-1, -2)
        return torch.istft(frames, self.size, self.hop, window=self.window, normalized=True, length=samples)


class GridPath(nn.Module):
    """A bidirectional LSTM along one axis: layer norm, unfold, LSTM, transposed convolution, residual.

    Args:
        width: channels D. hidden: LSTM units a direction. kernel, stride: steps seen at once (I) and between (J).
    """

    def __init__(self, width: int, hidden: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.norm = nn.LayerNorm(width)
        self.rnn = nn.LSTM(width * kernel, hidden, batch_first=True, bidirectional=True)
        self.fold = nn.ConvTranspose1d(2 * hidden, width, kernel, stride)

    def forward(self, x: Tensor) -> Tensor:
        """[N, S, D] -> same shape, along S."""
        steps = x.shape[1]
        tail = (-(steps - self.kernel)) % self.stride if steps > self.kernel else self.kernel - steps
        seen = F.pad(self.norm(x), (0, 0, 0, tail)).unfold(1, self.kernel, self.stride).flatten(2)
        update: Tensor = self.fold(self.rnn(seen)[0].transpose(1, 2))
        return x + update.transpose(1, 2)[:, :steps].to(x.dtype)


class HeadNorm(nn.Module):
    """PReLU, then layer norm over frequencies and channels, each head with its own slope, gains and offsets."""

    def __init__(self, heads: int, frequencies: int, width: int) -> None:
        super().__init__()
        self.slope = nn.PReLU(heads)
        self.gain = nn.Parameter(torch.ones(heads, 1, frequencies, width))
        self.offset = nn.Parameter(torch.zeros(heads, 1, frequencies, width))

    def forward(self, x: Tensor) -> Tensor:
        """[B, heads, L, F, E] -> [B, heads, L, F * E]."""
        normalised = F.layer_norm(self.slope(x), x.shape[-2:])
        return (normalised * self.gain + self.offset).flatten(-2)


class FrameAttention(nn.Module):
    """Self-attention among frames, which are compared over all their frequencies: [B, L, F, D] -> same.

    Args:
        width: channels D. frequencies: F. heads: divide D. key_width: channels E of queries and keys a head.

    Raises:
        BadInput: heads that do not divide the width.
    """

    def __init__(self, width: int, frequencies: int, heads: int, key_width: int) -> None:
        super().__init__()
        if width % heads:
            raise BadInput("FrameAttention", "heads", f"a divisor of the width {width}", heads)
        self.heads = heads
        self.query, self.key = (nn.Linear(width, heads * key_width) for _ in range(2))
        self.value = nn.Linear(width, width)
        self.query_norm, self.key_norm = (HeadNorm(heads, frequencies, key_width) for _ in range(2))
        self.value_norm = HeadNorm(heads, frequencies, width // heads)
        self.out = nn.Sequential(nn.Linear(width, width), nn.PReLU(), nn.LayerNorm([frequencies, width]))

    def forward(self, x: Tensor) -> Tensor:
        """[B, L, F, D] -> [B, L, F, D]."""
        query, key = self.query_norm(self._split(self.query(x))), self.key_norm(self._split(self.key(x)))
        value = self.value_norm(self._split(self.value(x)))
        found = torch.unflatten(F.scaled_dot_product_attention(query, key, value), -1, (x.shape[2], -1))
        update: Tensor = self.out(found.permute(0, 2, 3, 1, 4).flatten(-2))
        return x + update

    def _split(self, x: Tensor) -> Tensor:
        """[B, L, F, heads * E] -> [B, heads, L, F, E]."""
        return torch.unflatten(x, -1, (self.heads, -1)).permute(0, 3, 1, 2, 4)


class GridBlock(nn.Module):
    """Full band within a frame, each frequency along time, attention among frames: [B, L, F, D] -> same.

    Args:
        width, frequencies, heads, key_width: see ``FrameAttention``. hidden, kernel, stride: see ``GridPath``.
    """

    def __init__(
        self, width: int, frequencies: int, kernel: int, stride: int, hidden: int, heads: int, key_width: int
    ) -> None:
        super().__init__()
        self.band = GridPath(width, hidden, kernel, stride)
        self.time = GridPath(width, hidden, kernel, stride)
        self.attention = FrameAttention(width, frequencies, heads, key_width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, L, F, D] -> [B, L, F, D]."""
        batch = len(x)
        x = torch.unflatten(self.band(x.flatten(0, 1)), 0, (batch, -1))
        x = torch.unflatten(self.time(x.transpose(1, 2).flatten(0, 1)), 0, (batch, -1))
        attended: Tensor = self.attention(x.transpose(1, 2))
        return attended


class GridFusion(nn.Module):
    """EEG features into [B, L, F, D]: ``Film`` frame by frame, then ``CovarianceFilm``; starts as the identity."""

    def __init__(self, width: int, eeg_width: int) -> None:
        super().__init__()
        self.film = Film(width, eeg_width + 1)
        self.match = CovarianceFilm(width, eeg_width)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x [B, L, F, D], condition [B, E + 1, L], the envelope last -> [B, L, F, D]."""
        x = modulate(x, *(g.transpose(1, 2).unsqueeze(2) for g in self.film(condition)))
        return modulate(x, *self._matched(x, condition[:, -1:]))

    def _matched(self, x: Tensor, cue: Tensor) -> tuple[Tensor, Tensor]:
        """What goes with the cue [B, 1, L] at each frequency by itself: gamma and beta, each [B, 1, F, D]."""
        batch, frequencies = x.shape[0], x.shape[2]
        rows = x.permute(0, 2, 3, 1).flatten(0, 1).unsqueeze(-1)
        gamma, beta = self.match(rows, cue.repeat_interleave(frequencies, 0).unsqueeze(-1))
        return gamma.view(batch, 1, frequencies, -1), beta.view(batch, 1, frequencies, -1)


class GridNet(nn.Module):
    """Mixture [B, T] (and EEG [B, C, N]) -> ``talkers`` estimates and the envelope read from the EEG.

    Args:
        sensors: EEG channels; 0 builds the same network without an EEG branch.
        talkers: number of estimates K (1 for extraction, 2 for blind separation).
        window, hop: of the short-time Fourier transform, in samples (see ``Stft``).
        width: channels D. blocks: number of ``GridBlock``. kernel, stride: of the unfolding along both axes.
        hidden: LSTM units a direction. heads, key_width: of the attention (see ``FrameAttention``).
        eeg_width: channels of the EEG encoder.
        masking: False, as published: the estimates' spectra come out; True: bounded complex masks on the mixture's.
        patch: neighbouring frequencies that the first layer brings to one place of the grid, and the last parts again;
            1, as published. The grid, and with it the time a step takes, is so many times smaller.

    Raises:
        BadInput: a hop over half the window, or heads that do not divide the width.
    """

    def __init__(
        self,
        sensors: int,
        talkers: int,
        window: int,
        hop: int,
        width: int,
        blocks: int,
        kernel: int,
        stride: int,
        hidden: int,
        heads: int,
        key_width: int,
        eeg_width: int,
        masking: bool = False,
        patch: int = 1,
    ) -> None:
        super().__init__()
        self.talkers, self.masking, self.patch = talkers, masking, patch
        self.stft = Stft(window, hop)
        sizes = (width, -(-(window // 2 + 1) // patch), kernel, stride, hidden, heads, key_width)
        inward = nn.Conv2d(3 if masking else 2, width, (3, patch + 2), (1, patch), padding=1)
        self.inward = nn.Sequential(inward, GlobalLayerNorm(width))
        self.blocks = nn.ModuleList(GridBlock(*sizes) for _ in range(blocks))
        self.eeg = EegEncoder(sensors, eeg_width) if sensors else None
        self.fusion = nn.ModuleList(GridFusion(width, eeg_width) for _ in range(blocks if sensors else 0))
        self.outward = nn.ConvTranspose2d(width, 2 * talkers, (3, patch + 2), (1, patch), padding=1)
        if masking:
            self.outward.weight.data *= MASK_START

    def forward(self, mixture: Tensor, eeg: Tensor | None = None) -> Extraction:
        """Mixture [B, T], EEG [B, C, N] or None -> estimates [B, talkers, T], envelope [B, N] or None.

        Raises:
            BadInput: no EEG for a network that has an EEG branch.
        """
        padded = F.pad(mixture, (0, -mixture.shape[-1] % self.stft.hop))
        scale = loudness(padded)
        spectrum = self.stft(padded / scale)
        features = F.pad(self._features(spectrum), (0, -spectrum.shape[-1] % self.patch))
        x = self.inward(features).permute(0, 2, 3, 1).contiguous()
        condition, envelope = self._condition(eeg, x.shape[1])
        for index, block in enumerate(self.blocks):
            if condition is not None:
                x = self.fusion[index](x, condition)
            x = block(x)
        estimates = self._estimates(spectrum, self.outward(x.permute(0, 3, 1, 2)))
        waves = self.stft.inverse(estimates.flatten(0, 1), mixture.shape[-1])
        return Extraction(torch.unflatten(waves, 0, estimates.shape[:2]) * scale.unsqueeze(1), envelope)

    def _features(self, spectrum: Tensor) -> Tensor:
        """Complex [B, L, F] -> real and imaginary part, and for masks the logarithm of the magnitude, [B, 2 or 3, ..].

        Masks need to know what is loud and what is not; the logarithm tells them from the start. Its floor, 40 dB below
        a typical band, keeps near-silence from filling its range.
        """
        parts = torch.view_as_real(spectrum).movedim(-1, 1)
        if not self.masking:
            return parts
        magnitude = (parts.square().sum(1, keepdim=True) + 1e-6).sqrt()
        return torch.cat([parts, torch.log(magnitude + 1e-2)], dim=1)

    def _estimates(self, spectrum: Tensor, x: Tensor) -> Tensor:
        """Spectra [B, K, L, F] from the last layer's [B, 2 K, L, F], in float32."""
        kept = x[..., : spectrum.shape[-1]].float()
        real, imaginary = torch.unflatten(kept, 1, (self.talkers, 2)).unbind(2)
        if not self.masking:
            return torch.complex(real, imaginary)
        return torch.complex(0.5 + torch.tanh(real), torch.tanh(imaginary)) * spectrum.unsqueeze(1)

    def _condition(self, eeg: Tensor | None, frames: int) -> tuple[Tensor | None, Tensor | None]:
        if self.eeg is None:
            return None, None
        features, envelope = self.eeg(required(eeg, "GridNet"))
        return resample_frames(features, frames), envelope
