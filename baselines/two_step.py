"""The two-step system of cognitive hearing aids: a blind separator, then a choice among the talkers that it gives.

The separator never hears the EEG (permutation-invariant training; Kolbaek et al. 2017), and the choice never changes a
talker, so that both steps can be scored apart: ``SeparatedOracle`` shows what any choice could reach with this
separator. Who chooses is the linear decoder (``mtrf_select``; Van Eyndhoven, Francart and Bertrand 2017) or the brain
encoder (here), which takes the two talkers for the candidates of a retrieval.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from pydantic import BaseModel, Field
from torch import Tensor, nn
from torch.nn import functional as F

from eeg2speech.data.mixing import LEVEL
from eeg2speech.errors import BadInput, unknown_name
from eeg2speech.models.masking import loudness, negative_si_sdr
from eeg2speech.systems.brain_encoder import SOURCE as ENCODER_SOURCE
from eeg2speech.systems.brain_encoder import BrainEncoderSettings, BrainEncoderSystem
from eeg2speech.systems.interface import Context, Facts, System
from eeg2speech.systems.registry import system_class, system_names
from eeg2speech.training.budget import Budget, RunOptions, Training
from eeg2speech.training.examples import Examples

from .dprnn import SOURCE as DPRNN_SOURCE
from .masking import MaskingSettings, Separator

SUFFIX = "_separator"
SEPARATOR, ENCODER = "separator.", "encoder."


class TwoStepSettings(MaskingSettings):
    """Settings of every two-step system; ``size`` is the separator's."""

    # Left out of what is written where it is as it always was: results from before it could be chosen stay valid.
    separator: str = Field(
        default="dprnn",
        description="the system <name>_separator separates: dprnn, or another masking network",
        exclude_if=lambda value: value == "dprnn",
    )


class BrainSelectSettings(TwoStepSettings):
    """Settings of ``brain_select_separated``."""

    encoder: BrainEncoderSettings = Field(default=BrainEncoderSettings(), description="those of brain_encoder")
    encoder_steps: int = Field(
        default=600, ge=1, description="of the encoder, at most: one costs more than the separator's"
    )


