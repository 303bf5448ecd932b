"""Extraction in windows of another length than the segments that are scored.

Windows that are shorter stand side by side in a segment, each is answered by itself, and the answers are joined. A
longer one stands around its segment, and the answer is cut out. Scores are of the same segments, whatever the window.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from eeg2speech.data.mixing import Mixer, Scene
from eeg2speech.data.types import Samples, Segment
from eeg2speech.errors import BadInput
from eeg2speech.evaluation.listening import Heard
from eeg2speech.evaluation.scoring import ExtractionTest, asked, device_of
from eeg2speech.metrics import Scorer, Signals
from eeg2speech.splits.manifest import Span, Split
from eeg2speech.systems.interface import System, answer, heard_by


@dataclass(frozen=True)
class Windows:
    """Windows of ``seconds``; ``spans`` are the test part of each trial, rates are in Hz."""

    seconds: float
    spans: Mapping[str, Sequence[Span]]
    eeg_rate: int
    audio_rate: int

    @classmethod
    def of(cls, seconds: float, split: Split, eeg_rate: int, audio_rate: int) -> Windows:
        """Windows in the test part of a split."""
        spans: dict[str, list[Span]] = {}
        for span in split.parts["test"]:
            spans.setdefault(span.trial, []).append(span)
        return cls(seconds, spans, eeg_rate, audio_rate)

    @cached_property
    def length(self) -> int:
        """EEG samples of a window."""
        return max(1, round(self.seconds * self.eeg_rate))

    def around(self, segment: Segment) -> Segment:
        """What a system hears of the trial to answer a segment: the segment, or a longer window in whose middle it is,
        moved where that would leave the span.

        Raises BadInput for a window that is longer than the segment's span.
        """
        if self.length <= round(segment.duration * self.eeg_rate):
            return segment
        first, last = self._ends(segment)
        if last - first < self.length:
            where, found = f"test part of trial {segment.trial!r}", f"{(last - first) / self.eeg_rate:.3f} s"
            raise BadInput(where, "conditions.window", f"a stretch of at least {self.seconds:g} s", found)
        middle = (segment.start + segment.duration / 2) * self.eeg_rate
        begin = min(max(round(middle - self.length / 2), first), last - self.length)
        return Segment(segment.trial, begin / self.eeg_rate, self.length / self.eeg_rate)

    def pieces(self, samples: int) -> list[tuple[int, int]]:
        """Begin and end in EEG samples of the windows in a stretch; the last is moved back where it would leave it."""
        length = min(self.length, samples)
        return [(min(k, samples - length), min(k + length, samples)) for k in range(0, samples, length)]

    def audio(self, eeg_sample: float) -> int:
        """The audio sample at an EEG sample."""
        return round(eeg_sample / self.eeg_rate * self.audio_rate)

    def _ends(self, segment: Segment) -> tuple[int, int]:
        """First and last EEG sample of the span that holds the segment."""
        end = segment.start + segment.duration
        for span in self.spans.get(segment.trial, ()):
            if span.start - 1e-6 <= segment.start and end <= span.stop + 1e-6:
                return int(np.ceil(span.start * self.eeg_rate - 1e-6)), int(span.stop * self.eeg_rate + 1e-6)
        raise BadInput(f"trial {segment.trial!r}", "segment", "within the test part", segment)


class WindowedTest(ExtractionTest):
    """As ``ExtractionTest``; a control acts on all that is heard for a segment, before that is cut into windows."""

    def __init__(
        self, system: System, segments: Sequence[Segment], mixer: Mixer, scorer: Scorer, seed: int, windows: Windows
    ) -> None:
        super().__init__(system, segments, mixer, scorer, seed)
        self.windows = windows

    def signals(self, control: str) -> Iterator[Signals]:
        """Segments and their answers, cut out of what was heard for them."""
        store, device, wanted = self.mixer.store, device_of(self.system), iter(self.segments)
        stretches = [self.windows.around(segment) for segment in self.segments]
        for batch in asked(store, stretches, control, self.seed, device):
            heard = self.heard.of(batch.segments)
            found = self._joined(heard, batch.eeg, batch.subject).cpu().numpy()
            for segment, scene, wave in zip(islice(wanted, len(found)), heard.scenes, found, strict=True):
                yield self._cut(segment, scene, wave)

    def listen(self, segments: Sequence[Segment]) -> Heard:
        """Stretches as they are heard, and every window of theirs, whatever the EEG."""
        heard = Heard(tuple(self.mixer.scene(segment) for segment in segments))
        mixture = heard.mixture(device_of(self.system))
        parts = [self._part(*piece) for piece in self.windows.pieces(heard.scenes[0].eeg.shape[-1])]
        return heard.with_known([heard_by(self.system, mixture[:, part]) for part in parts])

    def _joined(self, heard: Heard, eeg: Tensor, subject: Tensor) -> Tensor:
        """Answers to all windows of a stretch, one after the other; where two overlap, the later one holds."""
        system, device = self.system, eeg.device
        mixture, sources = heard.mixture(device), heard.sources(system, self.mixer.store, device)
        joined = torch.zeros_like(mixture)
        for window, (begin, end) in enumerate(self.windows.pieces(eeg.shape[-1])):
            part, known = self._part(begin, end), heard.known(window, device)
            given = (mixture[:, part], eeg[..., begin:end], subject, sources[..., part])
            joined[:, part] = answer(system, *given, known)
        return joined

    def _part(self, begin: int, end: int) -> slice:
        """The audio samples of a window, by its EEG samples."""
        return slice(self.windows.audio(begin), self.windows.audio(end))

    def _cut(self, segment: Segment, heard: Scene, wave: Samples) -> Signals:
        begin = self.windows.audio((segment.start - heard.segment.start) * self.windows.eeg_rate)
        part = slice(begin, begin + round(segment.duration * self.windows.audio_rate))
        return Signals(heard.target[part], wave[part], heard.mixture[part], heard.interferer[part])
