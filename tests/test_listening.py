"""What no EEG has a part in is done once for all controls, changes no answer, and takes a bounded amount of memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from eeg2speech_baselines.mtrf_select import MtrfSelectSeparated
from torch import Tensor

from eeg2speech.data import Store
from eeg2speech.data.mixing import Mixer
from eeg2speech.data.types import Segment
from eeg2speech.errors import BadInput
from eeg2speech.evaluation.listening import LIMIT, Kept
from eeg2speech.evaluation.scoring import BATCH, ExtractionTest, listen
from eeg2speech.evaluation.windowed import WindowedTest, Windows
from eeg2speech.metrics import Scorer
from eeg2speech.splits import make_split
from eeg2speech.systems.interface import Context, Facts, NoSettings, System, heard_by
from eeg2speech.systems.registry import build, declare

CONTROLS = ("true_eeg", "noise_cue", "time_shift")


class Plain(System):
    """Mixture, louder with the EEG's power: a stranger's system that knows of no sharing."""

    facts = Facts(title="plain", licence="MIT", source="here")

    def extract(self, mixture: Tensor, eeg: Tensor, subject: Tensor) -> Tensor:
        """[B, T] -> [B, T]."""
        return mixture.square() * eeg.square().mean((1, 2))[:, None]


class Sharing(Plain):
    """The same in two steps; notes how many mixtures it hears and how often it answers."""

    def __init__(self, context: Context, settings: NoSettings) -> None:
        super().__init__(context, settings)
        self.heard, self.asked = 0, 0

    def hear(self, mixture: Tensor) -> Tensor:
        """[B, T] -> [B, T]."""
        self.heard += len(mixture)
        return mixture.square()

    def extract_heard(self, heard: Tensor, mixture: Tensor, eeg: Tensor, subject: Tensor) -> Tensor:
        """[B, T] -> [B, T]."""
        self.asked += len(mixture)
        return heard * eeg.square().mean((1, 2))[:, None]


class Derived(Sharing):
    """Answers in a way of its own, of which its base knows nothing."""

    def extract(self, mixture: Tensor, eeg: Tensor, subject: Tensor) -> Tensor:
        """[B, T] -> [B, T]."""
        return -mixture


@pytest.fixture(scope="module")
def context(store: Store) -> Context:
    return Context.of(store, 4.0)


@pytest.fixture(scope="module")
def segments(store: Store) -> list[Segment]:
    """More than fill one batch."""
    return [Segment(trial, start, 4.0) for trial in list(store.trials)[:5] for start in (0.0, 4.0)]


@pytest.fixture
def scorer() -> Iterator[Scorer]:
    with Scorer(["si_sdr"], 16_000) as one:
        yield one


def answers(test: ExtractionTest, control: str) -> list[np.ndarray]:
    return [signals.estimate for signals in test.signals(control)]


def same(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    return len(one) == len(other) and all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def systems(context: Context) -> dict[str, System]:
    torch.manual_seed(0)
    return {name: build(declare(name), context) for name in ("neurocodec", "dprnn")} | {
        "plain": Plain(context, NoSettings()),
        "sharing": Sharing(context, NoSettings()),
        "two_step": Chooser(context, MtrfSelectSeparated.Settings()),
    }


class Chooser(MtrfSelectSeparated):
    """A two-step system that needs no training to choose."""

    def select(self, eeg: Tensor, subject: Tensor, talkers: Tensor) -> Tensor:
        """Of talkers [B, K, T] one, by the sign of a sample of the EEG [B, C, N]."""
        return talkers[torch.arange(len(talkers)), (eeg[:, 0, 0] > 0).long()]


@pytest.mark.parametrize("name", ["neurocodec", "dprnn", "plain", "sharing", "two_step"])
def test_sharing_changes_no_answer(
    name: str, store: Store, context: Context, segments: list[Segment], scorer: Scorer
) -> None:
    system = systems(context)[name]
    about = (segments[: BATCH + 2], Mixer(store), scorer, 0)
    shared = ExtractionTest(system, *about)
    for control in (*CONTROLS, CONTROLS[0]):
        alone = ExtractionTest(system, *about)
        alone.heard = Kept(alone.listen, limit=0)
        assert same(answers(shared, control), answers(alone, control))
    assert len(shared.heard._kept) == 2 and not alone.heard._kept


def test_what_is_shared_is_what_the_system_does_by_itself(
    store: Store, context: Context, segments: list[Segment]
) -> None:
    for name, system in systems(context).items():
        heard = listen(system, Mixer(store), segments[:2])
        mixture, known = heard.mixture(torch.device("cpu")), heard.known(0, torch.device("cpu"))
        eeg = torch.from_numpy(np.stack([store.cut_eeg(segment) for segment in segments[:2]]))
        subject = torch.zeros(2, dtype=torch.long)
        with torch.inference_mode():
            plain = system.extract(mixture, eeg, subject)
            if known is None:
                assert name in ("plain", "dprnn")
            else:
                assert torch.equal(system.extract_heard(known, mixture, eeg, subject), plain), name


@pytest.mark.parametrize("seconds", [None, 1.0, 8.0])
def test_a_system_hears_each_mixture_once_for_all_controls(
    seconds: float | None, store: Store, context: Context, scorer: Scorer
) -> None:
    system, split = Sharing(context, NoSettings()), make_split(store.index, "stimulus")
    test_segments = [Segment(span.trial, 2.0, 4.0) for span in split.parts["test"]][: BATCH + 1]
    about = (system, test_segments, Mixer(store), scorer, 0)
    if seconds is None:
        test, pieces = ExtractionTest(*about), 1
    else:
        rates = (store.facts.eeg_rate, store.facts.audio_rate)
        test, pieces = WindowedTest(*about, Windows.of(seconds, split, *rates)), max(1, round(4 / seconds))
    for control in CONTROLS:
        answers(test, control)
    assert system.heard == pieces * len(test_segments)
    assert system.asked == len(CONTROLS) * pieces * len(test_segments)


def test_no_more_is_kept_than_the_limit_and_the_rest_is_made_anew(
    store: Store, context: Context, segments: list[Segment], scorer: Scorer
) -> None:
    system = Sharing(context, NoSettings())
    test = ExtractionTest(system, segments, Mixer(store), scorer, 0)
    one = test.listen(segments[:BATCH]).size
    samples, eeg = 4 * 16_000, store.cut_eeg(segments[0])
    assert one == BATCH * (3 * 4 * samples + eeg.nbytes + 4 * samples)
    system.heard, rest = 0, len(segments) - BATCH
    test.heard = Kept(test.listen, limit=one)
    for _ in range(3):
        answers(test, "true_eeg")
    assert test.heard.size == one <= LIMIT
    assert system.heard == BATCH + 3 * rest


def test_a_derived_class_that_answers_by_itself_is_asked_itself(store: Store, context: Context) -> None:
    derived, mixture = Derived(context, NoSettings()), torch.zeros(1, 16_000)
    assert heard_by(derived, mixture) is None and derived.heard == 0


def test_something_else_than_a_row_a_mixture_is_refused(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    system, mixture = Sharing(context, NoSettings()), torch.zeros(2, 16_000)
    for odd, found in ((torch.zeros(3, 1), r"\[3, 1\]"), ("nothing", "str"), (torch.tensor(1.0), r"\[\]")):
        monkeypatch.setattr(Sharing, "hear", lambda self, mixture, odd=odd: odd)
        with pytest.raises(BadInput, match=rf"hear: expected None, or a tensor \[2, ...\], found {found}"):
            heard_by(system, mixture)
