"""The shell command: a thin shell over the package's functions. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eeg2speech.errors import BadInput

if TYPE_CHECKING:
    from eeg2speech.evaluation.suite import Machine, Work

app = typer.Typer(
    help="Train and compare systems that turn EEG into speech, under uniform splits.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Study = Annotated[str, typer.Option(help="A study; `eeg2speech list studies` names them.")]
SplitName = Annotated[str, typer.Option("--split", help="within_trial, trial, stimulus or subject.")]
Seed = Annotated[int, typer.Option(help="Seed of the training.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, mps or auto.")]
Devices = Annotated[int, typer.Option(help="How many devices train together.")]
Precision = Annotated[str, typer.Option(help="32-true, bf16-mixed, ... or auto.")]
Jobs = Annotated[int, typer.Option(help="Processes side by side; 0 means one for each core.")]
Out = Annotated[Path, typer.Option(help="Folder for checkpoints, logs and records.")]
BudgetOption = Annotated[str, typer.Option("--budget", help="demo (minutes), hour (some 40 minutes) or full (a GPU).")]
ProtocolOption = Annotated[str, typer.Option("--protocol", help="Windows, mixing and metrics.")]


@app.command("list")
def list_(
    what: Annotated[
        str, typer.Argument(help="studies, systems, metrics, controls, splits or protocols; all if empty.")
    ] = "",
) -> None:
    """Show what there is.

    Example: eeg2speech list systems
    """
    from eeg2speech.listing import LISTINGS, listing

    for name in [what] if what else LISTINGS:
        typer.echo(f"{name}:")
        for item, text in listing(name):
            typer.echo(f"  {item:26} {text}")


@app.command()
def prepare(
    study: Annotated[str, typer.Argument(help="A study; `eeg2speech list studies` names them.")],
    root: Annotated[Path | None, typer.Option(help="Folder of the store; the cache unless told.")] = None,
    verify: Annotated[bool, typer.Option(help="Compare every signal with its hash.")] = False,
) -> None:
    """Bring a study into its store, once.

    Example: eeg2speech prepare simulated-clear
    """
    from eeg2speech.data.studies.registry import prepare as prepare_study

    store = prepare_study(study, root)
    if verify:
        store.verify()
    index = store.index
    counts = f"{len(store.subjects)} subjects, {len(index.trials)} trials, {len(index.stimuli)} stimuli"
    typer.echo(f"{store.root}: {counts}, revision {index.revision}\n{store.facts.note}")


@app.command()
def audit(
    study: Annotated[str, typer.Argument(help="A study.")],
    split: Annotated[str, typer.Argument(help="within_trial, trial, stimulus or subject.")],
    seed: Annotated[int, typer.Option(help="Seed of the split.")] = 0,
    manifest: Annotated[Path | None, typer.Option(help="Write the split's manifest here.")] = None,
) -> None:
    """Look for leaks between train and test. Ends with status 1 when a finding is fatal.

    Example: eeg2speech audit simulated-confounded trial
    """
    from eeg2speech.data.studies.registry import prepare as prepare_study
    from eeg2speech.splits import audit as run_audit
    from eeg2speech.splits import make_split
    from eeg2speech.splits.audit import verdict

    index = prepare_study(study).index
    made = make_split(index, split, seed)
    findings = run_audit(index, made)
    for finding in findings:
        typer.echo(f"{finding.level:8} {finding.name}: {finding.detail}. Cure: {finding.cure}.")
    typer.echo(f"split {split}, seed {seed}, manifest {made.hash}: {verdict(findings)}")
    if manifest is not None:
        made.save(manifest)
    raise typer.Exit(int(any(finding.level == "fatal" for finding in findings)))


@app.command()
def train(
    system: Annotated[str, typer.Argument(help="A system; `eeg2speech list systems` names them.")],
    study: Study = "simulated-clear",
    split: SplitName = "stimulus",
    budget: BudgetOption = "demo",
    steps: Annotated[int | None, typer.Option(help="Optimiser steps in place of the budget's.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="A setting of the system, key=value.")] = None,
    seed: Seed = 0,
    out: Out = Path("runs"),
    protocol: ProtocolOption = "demo-1",
    device: Device = "auto",
    devices: Devices = 1,
    precision: Precision = "auto",
) -> None:
    """Train one system; an interrupted training goes on where it stopped.

    Example: eeg2speech train dprnn --split stimulus --steps 500
    """
    from eeg2speech.evaluation.suite import options, train_one

    machine = _machine(1, device, devices, precision)
    work = _work(system, study, split, seed, budget, protocol, steps, settings)
    seconds = train_one(work, out, machine)
    path = options(work, out, machine).folder / "system.safetensors"
    typer.echo(f"trained {work.title} in {seconds:.0f} s: {path}")


@app.command()
def evaluate(
    system: Annotated[str, typer.Argument(help="A system; `eeg2speech list systems` names them.")],
    study: Study = "simulated-clear",
    split: SplitName = "stimulus",
    checkpoint: Annotated[
        Path | None, typer.Option(help="Weights; those that come with the package unless told.")
    ] = None,
    controls: Annotated[str, typer.Option(help="Names joined by commas, or all.")] = "true_eeg,noise_cue",
    metric: Annotated[str, typer.Option(help="Metric to print; computed if the protocol has it not.")] = "si_sdr",
    protocol: ProtocolOption = "demo-1",
    jobs: Jobs = 0,
    device: Device = "cpu",
    allow_other_split: Annotated[
        bool, typer.Option("--allow-other-split", help="Score weights that may have been trained on these trials.")
    ] = False,
) -> None:
    """Score a trained system and print one metric by control.

    Example: eeg2speech evaluate dprnn --split stimulus --controls all
    """
    from eeg2speech.controls import CONTROLS
    from eeg2speech.evaluation.api import evaluate as run

    machine = _machine(jobs, device)
    names = list(CONTROLS) if controls == "all" else controls.split(",")
    result = run(
        system, study, split, names, protocol, checkpoint, machine.jobs, [metric], machine.device, allow_other_split
    )
    typer.echo(result.table(metric).to_string(index=False, float_format=lambda value: f"{value:.3f}"))


@app.command()
def run(
    suite: Annotated[Path, typer.Argument(help="A YAML file, such as benchmarks/bench.yaml.")],
    out: Out = Path("runs"),
    jobs: Jobs = 0,
    device: Device = "auto",
    devices: Devices = 1,
    precision: Precision = "auto",
) -> None:
    """Do what is missing of a suite: train, evaluate, write records, and a leaderboard of what is there.

    Example: eeg2speech run benchmarks/bench.yaml --out runs/bench
    """
    from eeg2speech.evaluation.run import run_suite
    from eeg2speech.evaluation.suite import read_suite
    from eeg2speech.report import render_leaderboard, render_page
    from eeg2speech.report.terminal import summary

    machine = _machine(jobs, device, devices, precision)
    records = run_suite(read_suite(suite), out, machine, typer.echo)
    render_leaderboard(records.root, out / "leaderboard.md", suite=str(suite))
    render_page(records.root, out / "report.html", suite=str(suite))
    typer.echo(summary(records))
    typer.echo(f"{out / 'leaderboard.md'}, {out / 'report.html'}")


@app.command()
def leaderboard(
    results: Annotated[Path, typer.Option(help="Folder of records.")] = Path("results"),
    out: Annotated[Path, typer.Option(help="The file to write.")] = Path("leaderboard.md"),
    figures: Annotated[Path, typer.Option(help="Folder for its figures.")] = Path("results/figures"),
    check: Annotated[bool, typer.Option(help="Write nothing; end with status 1 when the file is stale.")] = False,
) -> None:
    """Make the leaderboard and its figures from records alone.

    Example: eeg2speech leaderboard --results results --out leaderboard.md
    """
    from eeg2speech.report import render_leaderboard
    from eeg2speech.report.stale import is_stale

    if check:
        stale = is_stale(results, out, figures)
        typer.echo(f"{out} is {'stale: run `eeg2speech leaderboard`' if stale else 'up to date'}")
        raise typer.Exit(int(stale))
    render_leaderboard(results, out, figures=figures)
    typer.echo(str(out))


@app.command()
def doctor() -> None:
    """Say what is installed, which devices there are, what is missing and how to get it.

    Example: eeg2speech doctor
    """
    from eeg2speech.doctor import report

    lines, healthy = report()
    typer.echo("\n".join(lines))
    raise typer.Exit(int(not healthy))


def main() -> None:
    """Entry point of the shell command. A refusal is one line on standard error and status 2."""
    try:
        app()
    except BadInput as refusal:
        typer.echo(f"eeg2speech: {refusal}", err=True)
        sys.exit(2)


def _work(
    system: str,
    study: str,
    split: str,
    seed: int,
    budget: str,
    protocol: str,
    steps: int | None,
    settings: list[str] | None,
) -> Work:
    import yaml

    from eeg2speech.evaluation.suite import Work
    from eeg2speech.systems.registry import declare
    from eeg2speech.training.budget import Budget

    pairs = dict(_pair(text) for text in settings or [])
    given = {key: yaml.safe_load(value) for key, value in pairs.items()}
    declaration = declare({"system": system, "settings": given, "steps": steps}, "command line")
    # Budget refuses an unknown name before anything runs.
    return Work(declaration, study, split, seed, Budget(budget).name, protocol)  # type: ignore[arg-type]


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise BadInput("command line", "--set", "key=value", repr(text))
    return key, value


def _machine(jobs: int, device: str, devices: int = 1, precision: str = "auto") -> Machine:
    from eeg2speech.evaluation.suite import Machine
    from eeg2speech.processes import cores

    return Machine(jobs or cores(), device, devices, precision)


if __name__ == "__main__":
    main()
