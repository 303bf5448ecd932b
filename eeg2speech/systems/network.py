"""Base class of every system that is a network: it brings ``fit``, ``state`` and device handling."""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from dataclasses import asdict, replace
from typing import Any, ClassVar

import torch
from pydantic import BaseModel
from torch import Tensor, nn

from eeg2speech.systems.interface import Context, System
from eeg2speech.training.adversary import Adversary
from eeg2speech.training.budget import Budget, RunOptions, Training
from eeg2speech.training.checkpoint import load_into
from eeg2speech.training.examples import Examples, Source
from eeg2speech.training.fit import Plan, fit_network


class NetworkSystem(System):
    """A system around one ``torch.nn.Module``. Derive, build the network, give ``loss`` and ``extract``."""

    plan: ClassVar[Plan]
    shares: ClassVar[bool] = False
    """Whether its training is kept where every system finds it that is built on the same network."""

    def __init__(self, context: Context, settings: BaseModel) -> None:
        super().__init__(context, settings)
        self.renew()

    def renew(self) -> None:
        """Begin anew, at random."""
        self.network = self.build()

    @abstractmethod
    def build(self) -> nn.Module:
        """The network, from ``self.context`` and ``self.settings``."""

    @abstractmethod
    def loss(self, batch: Any) -> dict[str, Tensor]:
        """Named scalar losses; ``loss`` is minimised."""

    def fit(self, train: Examples, valid: Examples, budget: Budget, options: RunOptions) -> Training:
        """Train on random windows, keep the weights of the best validation epoch."""
        with torch.random.fork_rng():
            # Initial weights depend on the run's seed alone, whatever was drawn before.
            torch.manual_seed(options.seed)
            self.renew()
        before = self.warm_start(train, valid, budget, options)
        learn, check = self.source(train), self.source(valid, learning=False)
        blind = not self.facts.uses_eeg and not self.facts.uses_subject
        identity = self._identity(learn, check, budget, options, blind and options.shared is not None)
        if options.shared is not None and (blind or self.shares):
            name = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
            options = replace(options, folder=options.shared / f"{type(self).__name__}-{name}")
        judges = self.adversary(budget)
        own = fit_network(self.network, self.loss, learn, check, self.plan, budget, options, identity, judges)
        return replace(own, steps=before.steps + own.steps, seconds=before.seconds + own.seconds)

    def source(self, examples: Examples, learning: bool = True) -> Source:
        """What is drawn from a part of the split; ``learning`` is False for the part that only watches."""
        return examples

    def adversary(self, budget: Budget) -> Adversary | None:
        """Judges that learn beside the network, for those that are trained adversarially."""
        return None

    def _identity(
        self, train: Source, valid: Source, budget: Budget, options: RunOptions, audio_only: bool
    ) -> dict[str, Any]:
        """Which training this is: a folder that holds another one is not gone on with."""
        keys = [part.audio_key if audio_only else part.key for part in (train, valid)]
        settings = self.settings.model_dump(mode="json")
        return self.recipe(budget) | {"settings": settings, "seed": options.seed, "data": keys}

    def recipe(self, budget: Budget) -> dict[str, Any]:
        """Class, version and plan, with the steps of this budget."""
        return super().recipe(budget) | {"plan": asdict(self.plan) | {"steps": self.plan.steps_for(budget)}}

    def warm_start(self, train: Examples, valid: Examples, budget: Budget, options: RunOptions) -> Training:
        """Bring ``self.network`` to where its training begins, where that is not at random. Counted in the training."""
        return Training.none()

    def stages(self) -> dict[str, list[nn.Module]]:
        """The network's own parts, by their names."""
        return parts_of(self.network)

    @property
    def parameters(self) -> int:
        """Number of learned values; buffers are not among them."""
        return sum(parameter.numel() for parameter in self.network.parameters())

    def state(self) -> dict[str, Tensor]:
        """The network's parameters and buffers."""
        return dict(self.network.state_dict())

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take up weights; refuses those of another network."""
        load_into(self.network, state, type(self).__name__)
        self.network.eval()


def parts_of(network: nn.Module) -> dict[str, list[nn.Module]]:
    """Children of a module, by their names; a list's members together; those of an only child in its place."""
    children = dict(network.named_children())
    if len(children) == 1:
        only = next(iter(children.values()))
        return parts_of(only) if len(list(only.children())) > 1 else {next(iter(children)): [only]}
    return {name: [*child] if isinstance(child, nn.ModuleList) else [child] for name, child in children.items()}
