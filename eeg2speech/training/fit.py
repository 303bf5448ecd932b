"""The one fit function of every network: Lightning, early stopping on valid, resume that ends in the same weights.

An epoch is a fixed number of steps on freshly drawn windows. What is drawn depends on seed and epoch alone, checkpoints
are written (by rename) when an epoch ends, and a run that was killed goes on from the last of them; the epoch it was in
is done again from its beginning. A resumed run therefore sees what an undisturbed one would have seen.
"""

from __future__ import annotations

import json
import logging
import math
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from filelock import FileLock
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader

from eeg2speech.errors import BadInput
from eeg2speech.training.adversary import Adversary
from eeg2speech.training.allocator import keep_freed_memory
from eeg2speech.training.budget import Budget, RunOptions, Training
from eeg2speech.training.callbacks import AtomicIO, Clock, LastCheckpoint, StayStopped
from eeg2speech.training.checkpoint import load_weights, save_weights
from eeg2speech.training.examples import Batch, Source
from eeg2speech.training.optimiser import adamw

Loss = Callable[[Any], dict[str, Tensor]]
"""Batch to named losses; ``loss`` is minimised, the others are logged."""


@dataclass(frozen=True)
class Plan:
    """How a network is trained. ``steps`` by budget name; ``patience`` in epochs of ``epoch_steps``; rates of AdamW."""

    steps: dict[str, int]
    batch: int = 6
    segment_seconds: float = 4.0
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    warmup: float = 0.05
    clip: float = 5.0
    epoch_steps: int = 100
    patience: int = 25
    valid_segments: int = 96

    def steps_for(self, budget: Budget) -> int:
        """Optimiser steps of a budget."""
        return budget.steps if budget.steps is not None else self.steps[budget.name]


def fit_network(
    network: nn.Module,
    loss: Loss,
    train: Source,
    valid: Source,
    plan: Plan,
    budget: Budget,
    options: RunOptions,
    identity: dict[str, Any],
    adversary: Adversary | None = None,
) -> Training:
    """Train ``network`` in place and leave the weights of its best validation epoch in it.

    ``options.folder`` holds the checkpoints, the TensorBoard log and, at the end, ``weights.safetensors``; a call that
    finds this file loads it and trains nothing. ``identity`` says in plain data which training this is. The judges of
    an ``adversary`` learn beside the network; they are kept in its checkpoints, and are gone when it is done.

    Raises:
        BadInput: the folder holds another training, or judges are to learn on several devices.
    """
    if adversary is not None and options.devices > 1:
        raise BadInput("training", "devices", "1 with discriminators (lambda_adv 0: any)", options.devices)
    keep_freed_memory()
    options.folder.mkdir(parents=True, exist_ok=True)
    # Two processes may want the same network (one without EEG serves several studies); the second waits.
    with FileLock(options.folder / "lock"):
        _claim(options.folder / "identity.json", identity)
        done = options.folder / "weights.safetensors"
        if done.exists():
            state, about = load_weights(done)
            network.load_state_dict(state)
            network.eval()
            return Training(**about["training"])
        with torch.random.fork_rng():
            training = _train(network, loss, train, valid, plan, budget, options, adversary)
        save_weights(done, network.state_dict(), {"training": training.as_dict()})
        return training


def _claim(path: Path, identity: dict[str, Any]) -> None:
    """Note whose folder this is, or refuse it when it is another training's."""
    plain = json.loads(json.dumps(identity))
    if not path.exists():
        partial = path.with_suffix(f".{os.getpid()}.tmp")
        partial.write_text(json.dumps(plain, indent=1, sort_keys=True))
        partial.replace(path)
    found = json.loads(path.read_text())
    for field in sorted(plain.keys() | found.keys()):
        if plain.get(field) != found.get(field):
            raise BadInput(path, field, f"{plain.get(field)} (or another folder)", found.get(field))


