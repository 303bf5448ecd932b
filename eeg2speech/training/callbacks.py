"""What surrounds a Lightning run so that it can be killed at any moment and goes on to the same end."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import lightning as L
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback, Checkpoint, EarlyStopping


class AtomicIO(TorchCheckpointIO):
    """Checkpoints appear by rename: one that is there is whole."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write beside ``path``, then rename."""
        partial = Path(f"{path}.{os.getpid()}.tmp")
        super().save_checkpoint(checkpoint, partial, storage_options)
        partial.replace(path)


class LastCheckpoint(Checkpoint):
    """Writes the checkpoint to resume from when an epoch, its validation included, is over.

    Lightning calls checkpoint callbacks after all others, so what is saved includes early stopping's verdict.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Save on all ranks; Lightning writes on one."""
        trainer.save_checkpoint(self.path)


class StayStopped(Callback):
    """A run that was killed after early stopping had decided does not train on when it is resumed."""

    def __init__(self, stop: EarlyStopping) -> None:
        self.stop = stop

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Lightning restores how long early stopping has waited, not that it had decided."""
        trainer.should_stop = self.stop.wait_count >= self.stop.patience


class Clock(Callback):
    """Adds up training time over interruptions, in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.before = float(json.loads(path.read_text())) if path.exists() else 0.0
        self.began = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds of training so far, those of earlier attempts included."""
        return self.before + time.perf_counter() - self.began

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Note the time on one rank."""
        if trainer.is_global_zero:
            partial = self.path.with_suffix(f".{os.getpid()}.tmp")
            partial.write_text(json.dumps(self.seconds))
            partial.replace(self.path)
