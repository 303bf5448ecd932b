"""Commands about evidence: audits, control reports, curves, power, checks of records. As thin as ``cli``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

evidence = typer.Typer(rich_markup_mode=None)

StudyName = Annotated[str, typer.Argument(help="A study.")]
Results = Annotated[Path, typer.Option(help="Folder of records.")]
RecordPath = Annotated[Path, typer.Argument(help="A record's JSON file.")]
Jobs = Annotated[int, typer.Option(help="Processes side by side.")]


@evidence.command()
def audit(
    study: StudyName,
    split: Annotated[str, typer.Argument(help="within_trial, trial, stimulus, story, subject, given or published.")],
    seed: Annotated[int, typer.Option(help="Seed of the split.")] = 0,
    signals: Annotated[
        bool, typer.Option("--signals/--metadata", help="Fingerprints of the sound and probes of the EEG too.")
    ] = True,
    manifest: Annotated[Path | None, typer.Option(help="Write the split's manifest here.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for audit and manifest, as beside records.")] = None,
) -> None:
    """Look for leaks between train and test. Ends with status 1 when a finding is fatal.

    Example: eeg2speech audit simulated-confounded trial
    """
    from eeg2speech.data.studies.registry import prepare
    from eeg2speech.splits import audit as of_metadata
    from eeg2speech.splits import make_split
    from eeg2speech.splits.audit import Finding, verdict

    store = prepare(study)
    made = make_split(store.index, split, seed)
    if manifest is not None:
        made.save(manifest)
    if not signals:
        findings = of_metadata(store.index, made)
        typer.echo("\n".join(finding.text for finding in findings))
        _conclude(split, seed, made.hash, verdict(findings))
        return
    from eeg2speech.evaluation.audit import audit_split, keep

    found = audit_split(store, made)
    typer.echo("\n".join(Finding(each.level, each.name, each.detail).text for each in found.findings))
    if out is not None:
        keep(found, made, out)
    _conclude(split, seed, made.hash, found.verdict)


def _conclude(split: str, seed: int, manifest: str, verdict: str) -> None:
    typer.echo(f"split {split}, seed {seed}, manifest {manifest}: {verdict}")
    raise typer.Exit(int(verdict.startswith("fatal")))


@evidence.command()
def ablate(
    systems: Annotated[list[str] | None, typer.Argument(help="Systems; all that have records unless told.")] = None,
    results: Results = Path("results"),
    out: Annotated[Path | None, typer.Option(help="Folder for the reports; `controls` in --results.")] = None,
) -> None:
    """Write the control reports: does a system use the EEG? From records alone.

    All controls and what is lost under each, by metric and subject, the twin that was trained on noise, the curve over
    window lengths with the minimal expected switch duration, and a verdict in words.

    Example: eeg2speech ablate dprnn --results results
    """
    from eeg2speech.report.control_report import render_control_reports

    paths = render_control_reports(results, out or results / "controls", systems=systems or ())
    typer.echo("\n".join(map(str, paths)))


@evidence.command("window-curve")
def window_curve(
    system: Annotated[str, typer.Argument(help="A system of extraction or retrieval.")],
    study: Annotated[str, typer.Option(help="A study.")] = "simulated-clear",
    split: Annotated[
        str, typer.Option(help="within_trial, trial, stimulus, story, subject, given or published.")
    ] = "stimulus",
    checkpoint: Annotated[Path | None, typer.Option(help="Weights; those of the package unless told.")] = None,
    control: Annotated[str, typer.Option(help="What is done to the EEG.")] = "true_eeg",
    windows: Annotated[str, typer.Option(help="Lengths in seconds, rising, joined by commas.")] = "1,2,4,8,15,30",
    per_span: Annotated[int, typer.Option(help="Windows of each length in a test trial, at most.")] = 2,
    out: Annotated[Path, typer.Option(help="Folder for curve, scores and figure.")] = Path("runs/curves"),
    jobs: Jobs = 1,
    device: Annotated[str, typer.Option(help="cpu, cuda, mps or auto.")] = "cpu",
    allow_other_split: Annotated[
        bool, typer.Option("--allow-other-split", help="Score weights that may have been trained on these trials.")
    ] = False,
) -> None:
    """Measure how often a system is right about the attended talker, by the length of the window.

    With the model curve and the minimal expected switch duration (MESD).

    Example: eeg2speech window-curve mtrf_select_true_sources --out runs/curves
    """
    from eeg2speech.evaluation.window_curve import measure_curve
    from eeg2speech.records.curves import CurveStore
    from eeg2speech.records.files import write_atomically
    from eeg2speech.report.window_figure import window_svg

    lengths = _numbers("--windows", windows)
    about = {"windows": lengths, "per_span": per_span, "control": control, "jobs": jobs, "device": device}
    curve = measure_curve(system, study, split, checkpoint, out, **about, allow_other_split=allow_other_split)  # type: ignore[arg-type]
    figure = CurveStore(out).path(curve).with_suffix(".svg")
    write_atomically(figure, window_svg([curve]).encode("utf-8"))
    for point in curve.points:
        typer.echo(f"{point.window:6g} s  {point.accuracy:.3f} [{point.low:.3f}, {point.high:.3f}]  n = {point.n}")
    switching = curve.switching
    if switching.seconds is None:
        typer.echo(f"no minimal expected switch duration: {switching.note}")
    else:
        typer.echo(
            f"minimal expected switch duration: {switching.seconds:.2f} s, at windows of {switching.window:.2f} s"
        )
    typer.echo(str(figure))


def _numbers(option: str, text: str) -> list[float]:
    from eeg2speech.errors import BadInput

    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise BadInput(option, "value", "numbers joined by commas", repr(text)) from error


@evidence.command()
def power(
    system: Annotated[str, typer.Argument(help="A system with records.")],
    other: Annotated[str | None, typer.Argument(help="Another; unless told, the same with noise for EEG.")] = None,
    difference: Annotated[float, typer.Option(help="What is to be found, in the metric's unit.")] = 1.0,
    metric: Annotated[str, typer.Option(help="A metric of the records.")] = "si_sdr",
    results: Results = Path("results"),
) -> None:
    """Say how many subjects, stimulus pairs and trials a difference needs, from the variance in records.

    Example: eeg2speech power dprnn dprnn_blind --difference 1
    """
    from eeg2speech.report.power import power_text

    typer.echo(power_text(results, system, other, difference, metric))


@evidence.command()
def verify(
    record: RecordPath,
    audio: Annotated[Path | None, typer.Option(help="Folder of predicted audio, to be scored again.")] = None,
    jobs: Jobs = 1,
) -> None:
    """Check a record that someone sends. Ends with status 1 when a check fails.

    Schema, protocol, study, split, segments, aggregates computed again from the scores, the audit of its split.

    Example: eeg2speech verify results/demo-1/simulated-clear/stimulus-s0/dprnn-s0/true_eeg.json
    """
    from eeg2speech.evaluation.verify import told
    from eeg2speech.evaluation.verify import verify as check

    checks = check(record, audio=audio, jobs=jobs)
    typer.echo(told(checks))
    raise typer.Exit(int(not all(each.passed for each in checks)))


@evidence.command()
def repeat(
    record: RecordPath,
    out: Annotated[Path, typer.Option(help="Folder for trainings and new records.")] = Path("runs/repeat"),
    device: Annotated[str, typer.Option(help="cpu, cuda, mps or auto.")] = "auto",
) -> None:
    """Make a record again, training and all, and compare. Ends with status 1 when it comes out otherwise.

    Example: eeg2speech repeat results/demo-1/simulated-clear/stimulus-s0/random_speaker-s0/true_eeg.json
    """
    from eeg2speech.evaluation.repeat import repeat as again
    from eeg2speech.evaluation.repeat import told
    from eeg2speech.evaluation.suite import Machine

    found = again(record, out, machine=Machine(device=device), tell=typer.echo)
    typer.echo(told(found))
    raise typer.Exit(int(found.outcome == "different"))


@evidence.command()
def report(
    results: Results = Path("results"),
    suites: Annotated[Path, typer.Option(help="Folder of the suites behind `ablations` in --results.")] = Path(
        "benchmarks/suites"
    ),
    out: Annotated[Path, typer.Option(help="The leaderboard; its figures go to `figures` in --results.")] = Path(
        "leaderboard.md"
    ),
) -> None:
    """Make everything that is made from records: control reports, ablation tables, the leaderboard, all figures.

    Example: eeg2speech report
    """
    from eeg2speech.processes import cores, without_collector
    from eeg2speech.report.everything import render_everything
    from eeg2speech.team import Team

    with without_collector(last=True), Team(cores(), "eeg2speech.report.chapter") as team:
        for path in render_everything(results, suites, out, team=team):
            typer.echo(str(path))