def _train(
    network: nn.Module,
    loss: Loss,
    train: Source,
    valid: Source,
    plan: Plan,
    budget: Budget,
    options: RunOptions,
    adversary: Adversary | None,
) -> Training:
    steps = plan.steps_for(budget)
    task = _Task(network, loss, plan, steps, options.seed)
    if adversary is not None:
        task = _AdversarialTask(network, loss, plan, steps, options.seed, adversary)
    clock = Clock(options.folder / "seconds.json")
    last = options.folder / "last.ckpt"
    best = ModelCheckpoint(
        options.folder, "best", monitor="valid/loss", save_weights_only=True, enable_version_counter=False
    )
    trainer = _trainer(plan, steps, options, [best, LastCheckpoint(last), clock], clip=task.automatic_optimization)
    epochs = _Epochs(train, valid, plan, steps, options)
    trainer.fit(task, datamodule=epochs, ckpt_path=last if last.exists() else None)
    device = f"{trainer.strategy.root_device.type}, {trainer.precision}"
    return _finish(network, options.folder, budget, device, clock.seconds)


def _finish(network: nn.Module, folder: Path, budget: Budget, device: str, seconds: float) -> Training:
    """Take up the best weights and tell what the training was; both are read back, since processes may have trained."""
    last, best = (torch.load(folder / f"{name}.ckpt", "cpu", weights_only=True) for name in ("last", "best"))
    own = {name: tensor for name, tensor in best["state_dict"].items() if name.startswith("network.")}
    network.cpu().load_state_dict({name.removeprefix("network."): tensor for name, tensor in own.items()})
    network.eval()
    curve = last["curve"]
    valid = min(point["valid/loss"] for point in curve)
    return Training(budget.name, int(last["global_step"]), round(seconds, 1), device, valid, curve)


def native_bf16(device: str = "auto") -> bool:
    """Whether a device multiplies bfloat16 in hardware: recent GPUs, and CPUs with AMX."""
    if device in ("auto", "cuda", "gpu") and torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cpu._is_amx_tile_supported())


class _Task(L.LightningModule):
    def __init__(self, network: nn.Module, loss: Loss, plan: Plan, steps: int, seed: int) -> None:
        super().__init__()
        self.network, self.compute_loss, self.plan, self.steps, self.seed = network, loss, plan, steps, seed
        self.curve: list[dict[str, float]] = []

    def training_step(self, batch: Batch, index: int) -> Tensor:
        # What a network draws (dropout, noise) depends on seed, step and device alone: a resumed run draws the same.
        torch.manual_seed(((self.seed << 24) + self.global_step) * self.trainer.world_size + self.global_rank)
        losses = self.compute_loss(batch)
        self.log_dict({f"train/{name}": value for name, value in losses.items()}, prog_bar=True, batch_size=len(batch))
        return losses["loss"]

    def validation_step(self, batch: Batch, index: int) -> None:
        losses = {f"valid/{name}": value for name, value in self.compute_loss(batch).items()}
        self.log_dict(losses, prog_bar=True, on_epoch=True, batch_size=len(batch), sync_dist=True)

    def on_validation_epoch_end(self) -> None:
        if not self.trainer.sanity_checking:
            metrics = {k: float(v) for k, v in self.trainer.callback_metrics.items() if k.startswith("valid/")}
            self.curve.append({"step": float(self.global_step)} | metrics)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["curve"] = self.curve

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.curve = list(checkpoint["curve"])

    def configure_optimizers(self) -> Any:
        plan = self.plan
        optimizer = adamw(self.network.parameters(), plan.learning_rate, plan.weight_decay)
        warm = max(1, round(plan.warmup * self.steps))
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(
            optimizer, max(1, self.steps - warm), plan.learning_rate / 50
        )
        linear = torch.optim.lr_scheduler.LinearLR(optimizer, 1 / warm, 1.0, warm)
        schedule = torch.optim.lr_scheduler.SequentialLR(optimizer, [linear, cosine], [warm])
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class _AdversarialTask(_Task):
    """Two optimisers, in turn: the network's, with its schedule, and the judges'.

    Lightning counts the steps of every optimiser it knows of; the judges' is stepped past it, so that a step stays a
    step.
    """

    def __init__(self, network: nn.Module, loss: Loss, plan: Plan, steps: int, seed: int, adversary: Adversary) -> None:
        super().__init__(network, loss, plan, steps, seed)
        self.automatic_optimization = False
        self.adversary, self.judges = adversary, adversary.judges

    def training_step(self, batch: Batch, index: int) -> Tensor:
        self.adversary.step = self.global_step
        loss = super().training_step(batch, index)
        optimizers: Any = self.optimizers()
        schedule: Any = self.lr_schedulers()
        network, judges = optimizers
        network.zero_grad()
        self.manual_backward(loss)
        nn.utils.clip_grad_norm_(self.network.parameters(), self.plan.clip)
        network.step()
        schedule.step()
        own = self.adversary.own_loss()
        if own is not None:
            judges.zero_grad()
            self.manual_backward(own)
            nn.utils.clip_grad_norm_(self.judges.parameters(), self.plan.clip)
            judges.optimizer.step()
            self.log("train/judges", own, prog_bar=True, batch_size=len(batch))
        return loss

    def configure_optimizers(self) -> Any:
        network = super().configure_optimizers()
        judges = adamw(self.judges.parameters(), self.adversary.learning_rate, betas=(0.8, 0.99))
        return [network["optimizer"], judges], [network["lr_scheduler"]]


