"""Discriminators that train beside a network, and what the network hears from them."""

from __future__ import annotations

from torch import Tensor

from eeg2speech.models.discriminators import (
    Discriminators,
    adversarial_loss,
    discriminator_loss,
    feature_matching_loss,
)


class Adversary:
    """Judges of a network's waves, from a stated step on.

    ``fit_network`` tells it the step, asks it for its own loss after each of the network's, and steps its optimiser.

    Args:
        judges: the discriminators. start: the first step at which they are heard. learning_rate: theirs.
    """

    def __init__(self, judges: Discriminators, start: int, learning_rate: float = 2e-4) -> None:
        self.judges, self.start, self.learning_rate = judges, start, learning_rate
        self.step = 0
        self._waves: tuple[Tensor, Tensor] | None = None

    @property
    def heard(self) -> bool:
        """Whether the step has come."""
        return self.step >= self.start

    def losses(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """What the network minimises, from waves [B, T]: ``adversarial`` and ``feature_matching``."""
        self._waves = real.detach(), fake.detach()
        self.judges.requires_grad_(False)
        seen, found = self.judges(real), self.judges(fake)
        self.judges.requires_grad_(True)
        return {"adversarial": adversarial_loss(found), "feature_matching": feature_matching_loss(seen, found)}

    def own_loss(self) -> Tensor | None:
        """What the judges minimise, for the waves they were last asked about; None when they were not asked."""
        if self._waves is None:
            return None
        real, fake = self._waves
        self._waves = None
        return discriminator_loss(self.judges(real), self.judges(fake))
