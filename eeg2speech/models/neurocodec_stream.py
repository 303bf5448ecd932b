"""NeuroCodec chunk by chunk: sound and EEG come in as they are measured, sound goes out as soon as it is known."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from eeg2speech.errors import BadInput
from eeg2speech.models.codec import Codec
from eeg2speech.models.neurocodec import BlockState, NeuroCodecNetwork, Span
from eeg2speech.models.streaming import reach, stream_of


def algorithmic_latency(network: NeuroCodecNetwork, codec: Codec) -> float:
    """Seconds of input beyond a moment that must be there before its sound can go out, whatever the computer's speed.

    Sample n is at n / rate: sound at t depends on no input at t + latency or later. Counted from the layers: from the
    sample that waits longest to the end of the last frame which the codec's decoder needs for it, and beyond that end
    the codec's encoder or the EEG, whichever looks further ahead.
    """
    _require_causal(network)
    encoder, decoder = _parts(codec)
    frames, eeg = stream_of(decoder), network.clock.look_ahead if network.eeg is not None else 0.0
    # Samples of one frame need different last frames, so that the first of them need not be the one that waits longest.
    wait = max((frames.inputs(sample, sample)[1] + 1) * codec.hop - sample for sample in range(codec.hop))
    return wait / codec.rate + max(reach(encoder).future / codec.rate, eeg)


class NeuroCodecStream:
    """One signal, in chunks of any sizes; what comes out, joined, is the answer to the whole.

    All state is carried: encoder and decoder of the codec, the EEG encoder, Mamba, the running match, and of the EEG
    features only as much as attention can look back to. The network should be in eval mode.
    """

    def __init__(self, network: NeuroCodecNetwork, codec: Codec) -> None:
        _require_causal(network)
        self.network, self.codec = network, codec
        encoder, decoder = _parts(codec)
        self._encoder, self._decoder = stream_of(encoder), stream_of(decoder)
        self._eeg = None if network.eeg is None else stream_of(network.eeg)
        self._begin()

    def push(self, chunk: Tensor, eeg: Tensor, last: bool = False) -> Tensor:
        """Sound [B, n] and EEG [B, C, m] of about the same time (either may be empty) -> sound [B, k] that is ready.

        ``last`` ends the signal: what is left comes out, as many samples in all as went in, and the next chunk begins
        another signal.

        Raises:
            BadInput: shapes that are not these, another B than before, or a signal that ends with sound and EEG of
                durations that differ by more than a frame. The stream is then as it was before.
        """
        self._check(chunk, eeg, last)
        with torch.inference_mode():
            self._take(chunk, eeg, last)
            sound = self._sound(self._predict(last), last)
        if last:
            self._begin()
        # A copy from outside may be used in whatever the caller does next.
        return sound.clone()

    def _check(self, chunk: Tensor, eeg: Tensor, last: bool) -> None:
        where, sensors = "NeuroCodecStream", self.network.sensors
        if chunk.ndim != 2 or eeg.ndim != 3 or len(chunk) != len(eeg) or (sensors and eeg.shape[1] != sensors):
            expected = f"sound [B, n] and EEG [B, {sensors or 'C'}, m]"
            raise BadInput(where, "chunk", expected, (list(chunk.shape), list(eeg.shape)))
        if self._latents is not None and len(self._latents) != len(chunk):
            raise BadInput(where, "chunk", f"{len(self._latents)} signals, as before", len(chunk))
        if not last or not sensors:
            return
        clock = self.network.clock
        heard = (self._heard + chunk.shape[-1]) / clock.rate
        felt = (self._felt + eeg.shape[-1]) / clock.eeg_rate
        if abs(heard - felt) > 1 / clock.frame_rate:
            raise BadInput(where, "eeg", f"{heard:.3f} s in all, as the sound (within a frame)", f"{felt:.3f} s")

    def _begin(self) -> None:
        """Nothing has come; codec and EEG encoder forget by themselves at the end of a signal."""
        self._latents: Tensor | None = None
        self._features: Span | None = None
        self._state: list[BlockState] | None = None
        self._frame = self._heard = self._felt = self._given = 0

    def _take(self, chunk: Tensor, eeg: Tensor, last: bool) -> None:
        """Encode what came."""
        self._heard += chunk.shape[-1]
        self._felt += eeg.shape[-1]
        if last:
            chunk = F.pad(chunk, (0, -self._heard % self.codec.hop))
        found = self._encoder.push(chunk.float().unsqueeze(1), last)
        self._latents = found if self._latents is None else torch.cat([self._latents, found], dim=-1)
        if self._eeg is not None:
            features = self._eeg.push(eeg, last)
            kept = self._features
            joined = features if kept is None else torch.cat([kept.features, features], dim=-1)
            self._features = Span(joined, 0 if kept is None else kept.first)

    def _predict(self, last: bool) -> Tensor:
        """Latents of the attended talker [B, D, L] for all frames whose input is there."""
        assert self._latents is not None
        count = self._latents.shape[-1] if last else self._ready()
        mixture, self._latents = self._latents[..., :count], self._latents[..., count:]
        if not count:
            return mixture
        prediction = self.network.advance(mixture, self._features, self._frame, self._state)
        self._state, self._frame = prediction.state, self._frame + count
        self._forget()
        return self.network.choose(prediction, mixture, self.codec)

    def _ready(self) -> int:
        """How many frames have all the EEG that they may use."""
        assert self._latents is not None
        available = self._latents.shape[-1]
        if self._features is None:
            return available
        end = self._features.first + self._features.features.shape[-1]
        count = 0
        while count < available and self.network.clock.newest(self._frame + count) < end:
            count += 1
        return count

    def _forget(self) -> None:
        """Drop EEG that no later frame can look back to; the last sample stays, for the end of the signal."""
        if self._features is None:
            return
        features, first = self._features
        gone = min(max(0, self.network.clock.oldest(self._frame) - first), features.shape[-1] - 1)
        self._features = Span(features[..., gone:], first + gone)

    def _sound(self, latents: Tensor, last: bool) -> Tensor:
        """Decode; at the end, crop or pad to what went in, as the codec does with the whole."""
        wave = self._decoder.push(latents, last).squeeze(1)
        if last:
            wave = F.pad(wave, (0, self._heard - self._given - wave.shape[-1]))
        self._given += wave.shape[-1]
        return wave


def _require_causal(network: NeuroCodecNetwork) -> None:
    if not network.causal:
        raise BadInput("NeuroCodecStream", "causal", "a network that was built causal", False)


def _parts(codec: Codec) -> tuple[torch.nn.Module, torch.nn.Module]:
    """The codec's encoder and decoder."""
    encoder, decoder = codec.model.encoder, codec.model.decoder
    assert isinstance(encoder, torch.nn.Module) and isinstance(decoder, torch.nn.Module)
    return encoder, decoder
