"""The profile of a system, whole: from the command to the record and the page."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from eeg2speech.cli import app
from eeg2speech.errors import BadInput
from eeg2speech.profiling.cases import answering
from eeg2speech.profiling.growth import axes_of, grown
from eeg2speech.profiling.profile import Wishes, profile
from eeg2speech.profiling.ready import ready
from eeg2speech.profiling.rounds import Effort
from eeg2speech.profiling.workload import Way, question_of
from eeg2speech.records.latency import LatencyStore
from eeg2speech.systems.interface import Task
from eeg2speech.systems.registry import declare

CPU, HASTE = torch.device("cpu"), Effort(seconds=0.0, least=1, warm=0)
QUICK = Wishes("short", compiled=False, effort=HASTE, stream=0.64, window=0.4, busy=True)


def test_a_system_with_a_stream_has_stages_chunks_and_shipped_weights() -> None:
    found = profile(declare("neurocodec"), wishes=QUICK)
    assert (found.label, found.task, found.weights, found.causal) == ("neurocodec", "extraction", "shipped", True)
    assert found.electrodes == 64 and found.device == "cpu" and found.parameters > 1_000_000
    assert [stream.chunk for stream in found.streams] == [0.01, 0.02, 0.04, 0.08, 0.16]
    assert all(stream.paced and stream.how == "chunks" for stream in found.streams)
    stages = {stage.name: stage for stage in found.stages}
    assert [*stages] == ["codec encoder", "EEG encoder", "decoder (attention, Mamba)", "codec decoder", "the rest"]
    assert all(stage.seconds > 0 for stage in found.stages)
    assert found.standard.macs and len(found.conditions) == 2 and found.code.version


def test_the_steps_of_a_diffusion_are_counted() -> None:
    declaration = declare({"system": "eeg2speech_blind", "settings": {"steps": 3}})
    found = profile(declaration, wishes=QUICK)
    calls = {stage.name: stage.calls for stage in found.stages}
    assert calls["U-Net"] == 3 and calls["vocoder"] == 1 and found.task == "generation" and not found.streams


@pytest.mark.parametrize(
    ("name", "task", "expected"),
    [("dprnn", "extraction", ["DualPathMasker"]), ("brain_encoder", "retrieval", ["BrainEncoder", "DeepMel"]),
     ("neurocodec", "extraction", ["DacEncoder", "GraphEegEncoder", *["GuidedBlock"] * 3, "DacDecoder"]),
     ("mixture", "extraction", [])],
)  # fmt: skip
def test_what_is_compiled_is_what_answers(name: str, task: Task, expected: list[str]) -> None:
    """A module whose parts are called one by one would be compiled for nothing."""
    system = ready(declare(name)).system
    way = Way(seconds=1.0)
    found = [type(module).__name__ for module in answering(system, question_of(system, task, way, CPU))]
    assert [kind for kind in found if kind not in ("Linear", "Sequential", "LayerNorm")] == expected
    assert not any(module._forward_pre_hooks for module in getattr(system, "network", torch.nn.Module()).modules())


def test_a_task_can_be_chosen_and_must_be_answered() -> None:
    assert profile(declare("mean_speech"), wishes=QUICK, task="generation").task == "generation"
    with pytest.raises(BadInput, match="retrieval among them"):
        profile(declare("mixture"), wishes=QUICK, task="retrieval")


def test_the_command_writes_a_record_where_it_belongs(tmp_path: Path) -> None:
    asked = ["profile", "mixture", "random_speaker", "--grid", "short", "--seconds", "0", "--window", "0.4", "--busy"]
    done = CliRunner().invoke(app, [*asked, "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    records = LatencyStore(tmp_path).read_all()
    assert [record.label for record in records] == ["mixture", "random_speaker"]
    assert records[0].standard.threads >= 1 and "real-time factor" in done.output
    again = CliRunner().invoke(app, [*asked, "--missing", "--out", str(tmp_path)])
    assert again.exit_code == 0 and not again.output.strip()


def test_a_name_and_settings_are_of_one_system(tmp_path: Path) -> None:
    asked = ["profile", "ubesd_separator", "--set", "size=demo", "--name", "ubesd-here", "--grid", "short"]
    done = CliRunner().invoke(app, [*asked, "--seconds", "0", "--window", "0", "--busy", "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "cpu" / "ubesd-here.json").exists()
    for wrong in (["profile", "a", "b", "--name", "c"], ["profile"], ["profile", "mixture", "--suite", "x.yaml"]):
        refused = CliRunner().invoke(app, [*wrong, "--busy", "--out", str(tmp_path)])
        assert isinstance(refused.exception, BadInput)


def test_axes_are_those_that_a_system_has() -> None:
    assert axes_of(declare("dprnn"), "extraction") == ("seconds", "electrodes")
    assert axes_of(declare("dprnn_separator"), "extraction") == ("seconds",)
    assert axes_of(declare("ridge_envelope"), "retrieval") == ("seconds", "electrodes", "candidates", "training")


def test_a_curve_has_a_point_a_value_and_candidates_cost_time() -> None:
    effort = Effort(seconds=0.1, least=3, warm=1)
    curve = grown(declare("brain_encoder"), "retrieval", "candidates", Way(threads=1), CPU, effort)
    assert curve.values == (2, 8, 32, 128) and curve.seconds[-1] > curve.seconds[0]
    electrodes = grown(declare("ubesd"), "extraction", "electrodes", Way(seconds=0.5, threads=1), CPU, HASTE)
    assert electrodes.values == (8, 16, 32, 64, 128) and all(seconds > 0 for seconds in electrodes.seconds)


def test_networks_of_any_number_of_electrodes_can_be_timed() -> None:
    made = ready(declare("dprnn"), channels=7)
    assert made.weights == "initial" and len(made.system.context.sensors) == 7
