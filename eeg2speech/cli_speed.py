"""The command about speed: profiles of systems. As thin as ``cli``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from eeg2speech.systems.registry import Declaration

speed = typer.Typer(rich_markup_mode=None)


@speed.command()
def profile(
    systems: Annotated[list[str] | None, typer.Argument(help="Systems; `eeg2speech list systems` names them.")] = None,
    suite: Annotated[
        list[Path] | None, typer.Option(help="A YAML file, or several: all their systems, with their settings.")
    ] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="A setting of the system, key=value.")] = None,
    name: Annotated[str, typer.Option(help="Name of the record; the system's unless told.")] = "",
    task: Annotated[str, typer.Option(help="Of systems with several; the first that they answer unless told.")] = "",
    device: Annotated[str, typer.Option(help="cpu, cuda, mps or auto.")] = "cpu",
    grid: Annotated[
        str, typer.Option(help="short: the standard case; standard: one thing at a time changed; full: all crossed.")
    ] = "standard",
    compiled: Annotated[bool, typer.Option("--compile/--eager", help="Through torch.compile as well.")] = True,
    seconds: Annotated[float, typer.Option(help="Seconds of rounds for each case, at least three rounds.")] = 2.0,
    stream: Annotated[float, typer.Option(help="Seconds of signal for each chunk size, by the clock; 0: none.")] = 60.0,
    window: Annotated[float, typer.Option(help="Seconds of signal for the sliding window; 0: none.")] = 20.0,
    growth: Annotated[bool, typer.Option("--growth", help="Cost curves as well.")] = False,
    missing: Annotated[bool, typer.Option("--missing", help="Those alone that have no record yet.")] = False,
    busy: Annotated[bool, typer.Option("--busy", help="Measure although others compute; the record says so.")] = False,
    out: Annotated[Path, typer.Option(help="Folder for the records.")] = Path("results/latency"),
) -> None:
    """Measure latency, throughput, memory, streaming and stages of systems on this machine.

    Example: eeg2speech profile dprnn --set size=paper --name dprnn-paper
    """
    from eeg2speech.evaluation.scoring import device_named
    from eeg2speech.profiling.cases import wished_grid
    from eeg2speech.profiling.machine import device_name
    from eeg2speech.profiling.profile import Wishes
    from eeg2speech.profiling.profile import profile as profiled
    from eeg2speech.profiling.rounds import Effort
    from eeg2speech.records.latency import LatencyStore, slug

    effort = Effort(seconds)
    wishes = Wishes(wished_grid(grid), compiled, effort, stream, window, growth, busy)
    store, folder = LatencyStore(out), slug(device_name(device_named(device)))
    for declaration in _declared(systems or [], suite or [], settings or [], name):
        if missing and (out / folder / f"{declaration.label}.json").exists():
            continue
        typer.echo(declaration.label)
        found = profiled(declaration, device, wishes, task, lambda line: typer.echo(f"  {line}"))
        path, case = store.write(found), found.standard
        typer.echo(f"{path}: {case.failure or f'real-time factor {case.real_time_factor:.3g}'}")


def _declared(systems: list[str], suite: list[Path], settings: list[str], name: str) -> list[Declaration]:
    """What is to be measured. Raises BadInput for options that do not go together."""
    import yaml

    from eeg2speech.cli_studies import pair
    from eeg2speech.errors import BadInput
    from eeg2speech.evaluation.suite import read_suite
    from eeg2speech.systems.registry import declare

    if bool(systems) == bool(suite):
        raise BadInput("command line", "SYSTEMS", "names of systems, or --suite", systems or "neither")
    if (settings or name) and len(systems) != 1:
        raise BadInput("command line", "--set, --name", "one system", f"{len(systems)} systems")
    if suite:
        found = {entry.label: entry for path in suite for entry in read_suite(path).declarations}
        return [*found.values()]
    given = {key: yaml.safe_load(value) for key, value in map(pair, settings)}
    called = {"name": name} if name else {}
    return [declare({"system": system, "settings": given} | called, "command line") for system in systems]
