"""The shell command: a thin shell over the package's functions. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eeg2speech.cli_evidence import evidence
from eeg2speech.cli_speed import speed
from eeg2speech.cli_studies import pair, studies
from eeg2speech.errors import BadInput

if TYPE_CHECKING:
    from eeg2speech.evaluation.extract import Extraction, Sample
    from eeg2speech.evaluation.generate import Generation
    from eeg2speech.evaluation.suite import Machine, Work
    from eeg2speech.metrics import Score
    from eeg2speech.training.embedding_rows import EmbeddingRow

app = typer.Typer(
    help="Train and compare systems that turn EEG into speech, under uniform splits.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Study = Annotated[str, typer.Option(help="A study; `eeg2speech list studies` names them.")]
SplitName = Annotated[
    str, typer.Option("--split", help="within_trial, trial, stimulus, story, subject, given or published.")
]
Seed = Annotated[int, typer.Option(help="Seed of the training.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, mps or auto.")]
Devices = Annotated[int, typer.Option(help="How many devices train together.")]
Precision = Annotated[str, typer.Option(help="32-true, bf16-mixed, ... or auto.")]
Jobs = Annotated[int, typer.Option(help="Processes side by side; 0 means one for each core.")]
Out = Annotated[Path, typer.Option(help="Folder for checkpoints, logs and records.")]
NOT_FOR_PARTS = ("study", "split", "settings", "protocol", "devices", "precision")
ONLY_FOR_CODEC = ("compiled",)
REFUSED = {
    "codec": (*NOT_FOR_PARTS, "budget"),
    "autoencoder": (*NOT_FOR_PARTS, *ONLY_FOR_CODEC),
    "vocoder": (*NOT_FOR_PARTS, *ONLY_FOR_CODEC),
}
"""Embedded parts that `train` knows beside the systems, and the options that mean nothing to them."""
EegFile = Annotated[
    Path | None, typer.Option(help="EDF, BDF, BrainVision (.vhdr), FIF, ... or .npy, HDF5 [channels, samples].")
]
Checkpoint = Annotated[Path | None, typer.Option(help="Weights; those that come with the package unless told.")]
EegRate = Annotated[float | None, typer.Option(help="Hz, for EEG files that do not say.")]
EegUnit = Annotated[str | None, typer.Option(help="V, mV or uV, for EEG files that do not say.")]
EegKey = Annotated[str | None, typer.Option(help="Data set in an HDF5 file with several.")]
Montage = Annotated[str | None, typer.Option(help="MNE's name, for checkpoints without sensor positions.")]
NoiseCue = Annotated[bool, typer.Option("--noise-cue", help="White noise in place of the EEG.")]
BudgetOption = Annotated[str, typer.Option("--budget", help="demo (minutes), hour (some 40 minutes) or full (a GPU).")]
ProtocolOption = Annotated[
    str | None,
    typer.Option(
        "--protocol", help="Task, windows, mixing and metrics; the first that the system answers unless told."
    ),
]


app.add_typer(evidence)
app.add_typer(studies)
app.add_typer(speed)


@app.command("list")
def list_(
    what: Annotated[
        str, typer.Argument(help="studies, systems, metrics, controls, splits or protocols; all if empty.")
    ] = "",
    markdown: Annotated[bool, typer.Option("--markdown", help="Of studies: the page of all they declare.")] = False,
) -> None:
    """Show what there is.

    Example: eeg2speech list systems
    """
    from eeg2speech.listing import LISTINGS, listing, studies_in_markdown

    if markdown:
        if what != "studies":
            raise BadInput("command line", "--markdown", "list studies", f"list {what}".strip())
        typer.echo(studies_in_markdown(), nl=False)
        return

    for name in [what] if what else LISTINGS:
        typer.echo(f"{name}:")
        for item, text in listing(name):
            typer.echo(f"  {item:26} {text}")


@app.command()
def train(
    context: typer.Context,
    system: Annotated[
        str,
        typer.Argument(
            help="A system; `eeg2speech list systems` names them. Or codec, autoencoder, vocoder: embedded parts."
        ),
    ],
    study: Study = "simulated-clear",
    split: SplitName = "stimulus",
    budget: BudgetOption = "demo",
    steps: Annotated[int | None, typer.Option(help="Optimiser steps in place of the budget's.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="A setting of the system, key=value.")] = None,
    seed: Seed = 0,
    out: Out = Path("runs"),
    protocol: ProtocolOption = None,
    device: Device = "auto",
    devices: Devices = 1,
    precision: Precision = "auto",
    compiled: Annotated[
        bool, typer.Option("--compile", help="codec only: faster steps; wants a C++ compiler on a CPU.")
    ] = False,
) -> None:
    """Train one system, or an embedded part; an interrupted training goes on where it stopped.

    The parts codec, autoencoder and vocoder learn from the part of the embedded speech that is free for them, in hours.
    They take --out, --steps, --seed and --device alone, the codec also --compile, the others also --budget. The codec's
    quality on held-out speech is printed at the end.

    Example: eeg2speech train dprnn --split stimulus --steps 500

    Example: eeg2speech train codec --out runs --steps 12000 --compile

    Example: eeg2speech train vocoder --out runs --budget hour
    """
    _refuse_options(context, REFUSED.get(system, ONLY_FOR_CODEC), f"train {system}")
    if system == "codec":
        _train_codec(out, steps, seed, device, compiled)
        return
    if system in REFUSED:
        _train_part(system, out, budget, steps, seed, device)
        return
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
    checkpoint: Checkpoint = None,
    controls: Annotated[str, typer.Option(help="Names joined by commas, or all.")] = "true_eeg,noise_cue",
    metric: Annotated[
        str | None,
        typer.Option(help="Metric to print, the task's headline unless told; computed if the protocol has it not."),
    ] = None,
    protocol: ProtocolOption = None,
    jobs: Jobs = 0,
    device: Device = "cpu",
    allow_other_split: Annotated[
        bool, typer.Option("--allow-other-split", help="Score weights that may have been trained on these trials.")
    ] = False,
) -> None:
    """Score a trained system and print one metric by control.

    Example: eeg2speech evaluate dprnn --split stimulus --controls all

    Example: eeg2speech evaluate ridge_mel --protocol demo-generation-1 --checkpoint system.safetensors
    """
    from eeg2speech.controls import CONTROLS
    from eeg2speech.evaluation.api import evaluate as run

    machine = _machine(jobs, device)
    names = list(CONTROLS) if controls == "all" else controls.split(",")
    more = [] if metric is None else [metric]
    result = run(
        system, study, split, names, protocol, checkpoint, machine.jobs, more, machine.device, allow_other_split
    )
    typer.echo(result.table(metric).to_string(index=False, float_format=lambda value: f"{value:.3f}"))


@app.command()
def extract(
    system: Annotated[str, typer.Option(help="A system; `eeg2speech list systems` names them.")],
    audio: Annotated[Path | None, typer.Option(help="The mixture, WAV or FLAC.")] = None,
    eeg: EegFile = None,
    checkpoint: Checkpoint = None,
    target: Annotated[Path | None, typer.Option(help="Clean speech to score against and to plot.")] = None,
    out: Annotated[Path | None, typer.Option(help="extracted.wav, or with --study the folder extracted.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Panels of waveform and spectrogram: png, svg or pdf.")] = None,
    noise_cue: NoiseCue = False,
    device: Device = "cpu",
    eeg_rate: EegRate = None,
    eeg_unit: EegUnit = None,
    eeg_key: EegKey = None,
    eeg_start: Annotated[float | None, typer.Option(help="Second of the EEG at which the audio begins.")] = None,
    start: Annotated[float | None, typer.Option(help="Second of the audio to begin at.")] = None,
    duration: Annotated[float | None, typer.Option(help="Seconds to extract; to the end of both unless told.")] = None,
    channel: Annotated[int | None, typer.Option(help="Which channel of an audio file with several, from 1.")] = None,
    subject: Annotated[str | None, typer.Option(help="Who listens, for systems that use it.")] = None,
    window: Annotated[
        float | None,
        typer.Option(help="Seconds at a time, cross-faded; all at once up to 60 s, else 30 s windows, unless told."),
    ] = None,
    montage: Montage = None,
    study: Annotated[str | None, typer.Option(help="Extract segments of a study in place of files.")] = None,
    split: Annotated[str | None, typer.Option(help="Split of --study; stimulus unless told.")] = None,
    subset: Annotated[str | None, typer.Option(help="Part of --split: train, valid or test, the default.")] = None,
    n_samples: Annotated[int | None, typer.Option(help="Segments of --subset, evenly spread; 3 unless told.")] = None,
) -> None:
    """Extract the attended speech from a recording of your own, or from a few segments of a study.

    EEG is taken as it is: not filtered, no reference changed.

    Example: eeg2speech extract --system dprnn --checkpoint system.safetensors --audio mix.wav --eeg rec.edf

    Example: eeg2speech extract --system dprnn --study simulated-clear --n-samples 3 --noise-cue --out folder
    """
    of_files = {
        "--target": target,
        "--eeg-rate": eeg_rate,
        "--eeg-unit": eeg_unit,
        "--eeg-key": eeg_key,
        "--eeg-start": eeg_start,
        "--start": start,
        "--duration": duration,
        "--channel": channel,
        "--subject": subject,
        "--window": window,
        "--montage": montage,
    }
    of_study = {"--split": split, "--subset": subset, "--n-samples": n_samples}
    files = _files(audio, eeg, study, of_files, of_study)
    if files is None:
        from eeg2speech.evaluation.extract import extract_study

        samples = extract_study(
            system,
            study or "",
            split or "stimulus",
            out=out or Path("extracted"),
            subset=subset or "test",
            count=3 if n_samples is None else n_samples,
            checkpoint=checkpoint,
            noise=noise_cue,
            plot=None if plot is None else str(plot),
            device=device,
        )
        typer.echo("\n".join(_samples_told(samples)))
        return
    from eeg2speech.evaluation.extract import Part, extract_files
    from eeg2speech.evaluation.files import EegOptions

    wav = out or Path("extracted.wav")
    done = extract_files(
        system,
        *files,
        checkpoint=checkpoint,
        target=target,
        out=wav,
        plot=plot,
        options=EegOptions(eeg_rate, eeg_unit, eeg_key),
        part=Part(start or 0.0, duration, eeg_start or 0.0),
        channel=channel,
        subject=subject,
        window=window,
        montage=montage,
        noise=noise_cue,
        device=device,
    )
    typer.echo("\n".join(_extraction_told(done, wav)))


@app.command()
def generate(
    eeg: Annotated[Path, typer.Option(help="EDF, BDF, BrainVision (.vhdr), FIF, ... or .npy, HDF5.")],
    system: Annotated[str, typer.Option(help="A system; `eeg2speech list systems` names them.")] = "eeg2speech",
    checkpoint: Checkpoint = None,
    start: Annotated[float, typer.Option(help="Second of the EEG to begin at.")] = 0.0,
    seconds: Annotated[float | None, typer.Option(help="How much of the EEG; to its end unless told.")] = None,
    out: Annotated[Path, typer.Option(help="The WAV to write.")] = Path("speech.wav"),
    noise_cue: NoiseCue = False,
    seed: Annotated[int, typer.Option(help="Of all that is drawn at random.")] = 0,
    device: Device = "cpu",
    eeg_rate: EegRate = None,
    eeg_unit: EegUnit = None,
    eeg_key: EegKey = None,
    subject: Annotated[
        str | None, typer.Option(help="Who listens; a stranger unless told, to systems that take one.")
    ] = None,
    montage: Montage = None,
    guidance: Annotated[float | None, typer.Option(help="1 follows the EEG, more exaggerates it.")] = None,
    steps: Annotated[int | None, typer.Option(help="Of the solver.")] = None,
    candidates: Annotated[int | None, typer.Option(help="Drawn each time; the nearest to the EEG is kept.")] = None,
) -> None:
    """Generate speech from an EEG file.

    EEG is taken as it is: not filtered, no reference changed. Sampling is that of the checkpoint where it is not told.

    Example: eeg2speech generate --eeg rec.edf --start 10 --seconds 5 --out speech.wav

    Example: eeg2speech generate --system ridge_mel --checkpoint system.safetensors --eeg rec.edf --subject S01
    """
    from eeg2speech.evaluation.files import EegOptions
    from eeg2speech.evaluation.generate import generate_file

    done = generate_file(
        system,
        eeg,
        checkpoint=checkpoint,
        start=start,
        seconds=seconds,
        out=out,
        options=EegOptions(eeg_rate, eeg_unit, eeg_key),
        subject=subject,
        montage=montage,
        noise=noise_cue,
        seed=seed,
        device=device,
        guidance=guidance,
        steps=steps,
        candidates=candidates,
    )
    typer.echo("\n".join(_generation_told(done, out)))


@app.command("export-embeddings")
def export_embeddings(
    checkpoint: Annotated[Path, typer.Option(help="Weights of a brain encoder, trained on this study and split.")],
    out: Annotated[Path, typer.Option(help="Folder to write; dataset_root.json is put in it.")],
    study: Study = "simulated-clear",
    split: SplitName = "stimulus",
    split_seed: Annotated[int, typer.Option(help="Seed of the split.")] = 0,
    parts: Annotated[str, typer.Option(help="Names joined by commas.")] = "train,valid,test",
    seconds: Annotated[float, typer.Option(help="Length of a window.")] = 3.0,
    limit: Annotated[int | None, typer.Option(help="Rows of a part, evenly spread; all unless told.")] = None,
    device: Device = "cpu",
) -> None:
    """Write speech, EEG embedding and speech embedding of a study's windows, as the original project keeps them.

    Example: eeg2speech export-embeddings --study simulated-clear --checkpoint system.safetensors --out data
    """
    from eeg2speech.data.studies.registry import prepare as prepare_study
    from eeg2speech.evaluation.embeddings import check_embeddings
    from eeg2speech.evaluation.embeddings import export_embeddings as export
    from eeg2speech.splits import make_split

    store = prepare_study(study)
    made = make_split(store.index, split, split_seed)
    entry = export(store, made, checkpoint, out, parts.split(","), seconds, limit, device)
    typer.echo("\n".join([f"{entry}:", *_rows_told(check_embeddings(entry))]))


@app.command("check-embeddings")
def check_embeddings(
    root_json: Annotated[Path, typer.Argument(help="dataset_root.json of the original project, or an export.")],
    dataset: Annotated[str | None, typer.Option(help="Its name in there; the only one unless told.")] = None,
    base: Annotated[
        Path | None, typer.Option(help="Where relative paths begin; the working directory unless told.")
    ] = None,
) -> None:
    """Read every row of every part that is there. Ends with status 2 at the first that cannot be used.

    Example: eeg2speech check-embeddings data/dataset_root.json
    """
    from eeg2speech.evaluation.embeddings import check_embeddings as check

    typer.echo("\n".join([f"{root_json}:", *_rows_told(check(root_json, dataset, base))]))


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
    from eeg2speech.report.everything import render_run
    from eeg2speech.report.terminal import summary

    machine = _machine(jobs, device, devices, precision)
    records = run_suite(read_suite(suite), out, machine, typer.echo)
    leaderboard, page = render_run(records.root, out, suite=str(suite))
    typer.echo(summary(records))
    typer.echo(f"{leaderboard}, {page}")


@app.command()
def ablation(
    suite: Annotated[Path, typer.Argument(help="A YAML file that says what varies: those of benchmarks/suites.")],
    out: Out = Path("runs/ablations"),
    results: Annotated[
        Path | None, typer.Option(help="Folder for records, table and figure; `results` in --out unless told.")
    ] = None,
    jobs: Jobs = 0,
    device: Device = "auto",
    devices: Devices = 1,
    precision: Precision = "auto",
) -> None:
    """Do what is missing of a suite in which one thing varies, then write its table and figure from the records.

    Networks that hear no EEG are shared by all suites with one --out. Records lie in a folder of the suite's name.

    Example: eeg2speech ablation benchmarks/suites/channels.yaml --out runs/ablations --results results/ablations
    """
    from eeg2speech.evaluation.run import run_suite
    from eeg2speech.evaluation.suite import read_suite
    from eeg2speech.report.ablation import render_ablation

    machine, found, folder = _machine(jobs, device, devices, precision), read_suite(suite), results or out / "results"
    if found.varies is None:
        raise BadInput(suite, "varies", "what varies, and the value of each system", "nothing: use `eeg2speech run`")
    records = run_suite(found, out, machine, typer.echo, folder / found.name)
    typer.echo("\n".join(str(path) for path in render_ablation(found, records, folder)))


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
    from eeg2speech.processes import cores, without_collector
    from eeg2speech.team import Team

    with without_collector(last=True), Team(cores(), "eeg2speech.report.chapter") as team:
        # All of the team load this at once.
        from eeg2speech.report.leaderboard import render_leaderboard
        from eeg2speech.report.stale import is_stale

        stale = check and is_stale(results, out, figures, team)
        if not check:
            render_leaderboard(results, out, figures=figures, team=team)
    if check:
        typer.echo(f"{out} is {'stale: run `eeg2speech leaderboard`' if stale else 'up to date'}")
        raise typer.Exit(int(stale))
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


def _refuse_options(context: typer.Context, names: Sequence[str], command: str) -> None:
    """Refuse options that were given and mean nothing here: in silence, they would seem to have been heeded."""
    for parameter in (parameter for parameter in context.command.params if parameter.name in names):
        source = context.get_parameter_source(parameter.name or "")
        if source is not None and source.name == "COMMANDLINE":
            raise BadInput("command line", parameter.opts[0], f"no such option with `{command}`", "it was given")


def _train_codec(out: Path, steps: int | None, seed: int, device: str, compiled: bool) -> None:
    from eeg2speech.evaluation.codec import codec_quality, train_codec
    from eeg2speech.processes import cores
    from eeg2speech.systems.codecs import load_codec

    path = train_codec(out, steps, seed, device, compiled, typer.echo)
    typer.echo(codec_quality(load_codec(path), jobs=cores()).round(3).to_string())
    typer.echo(f"trained codec: {path}")


def _train_part(part: str, out: Path, budget: str, steps: int | None, seed: int, device: str) -> None:
    from eeg2speech.evaluation.codec import train_part
    from eeg2speech.training.budget import Budget

    # Both refuse an unknown name before anything runs.
    path = train_part(part, out, Budget(budget, steps), seed, device)  # type: ignore[arg-type]
    typer.echo(f"trained {part}: {path}")


def _work(
    system: str,
    study: str,
    split: str,
    seed: int,
    budget: str,
    protocol: str | None,
    steps: int | None,
    settings: list[str] | None,
) -> Work:
    import yaml

    from eeg2speech.evaluation.protocol import protocol_for
    from eeg2speech.evaluation.suite import Work
    from eeg2speech.systems.registry import declare, system_class
    from eeg2speech.training.budget import Budget

    pairs = dict(pair(text) for text in settings or [])
    given = {key: yaml.safe_load(value) for key, value in pairs.items()}
    declaration = declare({"system": system, "settings": given, "steps": steps}, "command line")
    label = protocol or protocol_for(system_class(system).facts.tasks)
    # Budget refuses an unknown name before anything runs.
    return Work(declaration, study, split, seed, Budget(budget).name, label)  # type: ignore[arg-type]


def _files(
    audio: Path | None, eeg: Path | None, study: str | None, of_files: dict[str, Any], of_study: dict[str, Any]
) -> tuple[Path, Path] | None:
    """Audio and EEG to extract from, or None for segments of a study; a mixture of both, or neither, is refused."""
    where, expected = "command line", "either --audio and --eeg, or --study"
    given = {"--audio": audio, "--eeg": eeg, "--study": study}
    named = [name for name, value in given.items() if value is not None]
    if named not in (["--audio", "--eeg"], ["--study"]):
        raise BadInput(where, "what to extract", expected, " and ".join(named) or "none of them")
    others = of_files if study is not None else of_study
    stray = [name for name, value in others.items() if value is not None]
    if stray:
        raise BadInput(where, stray[0], f"no such option with {' and '.join(named)}", repr(others[stray[0]]))
    return None if audio is None or eeg is None else (audio, eeg)


def _extraction_told(done: Extraction, wav: Path) -> list[str]:
    lines = [f"weights: {done.weights}", f"{wav}: {len(done.estimate) / done.rate:.3f} s at {done.rate} Hz"]
    return [*lines, _si_sdr(done.si_sdr)] if done.si_sdr else lines


def _generation_told(done: Generation, wav: Path) -> list[str]:
    sampling = ", ".join(f"{name} {value}" for name, value in done.settings.items())
    pieces = "one window" if done.windows == 1 else f"{done.windows} windows, cross-faded"
    eeg = f"listener: {done.listener}; EEG: {done.control}"
    written = f"{wav}: {len(done.speech) / done.rate:.3f} s at {done.rate} Hz, {pieces}"
    return [f"weights: {done.weights}", eeg, f"settings: {sampling}", written]


def _rows_told(parts: dict[str, list[EmbeddingRow]]) -> list[str]:
    sizes = {part: (list(rows[0].eeg_shape), list(rows[0].speech_shape)) for part, rows in parts.items()}
    return [f"{part}: {len(rows)} rows, EEG {sizes[part][0]}, speech {sizes[part][1]}" for part, rows in parts.items()]


def _samples_told(samples: list[Sample]) -> list[str]:
    found = [f"{sample.folder}: {sample.title}\n  {_si_sdr(sample.si_sdr)}" for sample in samples]
    return [f"weights: {samples[0].weights}", *found]


def _si_sdr(scores: dict[str, Score]) -> str:
    parts = [f"{name} {found.reason or f'{found.value:.2f} dB'}" for name, found in scores.items()]
    return f"SI-SDR: {', '.join(parts)}"


def _machine(jobs: int, device: str, devices: int = 1, precision: str = "auto") -> Machine:
    from eeg2speech.evaluation.suite import Machine
    from eeg2speech.processes import cores

    return Machine(jobs or cores(), device, devices, precision)


if __name__ == "__main__":
    main()