class TwoStep(System):
    """A blind separator. Derive, and choose among the talkers that it gives, in ``extract_heard``.

    Whatever else there is to learn comes from the next base class: its training follows the separator's, and its state
    stands beside it.
    """

    Settings = TwoStepSettings
    settings: TwoStepSettings

    def __init__(self, context: Context, settings: BaseModel) -> None:
        super().__init__(context, settings)
        assert isinstance(settings, TwoStepSettings)
        separator = separator_class(settings.separator)
        self.separator = separator(context, separator.Settings(size=settings.size))
        source = self.facts.source.replace(DPRNN_SOURCE, separator.facts.source)
        self.facts = replace(self.facts, source=source)  # type: ignore[misc]

    @property
    def network(self) -> nn.Module:
        """The separator's: its device is where this is asked."""
        return self.separator.network

    def fit(self, train: Examples, valid: Examples, budget: Budget, options: RunOptions) -> Training:
        """Train the separator, or take up the same one from ``options.shared``, then what else there is.

        The training that is told is the separator's.
        """
        training = self.separator.fit(train, valid, budget, options)
        super().fit(train, valid, budget, options)
        return training

    def recipe(self, budget: Budget) -> dict[str, Any]:
        """Its own and the separator's."""
        return super().recipe(budget) | {"separator": self.separator.recipe(budget)}

    @torch.no_grad()
    def separated(self, mixture: Tensor) -> Tensor:
        """[B, T] -> [B, 2, T], in no order and at any gain."""
        return self.separator.separate(mixture)

    def hear(self, mixture: Tensor) -> Tensor:
        """The talkers: to separate them takes no EEG, and most of the time."""
        return self.separated(mixture)

    def extract(self, mixture: Tensor, eeg: Tensor, subject: Tensor) -> Tensor:
        """[B, T] -> [B, T]."""
        return self.extract_heard(self.hear(mixture), mixture, eeg, subject)

    def extract_heard(self, heard: Tensor, mixture: Tensor, eeg: Tensor, subject: Tensor) -> Tensor:
        """Of talkers [B, 2, T] the one that is chosen, [B, T]; here there is nobody yet who chooses by the EEG."""
        raise BadInput(type(self).__name__, "extract", "a system that sees the mixture", f"sees {self.facts.sees!r}")

    def stages(self) -> dict[str, list[nn.Module]]:
        """The separator; the rest is the choice."""
        return {"separator": [self.separator.network]}

    def state(self) -> dict[str, Tensor]:
        """The separator's weights, and what else was learned."""
        return super().state() | {f"{SEPARATOR}{name}": tensor for name, tensor in self.separator.state().items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take up both."""
        own, others = parted(state, SEPARATOR)
        super().load_state(others)
        self.separator.load_state(own)


class BrainSelectSeparated(TwoStep):
    """Of the separated talkers the one that the brain encoder finds nearer to the EEG.

    The encoder learns from clean attended speech, as in retrieval: what a separator does to a voice it has never heard.
    """

    facts = Facts(
        title="Brain encoder picks a separated source",
        licence="MIT",
        source=f"{ENCODER_SOURCE}; separator: {DPRNN_SOURCE}",
        uses_subject=True,
    )
    Settings = BrainSelectSettings
    settings: BrainSelectSettings

    def __init__(self, context: Context, settings: BaseModel) -> None:
        super().__init__(context, settings)
        assert isinstance(settings, BrainSelectSettings)
        if settings.encoder.speech_context != "segment":
            found = f"{settings.encoder.speech_context}: around a separated talker there is none"
            raise BadInput("brain_select_separated", "encoder.speech_context", "segment", found)
        self.encoder = BrainEncoderSystem(context, settings.encoder)

    @property
    def network(self) -> nn.Module:
        """Both networks, so that both are brought to one device."""
        return nn.ModuleDict({"separator": self.separator.network, "encoder": self.encoder.network})

    @property
    def parameters(self) -> int:
        """Of both; buffers are not among them."""
        return self.separator.parameters + self.encoder.parameters

    def fit(self, train: Examples, valid: Examples, budget: Budget, options: RunOptions) -> Training:
        """Train the separator, then the encoder. Steps and seconds are both's; loss and curve are the encoder's."""
        before = super().fit(train, valid, budget, options)
        inner = replace(options, folder=options.folder / "encoder")
        own = self.encoder.fit(train, valid, self.encoder_budget(budget), inner)
        return replace(own, steps=before.steps + own.steps, seconds=before.seconds + own.seconds)

    def encoder_budget(self, budget: Budget) -> Budget:
        """The steps of ``budget`` for the encoder, but no more than the settings say."""
        return Budget(budget.name, min(self.settings.encoder_steps, self.encoder.plan.steps_for(budget)))

    def recipe(self, budget: Budget) -> dict[str, Any]:
        """Its own, the separator's and the encoder's."""
        return super().recipe(budget) | {"encoder": self.encoder.recipe(self.encoder_budget(budget))}

    def extract_heard(self, heard: Tensor, mixture: Tensor, eeg: Tensor, subject: Tensor) -> Tensor:
        """Of talkers [B, 2, T] -> [B, T]."""
        return picked(heard, self.fits(heard, eeg, subject).argmax(1))

    def fits(self, talkers: Tensor, eeg: Tensor, subject: Tensor) -> Tensor:
        """How well talkers [B, K, T] fit the EEG: cosine over all D x F numbers of the embeddings, [B, K]."""
        felt = self.encoder.embed_eeg(eeg, subject).unsqueeze(1).float()
        embedding = self.encoder.embed_speech(levelled(talkers).flatten(0, 1))
        heard = torch.unflatten(embedding, 0, talkers.shape[:2]).float()
        # Sound and EEG of a file may end some milliseconds apart.
        frames = min(felt.shape[-1], heard.shape[-1])
        return F.cosine_similarity(felt[..., :frames].flatten(2), heard[..., :frames].flatten(2), dim=-1)

    def state(self) -> dict[str, Tensor]:
        """Weights of both."""
        return super().state() | {f"{ENCODER}{name}": tensor for name, tensor in self.encoder.state().items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take up both."""
        own, others = parted(state, ENCODER)
        super().load_state(others)
        self.encoder.load_state(own)


class SeparatedOracle(TwoStep):
    """Of the separated talkers the one that is nearer to the target by SI-SDR: what a perfect choice would give."""

    facts = Facts(
        title="Separated source nearer to the target",
        licence="MIT",
        source=f"this suite; separator: {DPRNN_SOURCE}",
        uses_eeg=False,
        sees="target",
    )

    def extract_from(self, mixture: Tensor, eeg: Tensor, subject: Tensor, sources: Tensor) -> Tensor:
        """[B, 2, T], target first -> [B, T]."""
        talkers = self.separated(mixture)
        return picked(talkers, negative_si_sdr(sources[:, :1], talkers).argmin(1))


def separator_class(name: str) -> type[Separator]:
    """The blind separator of that name: the system ``<name>_separator``, whosoever installed it.

    Raises:
        BadInput: there is none, or it is not a ``masking.Separator`` (the message holds the nearest one).
    """
    found = system_class(name + SUFFIX) if name + SUFFIX in system_names() else None
    if found is None or not issubclass(found, Separator):
        raise unknown_name("two-step system", "separator", name, separator_names())
    return found


def separator_names() -> tuple[str, ...]:
    """Names of all separators that can be chosen. Loads them all: some separators of other kinds end the same way."""
    names = [name for name in system_names() if name.endswith(SUFFIX)]
    return tuple(name.removesuffix(SUFFIX) for name in names if issubclass(system_class(name), Separator))


def levelled(talkers: Tensor) -> Tensor:
    """Talkers [B, K, T], each brought to the level that the encoder learned at; what is silent stays silent.

    Trained by SI-SDR, a separator's outputs have any gain, which must not decide who is chosen.
    """
    return talkers * (LEVEL / loudness(talkers))


def picked(talkers: Tensor, chosen: Tensor) -> Tensor:
    """Of talkers [B, K, T] the one of each row's number [B], [B, T]."""
    return talkers[torch.arange(len(talkers), device=talkers.device), chosen]


def parted(state: dict[str, Tensor], prefix: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Tensors whose names begin with ``prefix``, without it, and the others."""
    own = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    return own, {name: tensor for name, tensor in state.items() if not name.startswith(prefix)}
