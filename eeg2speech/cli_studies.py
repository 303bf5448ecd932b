"""The part of the shell that brings data in: prepare a study, a folder of one's own, BIDS."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eeg2speech.errors import BadInput

if TYPE_CHECKING:
    from eeg2speech.data.preparation.study import Progress

studies = typer.Typer(rich_markup_mode=None)
bids = typer.Typer(rich_markup_mode=None, help="Exchange prepared studies as BIDS.", no_args_is_help=True)
studies.add_typer(bids, name="bids")


@studies.command()
def prepare(
    study: Annotated[str, typer.Argument(help="A study; `eeg2speech list studies` names them.")],
    root: Annotated[Path | None, typer.Option(help="Folder of the raw files, or their archive.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the store; the cache unless told.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A setting of the preparation, as high_pass=1; may be repeated.")
    ] = None,
    verify: Annotated[bool, typer.Option(help="Compare every signal with its hash.")] = False,
) -> None:
    """Bring a study into its store, once; what was interrupted goes on.

    Example: eeg2speech prepare simulated-clear

    Example: eeg2speech prepare ku-leuven --root downloads/KULeuven --set low_pass=32
    """
    from eeg2speech.data.preparation.study import provenance
    from eeg2speech.data.studies.registry import prepare as prepare_study

    given = dict(pair(text) for text in settings or ())
    with _warnings_told(), _progress(study) as progress:
        store = prepare_study(study, out, root, given, progress)
    if verify:
        store.verify()
    index = store.index
    counts = f"{len(store.subjects)} subjects, {len(index.trials)} trials, {len(index.stimuli)} stimuli"
    typer.echo(f"{store.root}: {counts}, revision {index.revision}\n{store.facts.note}")
    if (worst := provenance(store.root).get("worst_misalignment_ms")) is not None:
        typer.echo(f"EEG and speech are at most {worst:.3g} ms apart")


@studies.command()
def template(
    folder: Annotated[Path, typer.Argument(help="Folder of your data; it is made if it is not there.")],
) -> None:
    """Write an example table of trials, for data of your own.

    Example: eeg2speech template my-data
    """
    from eeg2speech.data.studies.folder import write_template

    for path in write_template(folder):
        typer.echo(path)


@studies.command("check-folder")
def check_folder(
    folder: Annotated[Path, typer.Argument(help="Folder of your data, with its table of trials.")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A setting of the preparation; may be repeated.")
    ] = None,
) -> None:
    """Look through a folder of your own data; status 1 if something is wrong, each with its row and column.

    Example: eeg2speech check-folder my-data
    """
    from eeg2speech.data.preparation.steps import settled
    from eeg2speech.data.studies.folder import FolderSteps, check

    problems = check(folder, settled(FolderSteps, dict(pair(text) for text in settings or ()), "folder"))
    for problem in problems:
        typer.echo(problem)
    if problems:
        raise typer.Exit(1)
    typer.echo(f"{folder}: nothing wrong")


@bids.command("export")
def export_(
    study: Annotated[str, typer.Argument(help="A prepared study, by name or as the folder of its store.")],
    folder: Annotated[Path, typer.Argument(help="Folder of the BIDS data set; must be empty.")],
) -> None:
    """Write a prepared study as BIDS: BrainVision files, events, stimuli.

    Example: eeg2speech bids export simulated-clear simulated-bids
    """
    from eeg2speech.data.bids import export_bids
    from eeg2speech.data.studies.registry import prepare as prepare_study

    written = export_bids(prepare_study(study), folder)
    typer.echo(f"{folder}: {len(written)} files")


@bids.command("import")
def import_(
    folder: Annotated[Path, typer.Argument(help="A BIDS data set that `bids export` wrote.")],
    out: Annotated[Path, typer.Argument(help="Folder of the store.")],
    changed: Annotated[
        bool, typer.Option("--changed", help="Take up tables that were edited since the export.")
    ] = False,
) -> None:
    """Read a study back from BIDS into a store, whose folder then stands for its name.

    Example: eeg2speech bids import simulated-bids stores/simulated
    """
    from eeg2speech.data.bids import read_bids

    store = read_bids(folder, out, changed)
    typer.echo(f"{store.root}: {len(store.trials)} trials, revision {store.index.revision}")


def pair(text: str) -> tuple[str, str]:
    """Name and value of a setting, from ``name=value``. Raises BadInput for text without ``=``."""
    key, equals, value = text.partition("=")
    if not equals:
        raise BadInput("command line", "--set", "key=value", repr(text))
    return key, value


@contextmanager
def _warnings_told() -> Iterator[None]:
    """Warnings as plain lines: what is missing, what was decided."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield
    for text in dict.fromkeys(str(each.message) for each in caught if each.category is UserWarning):
        typer.echo(text, err=True)


@contextmanager
def _progress(study: str) -> Iterator[Progress]:
    """A bar on a terminal; nothing elsewhere."""
    from rich.console import Console
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda done, total, name: None
        return
    with Bar(console=console, transient=True) as bar:
        task = bar.add_task(study, total=None)
        yield lambda done, total, name: bar.update(task, completed=done, total=total, description=f"{study}: {name}")
