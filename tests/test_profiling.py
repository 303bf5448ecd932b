"""Timing: what is counted and what is not, and that the numbers are those of known work."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from eeg2speech.data.types import Sensors
from eeg2speech.errors import BadInput
from eeg2speech.profiling import machine
from eeg2speech.profiling.cases import BATCHES, SECONDS, measured, ways, wished_grid
from eeg2speech.profiling.clock import host_clock, precision, processor_clock
from eeg2speech.profiling.cost import macs
from eeg2speech.profiling.memory import Peak
from eeg2speech.profiling.ready import Ready, on_a_helmet, ready, task_of
from eeg2speech.profiling.rounds import Effort, timed
from eeg2speech.profiling.stages import REST, stage_times, watched
from eeg2speech.profiling.workload import Input, Way, question_of
from eeg2speech.records.latency import quantile
from eeg2speech.systems.interface import System
from eeg2speech.systems.network import parts_of
from eeg2speech.systems.registry import declare, system_class, system_names

CPU = torch.device("cpu")


@pytest.mark.parametrize("length", range(1, 10))
def test_quantiles_are_numpys(length: int) -> None:
    values = np.random.default_rng(length).standard_normal(length).tolist()
    for share in (0.0, 0.1, 0.5, 0.9, 0.99, 1.0):
        assert quantile(values, share) == pytest.approx(np.quantile(values, share), abs=1e-12)


def test_the_clocks_precision_is_measured_and_far_below_a_millisecond() -> None:
    assert 0 < precision() < 1e-3


def test_the_clock_is_right_about_a_sleep() -> None:
    assert 0.02 <= host_clock(lambda: time.sleep(0.02)) < 0.2


def test_the_clock_of_the_processor_counts_work_and_not_waiting() -> None:
    assert processor_clock(lambda: time.sleep(0.05)) < 0.02 < processor_clock(lambda: sum(range(5_000_000)))


def test_a_question_is_never_put_twice_and_to_put_it_is_not_timed() -> None:
    put: list[int] = []

    def question(number: int) -> Callable[[], object]:
        put.append(number)
        time.sleep(0.02)
        return lambda: time.sleep(0.002)

    rounds = timed(question, CPU, Effort(seconds=0.5, least=4, most=4, warm=2))
    assert put == [*range(7)] and rounds.loops == 1
    assert len(rounds.seconds) == 4 and max(rounds.seconds) < 0.02 <= 0.02 + min(rounds.seconds)


def test_answers_that_are_too_quick_for_the_clock_share_a_round() -> None:
    rounds = timed(lambda _: lambda: None, CPU, Effort(seconds=0.01, least=3))
    assert rounds.loops > 1 and all(0 <= seconds < 1e-4 for seconds in rounds.seconds)


def test_rounds_are_as_many_as_the_effort_says() -> None:
    quick = timed(lambda _: lambda: time.sleep(0.001), CPU, Effort(seconds=10.0, least=3, most=5))
    slow = timed(lambda _: lambda: time.sleep(0.03), CPU, Effort(seconds=0.01, least=2, most=5))
    assert len(quick.seconds) == 5 and len(slow.seconds) == 2


def test_what_takes_longer_than_the_effort_is_not_warmed_up() -> None:
    put: list[int] = []

    def question(number: int) -> Callable[[], object]:
        put.append(number)
        return lambda: time.sleep(0.02)

    timed(question, CPU, Effort(seconds=0.01, least=1, warm=2))
    assert len(put) == 2


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="Linux alone tells a process its resident memory")
def test_peak_memory_is_that_of_what_was_held_at_most() -> None:
    with Peak("cpu") as peak:
        held = np.ones(8_000_000)
        time.sleep(0.05)
        del held
    assert peak.megabytes is not None and 55 < peak.megabytes < 200


def test_products_of_layers_are_counted_as_they_are() -> None:
    linear, conv = nn.Linear(10, 20), nn.Conv1d(4, 8, 5, padding=2)
    with torch.inference_mode():
        assert macs(lambda: linear(torch.zeros(3, 10))) == 3 * 10 * 20
        assert macs(lambda: conv(torch.zeros(2, 4, 50))) == 2 * 50 * 4 * 8 * 5


def test_products_of_recurrent_layers_are_counted_too() -> None:
    lstm = nn.LSTM(6, 7, batch_first=True)
    with torch.inference_mode():
        assert macs(lambda: lstm(torch.zeros(2, 9, 6)), lstm) == 2 * 9 * 4 * 7 * (6 + 7)
    assert torch.backends.mkldnn.is_available()


class Slow(nn.Module):
    """Takes some seconds; may have another within."""

    def __init__(self, seconds: float, within: nn.Module | None = None) -> None:
        super().__init__()
        self.seconds, self.within = seconds, within

    def forward(self, x: Tensor) -> Tensor:
        """The input."""
        time.sleep(self.seconds)
        return x if self.within is None else self.within(x)


def test_stages_are_timed_and_what_is_left_is_the_rest() -> None:
    one, two, x = Slow(0.01), Slow(0.02), torch.zeros(1)

    def question(_: int) -> Callable[[], object]:
        def ask() -> None:
            one(x)
            one(x)
            two(x)
            time.sleep(0.03)

        return ask

    found = stage_times({"one": [one], "two": [two], "never": [Slow(1.0)]}, question, CPU, rounds=3)
    assert [*found] == ["one", "two", REST] and [calls for _, calls in found.values()] == [2, 1, 1]
    for name, expected in (("one", 0.02), ("two", 0.02), (REST, 0.03)):
        assert expected <= found[name][0] < 4 * expected


def test_of_stages_within_each_other_the_outermost_counts() -> None:
    inner = Slow(0.01)
    outer = Slow(0.01, inner)
    with watched({"outer": [outer], "inner": [inner]}, CPU) as times:
        outer(torch.zeros(1))
        found = times.take()
    assert [*found] == ["outer"] and found["outer"][0] >= 0.02


def test_hooks_are_taken_away_even_when_an_answer_fails() -> None:
    module = Slow(0.0)
    with pytest.raises(RuntimeError, match="no"), watched({"it": [module]}, CPU):
        raise RuntimeError("no")
    assert not module._forward_hooks and not module._forward_pre_hooks


def test_parts_of_a_network_are_its_children_and_a_lists_members_together() -> None:
    inside = nn.Module()
    inside.enter, inside.blocks = nn.Linear(1, 1), nn.ModuleList([nn.Linear(1, 1), nn.Linear(1, 1)])
    outside = nn.Module()
    outside.network = inside
    assert parts_of(outside) == {"enter": [inside.enter], "blocks": [*inside.blocks]}


def test_the_standard_way_comes_first_and_the_full_grid_is_the_product() -> None:
    for grid in ("short", "standard", "full"):
        assert ways(wished_grid(grid), networks=True)[0] == ways("short", networks=False)[0]
    full = ways("full", networks=True)
    threads = {way.threads for way in full}
    assert len(full) == len(set(full)) == len(SECONDS) * len(BATCHES) * 2 * 2 * len(threads)
    standard = ways("standard", networks=True)
    for way in standard[1:]:
        fields = ("batch", "seconds", "precision", "compiled", "threads")
        assert sum(getattr(way, name) != getattr(standard[0], name) for name in fields) == 1
    assert not any(way.compiled or way.precision != "float32" for way in ways("full", networks=False))


def test_an_unknown_grid_is_refused_with_the_nearest() -> None:
    with pytest.raises(BadInput, match="standard"):
        wished_grid("standart")


def test_input_is_as_long_and_as_many_as_asked_and_another_every_time() -> None:
    context = ready(declare("mixture")).system.context
    way = Way(batch=3, seconds=0.5)
    one, two = Input.of(context, way, CPU, 0), Input.of(context, way, CPU, 1)
    assert [*one.mixture.shape] == [3, 8000] and [*one.eeg.shape] == [3, 64, 64] and len(one.subject) == 3
    assert not torch.equal(one.mixture, two.mixture) and not torch.equal(one.eeg, two.eeg)
    assert torch.equal(one.mixture, Input.of(context, way, CPU, 0).mixture)
    assert torch.allclose(one.sources.sum(1), one.mixture)


UNTRAINED = ("mixture", "dprnn", "neurocodec", "brain_encoder", "ridge_envelope", "codec_mixture")


@pytest.mark.parametrize("name", UNTRAINED)
def test_systems_of_all_kinds_are_ready_to_answer(name: str) -> None:
    made = ready(declare(name))
    question = question_of(made.system, task_of(type(made.system)), Way(seconds=1.0), CPU)
    assert question(0)() is not None
    assert made.weights in ("shipped", "none")


def test_other_settings_have_no_shipped_weights() -> None:
    assert ready(declare({"system": "dprnn", "settings": {"fusion": "first"}})).weights == "initial"


def test_retrieval_is_asked_about_so_many_candidates() -> None:
    made = ready(declare("brain_encoder"))
    for count in (2, 3, 7):
        fits = question_of(made.system, "retrieval", Way(seconds=1.0, candidates=count), CPU)(0)()
        assert isinstance(fits, Tensor) and [*fits.shape] == [1, count]


def test_every_system_has_a_task_to_be_timed_in() -> None:
    assert {task_of(system_class(name)) for name in system_names()} == {"extraction", "retrieval", "generation"}


def test_more_electrodes_than_the_study_has_are_all_in_places_of_their_own() -> None:
    sensors = Sensors(("A", "B"), ((0.0, 0.0, 0.1), (0.0, 0.05, 0.08)))
    many = on_a_helmet(sensors, 5)
    assert len(set(many.names)) == 5 and len(set(many.positions)) == 5
    with pytest.raises(BadInput, match="at least 1"):
        on_a_helmet(sensors, 0)


class Refusing(System):
    """Answers nothing."""

    facts = system_class("mixture").facts

    def extract(self, mixture: Tensor, eeg: Tensor, subject: Tensor) -> Tensor:
        """Never."""
        raise NotImplementedError("bfloat16 is not for me\nand more")


def test_what_cannot_be_done_is_a_case_with_its_reason() -> None:
    system = Refusing(ready(declare("mixture")).system.context, Refusing.Settings())
    case = measured(lambda: Ready(system, "none"), "extraction", Way(threads=1), CPU, Effort())
    assert case.failure == "NotImplementedError: bfloat16 is not for me" and case.rounds == ()
    assert case.real_time_factor is None and case.throughput is None


def test_threads_are_put_back_and_a_case_says_how_it_was_asked() -> None:
    before = torch.get_num_threads()
    made = ready(declare("dprnn_separator"))
    way = Way(batch=2, seconds=0.5, threads=1)
    case = measured(lambda: made, "extraction", way, CPU, Effort(seconds=0.0, least=2, warm=0))
    assert torch.get_num_threads() == before
    assert case.way == (0.5, 2, "float32", False, 1) and len(case.rounds) == 2
    assert case.macs is None
    assert case.throughput == pytest.approx(2 / quantile(case.rounds, 0.5))
    assert case.real_time_factor == pytest.approx(quantile(case.rounds, 0.5) / (2 * 0.5))


def test_the_products_of_a_network_grow_with_the_segment() -> None:
    made = ready(declare("dprnn_separator"))
    effort = Effort(seconds=0.0, least=1, warm=0)
    found = [measured(lambda: made, "extraction", Way(seconds=s, threads=1), CPU, effort).macs for s in (1.0, 2.0)]
    # Not twice as many: a path of whole chunks begins with some frames of padding.
    assert found[0] and found[1] and 1.7 < found[1] / found[0] < 2.0


def test_a_busy_machine_is_refused_and_an_idle_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    machine.require_idle({"used_by_others": 0.02})
    machine.require_idle({})
    with pytest.raises(BadInput, match="load: expected an idle machine.*found 60%"):
        machine.require_idle({"used_by_others": 0.6})
    lines = iter(["cpu 100 0 100 800 0 0 0 0\n", "cpu 150 0 150 900 0 0 0 0\n"])

    class Stat:
        def exists(self) -> bool:
            return True

        def read_text(self, encoding: str) -> str:
            return next(lines)

    monkeypatch.setattr(machine, "STAT", Stat())
    assert machine.used_by_others(0.0) == pytest.approx(0.5)


def test_what_the_machine_does_not_tell_is_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("STAT", "INFO", "THERMAL", "POWERCAP"):
        monkeypatch.setattr(machine, name, tmp_path / "none")
    found = machine.conditions(CPU, over=0.0)
    assert set(found) <= {"load"} and machine.joules(CPU) is None


def test_energy_is_that_of_all_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for number, energy in enumerate((1_500_000, 500_000)):
        folder = tmp_path / f"intel-rapl:{number}"
        folder.mkdir()
        (folder / "energy_uj").write_text(f"{energy}\n")
    monkeypatch.setattr(machine, "POWERCAP", tmp_path)
    assert machine.joules(CPU) == pytest.approx(2.0)
