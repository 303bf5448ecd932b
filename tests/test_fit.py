"""Training: the same seed gives the same weights, and a run that was killed ends where an undisturbed one does."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from eeg2speech_baselines.dprnn import Dprnn, DprnnBlind, ExtractionSettings
from torch import nn

from eeg2speech.data import Store
from eeg2speech.data.mixing import Mixer
from eeg2speech.errors import BadInput
from eeg2speech.splits import make_split
from eeg2speech.systems.interface import Context
from eeg2speech.training.budget import Budget, RunOptions, Training
from eeg2speech.training.checkpoint import load_weights
from eeg2speech.training.examples import Examples
from eeg2speech.training.fit import Plan

PLAN = Plan(steps={"demo": 6}, batch=2, segment_seconds=1.0, epoch_steps=2, valid_segments=2)


class Small(Dprnn):
    """With dropout: what is drawn in training must come out the same after a kill. From scratch, to be quick."""

    plan = PLAN

    def build(self) -> nn.Module:
        network = super().build()
        network.bottleneck.append(nn.Dropout(0.2))  # type: ignore[union-attr]
        return network

    def warm_start(self, *_: object) -> Training:
        return Training.none()


class Stubborn(Small):
    """Learns nothing, so that early stopping ends it."""

    plan = replace(PLAN, learning_rate=0.0, patience=1)


class SmallBlind(DprnnBlind):
    plan = PLAN

    def warm_start(self, *_: object) -> Training:
        return Training.none()


def fit(store: Store, folder: Path, cls: type = Small, seed: int = 0, shared: Path | None = None, steps: int = 6):
    split = make_split(store.index, "trial")
    train, valid = (Examples(store, split.parts[part], Mixer(store)) for part in ("train", "valid"))
    system = cls(Context.of(store, 4.0), ExtractionSettings())
    training = system.fit(
        train, valid, Budget(steps=steps), RunOptions(folder, shared, seed, "cpu", precision="32-true", progress=False)
    )
    return system, training


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_the_seed_decides_the_weights_and_nothing_else_does(store: Store, tmp_path: Path) -> None:
    first, training = fit(store, tmp_path / "a")
    torch.rand(3)
    again, _ = fit(store, tmp_path / "b")
    other, _ = fit(store, tmp_path / "c", seed=1)
    assert same(first.state(), again.state()) and not same(first.state(), other.state())
    assert training.steps == 6 and [point["step"] for point in training.curve] == [2.0, 4.0, 6.0]
    assert training.valid_loss == min(point["valid/loss"] for point in training.curve)


def test_a_budget_that_is_no_multiple_of_an_epoch_ends_with_a_validation(store: Store, tmp_path: Path) -> None:
    _, training = fit(store, tmp_path, steps=3)
    assert training.steps == 3 and [point["step"] for point in training.curve] == [2.0, 3.0]


def test_a_killed_training_ends_in_the_same_weights(store: Store, tmp_path: Path) -> None:
    calm, expected = fit(store, tmp_path / "calm")
    folder = tmp_path / "killed"
    for wanted in (1, 2):
        child = os.fork()
        if child == 0:
            fit(store, folder)
            os._exit(0)
        wait_for_epoch(folder / "last.ckpt", wanted, child)
        os.kill(child, signal.SIGKILL)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        assert (folder / "last.ckpt").exists() and not (folder / "weights.safetensors").exists()
    resumed, training = fit(store, folder)
    assert same(resumed.state(), calm.state())
    assert (training.steps, training.curve) == (expected.steps, expected.curve)
    assert not list(folder.rglob("*.tmp"))


def wait_for_epoch(path: Path, epoch: int, child: int, seconds: float = 120.0) -> None:
    """Until the checkpoint to resume from has been written ``epoch`` times in this run."""
    seen, last, until = 0, path.stat().st_mtime_ns if path.exists() else 0, time.monotonic() + seconds
    while seen < epoch:
        assert time.monotonic() < until and os.waitpid(child, os.WNOHANG) == (0, 0)
        if path.exists() and path.stat().st_mtime_ns != last:
            seen, last = seen + 1, path.stat().st_mtime_ns
        time.sleep(0.005)


def test_a_training_that_had_stopped_early_does_not_go_on_when_resumed(store: Store, tmp_path: Path) -> None:
    calm, training = fit(store, tmp_path, Stubborn)
    assert training.steps == 4
    (tmp_path / "weights.safetensors").unlink()
    resumed, again = fit(store, tmp_path, Stubborn)
    assert (again.steps, again.curve) == (training.steps, training.curve) and same(calm.state(), resumed.state())


def test_a_folder_of_another_training_is_refused(store: Store, tmp_path: Path) -> None:
    fit(store, tmp_path)
    with pytest.raises(BadInput, match="seed: expected 1 .or another folder., found 0"):
        fit(store, tmp_path, seed=1)
    with pytest.raises(BadInput, match="plan: expected"):
        fit(store, tmp_path, steps=4)
    with pytest.raises(BadInput, match="class: expected"):
        fit(store, tmp_path, SmallBlind)


@pytest.mark.slow
def test_two_devices_train_together(small_root: Path, tmp_path: Path) -> None:
    """On the CPU, in a process of its own: two ranks of gloo."""
    words = ["train", "dprnn_separator", "--study", str(small_root), "--split", "trial", "--steps", "2"]
    words += ["--device", "cpu", "--devices", "2", "--precision", "32-true", "--out", str(tmp_path)]
    done = subprocess.run([sys.executable, "-m", "eeg2speech.cli", *words], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    about = load_weights(next(tmp_path.rglob("system.safetensors")))[1]
    assert about["training"]["steps"] == 2 and len(about["training"]["curve"]) == 1


def test_a_finished_training_is_loaded_not_done_again(store: Store, tmp_path: Path) -> None:
    first, training = fit(store, tmp_path)
    stamp = (tmp_path / "weights.safetensors").stat().st_mtime_ns
    again, same_training = fit(store, tmp_path)
    assert same(first.state(), again.state()) and training == same_training
    assert (tmp_path / "weights.safetensors").stat().st_mtime_ns == stamp


def test_networks_without_eeg_are_shared_by_what_they_heard(store: Store, tmp_path: Path) -> None:
    fit(store, tmp_path / "a", SmallBlind, shared=tmp_path / "shared")
    fit(store, tmp_path / "b", SmallBlind, shared=tmp_path / "shared")
    assert len(list((tmp_path / "shared").iterdir())) == 1
    fit(store, tmp_path / "c", SmallBlind, seed=1, shared=tmp_path / "shared")
    assert len(list((tmp_path / "shared").iterdir())) == 2


def test_tensorboard_holds_the_curve(store: Store, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    _, training = fit(store, tmp_path)
    log = EventAccumulator(str(tmp_path / "log"))
    log.Reload()
    values = [event.value for event in log.Scalars("valid/loss")]
    assert values == pytest.approx([point["valid/loss"] for point in training.curve], rel=1e-5)


def test_an_unknown_budget_is_refused() -> None:
    with pytest.raises(BadInput, match="did you mean 'demo'"):
        Budget("demos")  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="steps: expected at least 1, found 0"):
        Budget(steps=0)
