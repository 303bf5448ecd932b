"""How long does the command take to say what it can do?

    pytest benchmarks/test_start_speed.py --benchmark-enable

``eeg2speech --help`` in a process of its own, the best of some rounds, in turns with a process that imports torch and
does nothing else: what a command line would take that imports what it may need. Best on an idle machine.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

from pytest_benchmark.fixture import BenchmarkFixture

ROUNDS, AT_MOST_SECONDS, AT_MOST_RATIO = 5, 0.5, 0.5
HEAVY = ("torch", "pandas", "scipy", "matplotlib", "numpy")
HELP = "from eeg2speech.cli import main; sys.argv[1:] = ['--help']; main()"
"""What the installed command does, said so that it can be followed by a question."""


def test_help_is_there_at_once(benchmark: BenchmarkFixture) -> None:
    """Seconds of the processor and of the clock; what is heavy is not imported."""
    assert not imported()
    ours, torch = [], []
    for _ in range(ROUNDS):
        ours.append(seconds("import sys; " + HELP))
        torch.append(seconds("import torch"))
    wall, processor = (min(each[k] for each in ours) for k in (0, 1))
    ratio = processor / min(each[1] for each in torch)
    load = os.getloadavg()[0]
    benchmark.group = "Start"
    benchmark.extra_info.update(
        seconds=round(wall, 3),
        processor_seconds=round(processor, 3),
        over_import_torch_cost=round(ratio, 3),
        load=round(load, 1),
    )
    result = f"{wall:.2f} s, {processor:.2f} s of the processor, {ratio:.2f} of importing torch, load {load:.1f}"
    print(result)
    benchmark.pedantic(lambda: seconds("import sys; " + HELP), rounds=1)
    # Where others use the processor too, the clock says how many they are.
    assert min(wall, processor) <= AT_MOST_SECONDS and ratio <= AT_MOST_RATIO, result


def imported() -> set[str]:
    """Which of the heavy packages the help imports."""
    ask = "import atexit, sys; atexit.register(lambda: print(*sys.modules)); "
    told = subprocess.run([sys.executable, "-c", ask + HELP], capture_output=True, text=True, check=True).stdout
    return {*HEAVY} & {*told.splitlines()[-1].split()}


def seconds(code: str) -> tuple[float, float]:
    """Of the clock and of the processor, until a new process has done ``code``."""
    before, start = os.times(), time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - start, os.times()
    used = after.children_user - before.children_user + after.children_system - before.children_system
    return wall, used
