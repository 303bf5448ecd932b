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
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from filelock import FileLock
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback, Checkpoint, EarlyStopping, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader

from eeg2speech.data.types import Segment
from eeg2speech.training.budget import Budget, RunOptions, Training
from eeg2speech.training.checkpoint import load_weights, save_weights
from eeg2speech.training.examples import Batch, Examples

Loss = Callable[[Batch], dict[str, Tensor]]
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
    network: nn.Module, loss: Loss, train: Examples, valid: Examples, plan: Plan, budget: Budget, options: RunOptions
) -> Training:
    """Train ``network`` in place and leave the weights of its best validation epoch in it.

    ``options.folder`` holds the checkpoints, the TensorBoard log and, at the end, ``weights.safetensors``; a call that
    finds this file loads it and trains nothing.
    """
    options.folder.mkdir(parents=True, exist_ok=True)
    # Two processes may want the same network (one without EEG serves several studies); the second waits.
    with FileLock(options.folder / "lock"):
        done = options.folder / "weights.safetensors"
        if done.exists():
            state, about = load_weights(done)
            network.load_state_dict(state)
            return Training(**about["training"])
        training = _train(network, loss, train, valid, plan, budget, options)
        save_weights(done, network.state_dict(), {"training": training.as_dict()})
        return training


def _train(
    network: nn.Module, loss: Loss, train: Examples, valid: Examples, plan: Plan, budget: Budget, options: RunOptions
) -> Training:
    steps = plan.steps_for(budget)
    task = _Task(network, loss, plan, steps)
    clock = _Clock(options.folder / "seconds.json")
    best = ModelCheckpoint(
        options.folder, "best", monitor="valid/loss", save_weights_only=True, enable_version_counter=False
    )
    trainer = _trainer(plan, steps, options, [best, _Last(options.folder / "last.ckpt"), clock])
    trainer.fit(task, datamodule=_Epochs(train, valid, plan, steps, options), ckpt_path=_resume_point(options.folder))
    return _finish(network, task, trainer, clock, budget, best.best_model_path)


def native_bf16() -> bool:
    """Whether this machine multiplies bfloat16 in hardware: recent GPUs, and CPUs with AMX."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cpu._is_amx_tile_supported())


class _Task(L.LightningModule):
    def __init__(self, network: nn.Module, loss: Loss, plan: Plan, steps: int) -> None:
        super().__init__()
        self.network, self.compute_loss, self.plan, self.steps = network, loss, plan, steps
        self.curve: list[dict[str, float]] = []

    def training_step(self, batch: Batch, index: int) -> Tensor:
        losses = self.compute_loss(batch)
        self.log_dict(
            {f"train/{name}": value for name, value in losses.items()}, prog_bar=True, batch_size=len(batch.mixture)
        )
        return losses["loss"]

    def validation_step(self, batch: Batch, index: int) -> None:
        losses = {f"valid/{name}": value for name, value in self.compute_loss(batch).items()}
        self.log_dict(losses, prog_bar=True, on_epoch=True, batch_size=len(batch.mixture), sync_dist=True)

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
        optimizer = torch.optim.AdamW(self.network.parameters(), lr=plan.learning_rate, weight_decay=plan.weight_decay)
        warm = max(1, round(plan.warmup * self.steps))
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(
            optimizer, max(1, self.steps - warm), plan.learning_rate / 50
        )
        linear = torch.optim.lr_scheduler.LinearLR(optimizer, 1 / warm, 1.0, warm)
        schedule = torch.optim.lr_scheduler.SequentialLR(optimizer, [linear, cosine], [warm])
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class _Epochs(L.LightningDataModule):
    """Fresh windows for each epoch, the same windows for every validation."""

    def __init__(self, train: Examples, valid: Examples, plan: Plan, steps: int, options: RunOptions) -> None:
        super().__init__()
        self.train, self.valid, self.plan, self.steps, self.options = train, valid, plan, steps, options

    def train_dataloader(self) -> DataLoader[Any]:
        assert self.trainer is not None
        plan, epoch = self.plan, self.trainer.current_epoch
        # The last epoch is as short as the budget asks, so that it, too, ends with a validation.
        count = plan.batch * min(plan.epoch_steps, max(1, self.steps - epoch * plan.epoch_steps))
        segments = self.train.random(plan.segment_seconds, count, self.options.seed, epoch)
        return self._loader(self.train, segments)

    def val_dataloader(self) -> DataLoader[Any]:
        return self._loader(self.valid, self.valid.fixed(self.plan.segment_seconds, self.plan.valid_segments))

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, index: int) -> Batch:
        return batch.to(device)

    def _loader(self, examples: Examples, segments: list[Segment]) -> DataLoader[Any]:
        return examples.loader(segments, self.plan.batch, self.options.workers)


class _AtomicIO(TorchCheckpointIO):
    """Checkpoints appear by rename: one that is there is whole."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        partial = Path(f"{path}.{os.getpid()}.tmp")
        super().save_checkpoint(checkpoint, partial, storage_options)
        partial.replace(path)


class _Last(Checkpoint):
    """Writes the checkpoint to resume from when an epoch, its validation included, is over.

    Lightning calls checkpoint callbacks after all others, so what is saved includes early stopping's verdict.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        trainer.save_checkpoint(self.path)


class _Clock(Callback):
    """Adds up training time over interruptions."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.before = float(json.loads(path.read_text())) if path.exists() else 0.0
        self.began = time.perf_counter()

    @property
    def seconds(self) -> float:
        return self.before + time.perf_counter() - self.began

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        partial = self.path.with_suffix(".tmp")
        partial.write_text(json.dumps(self.seconds))
        partial.replace(self.path)


def _trainer(plan: Plan, steps: int, options: RunOptions, callbacks: list[Callback]) -> L.Trainer:
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
        precision = "bf16-mixed" if native_bf16() else "32-true"
    return L.Trainer(
        accelerator=options.device,
        devices=options.devices,
        precision=precision,
        # Epochs, not max_steps: Lightning resumes a run that counts steps as if its last epoch had not ended.
        max_epochs=math.ceil(steps / plan.epoch_steps),
        gradient_clip_val=plan.clip,
        reload_dataloaders_every_n_epochs=1,
        num_sanity_val_steps=0,
        log_every_n_steps=10,
        enable_progress_bar=options.progress,
        enable_model_summary=False,
        default_root_dir=options.folder,
        logger=TensorBoardLogger(options.folder, name="log", version=""),
        callbacks=[stop, *callbacks, *bar],
        plugins=[_AtomicIO()],
    )


def _resume_point(folder: Path) -> Path | None:
    path = folder / "last.ckpt"
    return path if path.exists() else None


def _finish(network: nn.Module, task: _Task, trainer: L.Trainer, clock: _Clock, budget: Budget, best: str) -> Training:
    if best:
        weights = torch.load(best, map_location="cpu", weights_only=True)["state_dict"]
        network.load_state_dict({name.removeprefix("network."): tensor for name, tensor in weights.items()})
    network.cpu().eval()
    valid = min((point["valid/loss"] for point in task.curve), default=None)
    device = f"{trainer.strategy.root_device.type}, {trainer.precision}"
    return Training(budget.name, trainer.global_step, round(clock.seconds, 1), device, valid, task.curve)