class _Epochs(L.LightningDataModule):
    """Fresh windows for each epoch, the same windows for every validation."""

    def __init__(self, train: Source, valid: Source, plan: Plan, steps: int, options: RunOptions) -> None:
        super().__init__()
        self.train, self.valid, self.plan, self.steps, self.options = train, valid, plan, steps, options

    def train_dataloader(self) -> DataLoader[Any]:
        assert self.trainer is not None
        plan, epoch = self.plan, self.trainer.current_epoch
        # The last epoch is as short as the budget asks, so that it, too, ends with a validation.
        # Several devices share a step: each takes a batch of its own.
        steps = min(plan.epoch_steps, max(1, self.steps - epoch * plan.epoch_steps))
        count = plan.batch * steps * self.trainer.world_size
        segments = self.train.random(plan.segment_seconds, count, self.options.seed, epoch)
        return self._loader(self.train, segments)

    def val_dataloader(self) -> DataLoader[Any]:
        return self._loader(self.valid, self.valid.fixed(self.plan.segment_seconds, self.plan.valid_segments))

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, index: int) -> Batch:
        return batch.to(device)

    def _loader(self, examples: Source, segments: Sequence[Any]) -> DataLoader[Any]:
        return examples.loader(segments, self.plan.batch, self.options.workers)


def _trainer(plan: Plan, steps: int, options: RunOptions, callbacks: list[Callback], clip: bool) -> L.Trainer:
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    # Batches are read from memory maps in the main process unless workers are asked for: a choice, not an oversight.
    for message in (
        "does not have many workers",
        "exists and is not empty",
        "LeafSpec",
        "smaller than the logging interval",
    ):
        warnings.filterwarnings("ignore", f".*{message}.*")
    stop = EarlyStopping("valid/loss", patience=plan.patience, check_finite=True)
    bar: list[Callback] = [TQDMProgressBar(refresh_rate=10)] if options.progress else []
    precision: Any = options.precision
    if precision == "auto":
        precision = "bf16-mixed" if native_bf16(options.device) else "32-true"
    return L.Trainer(
        accelerator=options.device,
        devices=options.devices,
        # Spawned processes end with the fit, so that what follows a training runs once.
        strategy="ddp_spawn" if options.devices > 1 else "auto",
        precision=precision,
        # Epochs, not max_steps: Lightning resumes a run that counts steps as if its last epoch had not ended.
        max_epochs=math.ceil(steps / plan.epoch_steps),
        # A task that steps its optimisers itself clips by itself.
        gradient_clip_val=plan.clip if clip else None,
        reload_dataloaders_every_n_epochs=1,
        num_sanity_val_steps=0,
        log_every_n_steps=10,
        enable_progress_bar=options.progress,
        enable_model_summary=False,
        default_root_dir=options.folder,
        logger=TensorBoardLogger(options.folder, name="log", version=""),
        callbacks=[stop, StayStopped(stop), *callbacks, *bar],
        plugins=[AtomicIO()],
    )
