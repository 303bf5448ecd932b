"""A team does every task once, gives the answers in their order, ends together, and hides no error."""

import os
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from eeg2speech.errors import BadInput
from eeg2speech.team import ALONE, Team


def noted(folder: Path, task: tuple[int, float]) -> tuple[int, int]:
    """The task's number and who did it, after some seconds; noted in a file too."""
    number, seconds = task
    time.sleep(seconds)
    with open(folder / str(number), "a") as file:
        file.write("done\n")
    return number, os.getpid()


def refused(parent: int, there: bool, number: int) -> int:
    """Of a thousand tasks of a fifth of a second, from the tenth on the parent, or another process, refuses."""
    time.sleep(0.2)
    if number >= 10 and (os.getpid() != parent) == there:
        raise BadInput("task", "number", "less", number)
    return number


def about_me(seconds: float) -> tuple[int, bool, str]:
    """The process, whether it has the module, and its threads."""
    time.sleep(seconds)
    return os.getpid(), "colorsys" in sys.modules, os.environ["OMP_NUM_THREADS"]


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("count", [0, 1, 7])
def test_every_task_is_done_once_and_answers_are_in_order(tmp_path: Path, size: int, count: int) -> None:
    tasks = [(number, 0.02) for number in range(count)]
    with Team(size) as team:
        for _ in range(2):
            assert [number for number, _ in team.map(partial(noted, tmp_path), tasks)] == [*range(count)]
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        str(number): "done\ndone\n" for number in range(count)
    }


def test_who_has_a_long_task_leaves_the_others_to_the_others(tmp_path: Path) -> None:
    """The others have begun: whoever takes the first task of 2 s does no other."""
    tasks = [(0, 2.0), *((number, 0.1) for number in range(1, 8))]
    with Team(2) as team:
        team.map(partial(noted, tmp_path), [(number, 0.5) for number in range(100, 102)])
        done = dict(team.map(partial(noted, tmp_path), tasks))
    counts = Counter(done.values())
    assert len(counts) == 2 and counts[done[0]] == 1


def test_a_team_that_was_not_entered_is_this_process(tmp_path: Path) -> None:
    for team in (ALONE, Team(3)):
        assert [who for _, who in team.map(partial(noted, tmp_path), [(0, 0.0), (1, 0.0)])] == [os.getpid()] * 2


@pytest.mark.parametrize("there", [False, True])
def test_after_an_error_no_process_takes_another_task(there: bool) -> None:
    """Whether it is an error of this process or of the other."""
    with Team(2) as team:
        began = time.monotonic()
        with pytest.raises(BadInput, match="number"):
            team.map(partial(refused, os.getpid(), there), [*range(1000)])
    assert time.monotonic() - began < 60


def test_a_module_that_cannot_be_loaded_is_told() -> None:
    with Team(2, "eeg2speech.nothing") as team, pytest.raises(ModuleNotFoundError, match="eeg2speech.nothing"):
        team.map(abs, [-1, -2])


def test_the_others_load_the_module_and_use_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    with Team(2, "colorsys") as team:
        told = team.map(about_me, [0.5] * 6)
    assert os.environ["OMP_NUM_THREADS"] == "7"
    others = [about for about in told if about[0] != os.getpid()]
    assert others and all(about[1:] == (True, "1") for about in others)
