"""Trained systems on disk: train one, or take up one that was trained before."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eeg2speech.data.store import Store
from eeg2speech.errors import BadInput
from eeg2speech.evaluation.conditions import context_of, examples_of
from eeg2speech.evaluation.protocol import Protocol
from eeg2speech.splits.manifest import Split
from eeg2speech.systems.conditions import Conditions
from eeg2speech.systems.interface import Context, System
from eeg2speech.systems.registry import Declaration, build, declare, system_class
from eeg2speech.training.budget import Budget, RunOptions, Training
from eeg2speech.training.checkpoint import load_weights, require_match, save_weights, state_hash

SHIPPED = Path(__file__).parent.parent / "assets" / "checkpoints"
"""Demo weights behind the committed records: ``<study>/<split>/<system>.safetensors``."""


@dataclass(frozen=True)
class Trained:
    """A system ready to answer, what its training was, the hash of its checkpoint (None if it has none), and the
    conditions under which it learned and is to be asked."""

    system: System
    training: Training
    checkpoint_hash: str | None
    conditions: Conditions = Conditions()


def train(
    declaration: Declaration, store: Store, split: Split, protocol: Protocol, budget: Budget, options: RunOptions
) -> Trained:
    """Train a system on a split, or load it when ``options.folder`` holds this very training, finished.

    Writes ``options.folder/system.safetensors`` in half precision and answers with what it reads back: a record's
    weights are those that can be shipped, to the bit. An interrupted training goes on where it stopped.

    Raises:
        BadInput: the folder holds another training (other settings, data, split, seed or budget).
    """
    path, conditions = options.folder / "system.safetensors", declaration.conditions
    conditions.require_task(protocol.task, f"system {declaration.label!r}")
    system = build(declaration, context_of(conditions, store, protocol))
    allowed = Budget(budget.name, declaration.steps or budget.steps)
    origin = _origin(system, store, split, allowed, options)
    if not path.exists():
        learn, check = examples_of(conditions, store, split, protocol)
        training = system.fit(learn, check, allowed, options)
        told = conditions.told()
        given: dict[str, Any] = {"conditions": told} if told else {}
        about = _belongs(system, declaration) | _described(system) | given | origin | {"training": training.as_dict()}
        save_weights(path, system.state(), about, half=True)
    return load(path, declaration, store, protocol, origin)


def load(
    path: Path, declaration: Declaration, store: Store, protocol: Protocol, origin: dict[str, Any] | None = None
) -> Trained:
    """Take up a checkpoint.

    Raises:
        BadInput: it is another system's, has other settings, or was made for other sensors, rates, subjects or
            conditions; with ``origin``, also when it comes from another training.
    """
    state, about = load_weights(path)
    conditions = declaration.conditions
    system = build(declaration, context_of(conditions, store, protocol))
    # Where there are none, nothing was written.
    given = {"conditions": conditions.told() or None}
    require_match(path, about, given | _belongs(system, declaration) | (origin or {}))
    system.load_state(state)
    return Trained(system, Training(**about["training"]), state_hash(state) if state else None, conditions)


def shipped(system: str, study: str, split: str) -> Path:
    """Path of the weights that come with the package. Raises BadInput when there are none for this study and split."""
    path = SHIPPED / study / split / f"{system}.safetensors"
    if not path.exists():
        known = sorted(str(p.relative_to(SHIPPED).with_suffix("")) for p in SHIPPED.glob("*/*/*.safetensors"))
        found = f"none for {study}/{split}/{system} (train it, or name a checkpoint)"
        raise BadInput(SHIPPED.name, "checkpoint", f"one of {', '.join(known) or 'none'}", found)
    return path


@dataclass(frozen=True)
class TakenUp:
    """A registered system, ready to answer, with the declaration, budget and seed of its training."""

    trained: Trained
    declaration: Declaration
    budget: str = ""
    seed: int = 0


def taken_up(
    name: str,
    store: Store,
    split: Split,
    protocol: Protocol,
    checkpoint: Path | str | None = None,
    any_split: bool = False,
) -> TakenUp:
    """A registered system: built where it has nothing to learn, else with the checkpoint's settings and weights.

    Args:
        checkpoint: a safetensors file; the weights that come with the package if None.
        any_split: take weights that were trained on other data or another split.

    Raises:
        BadInput: no weights for this study and split, weights of another system, or, unless told, of other data.
    """
    if checkpoint is None and system_class(name).fit is System.fit:
        plain = declare(name)
        built = build(plain, Context.of(store, protocol.segment_seconds))
        return TakenUp(Trained(built, Training.none(), None), plain)
    path = Path(checkpoint) if checkpoint else shipped(name, store.facts.name, split.kind)
    about = load_weights(path)[1]
    require_match(path, about, {"system": name})
    if not any_split:
        _require_this_split(path, about, store, split)
    budget, steps = about["budget"]
    given = {"settings": about["settings"], "steps": steps, "conditions": about.get("conditions", {})}
    declaration = declare({"system": name} | given, path)
    return TakenUp(load(path, declaration, store, protocol), declaration, budget, about["seed"])


def _require_this_split(path: Path, about: dict[str, Any], store: Store, split: Split) -> None:
    """Refuse weights of another study, revision or manifest: what is test here may have been training there."""
    here = {"study": store.facts.name, "revision": store.index.revision, "split": split.hash}
    for field, value in here.items():
        if about.get(field) != value:
            cure = "train on this study and split, or allow_other_split=True (--allow-other-split) if none of them was"
            found = f"{about.get(field)!r}: its training may have held the trials that are scored; {cure}"
            raise BadInput(path, field, f"{value!r}, which is scored", found)


def ship(source: Path, limit_mb: float = 5.0) -> Path:
    """Put a ``system.safetensors`` into the package. Raises BadInput above the size that may be shipped, or for weights
    under conditions: those that come with the package are asked without."""
    about = load_weights(source)[1]
    if "conditions" in about:
        raise BadInput(source, "conditions", "none, to be shipped", about["conditions"])
    megabytes = source.stat().st_size / 1e6
    if megabytes > limit_mb:
        raise BadInput(source, "size", f"at most {limit_mb} MB", f"{megabytes:.2f} MB")
    path: Path = SHIPPED / about["study"] / about["split_kind"] / f"{about['system']}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, path)
    return path


def _belongs(system: System, declaration: Declaration) -> dict[str, Any]:
    """What a checkpoint must share with whoever loads it."""
    context = system.context
    return {
        "system": declaration.system,
        "settings": system.settings.model_dump(mode="json"),
        "audio_rate": context.audio_rate,
        "eeg_rate": context.eeg_rate,
        "sensors": list(context.sensors.names),
        "subjects": list(context.subjects),
    }


def _described(system: System) -> dict[str, Any]:
    """What it takes, beside that, to build the system again without its study. Older checkpoints have it not."""
    context = system.context
    return {"positions": context.sensors.positions, "segment_seconds": context.segment_seconds}


def _origin(system: System, store: Store, split: Split, budget: Budget, options: RunOptions) -> dict[str, Any]:
    """What a checkpoint comes from."""
    origin = {
        "study": store.facts.name,
        "revision": store.index.revision,
        "split": split.hash,
        "split_kind": split.kind,
        "budget": [budget.name, budget.steps],
        "recipe": system.recipe(budget),
        "seed": options.seed,
    }
    plain: dict[str, Any] = json.loads(json.dumps(origin))
    return plain
