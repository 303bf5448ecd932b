"""The pages of latency: tables of all that was measured, a page a device, from records alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from eeg2speech.records.files import write_atomically
from eeg2speech.records.latency import TAIL_ROUNDS, Case, Growth, Latency, LatencyStore, Streaming, slug
from eeg2speech.report.blocks import Block, Code, Heading, Text
from eeg2speech.report.leaderboard import to_markdown
from eeg2speech.report.speed import devices_of, factor
from eeg2speech.report.tables import NOTHING, Table, number, size

PAGE = "index.md"
WORDS = frozenset(
    {"system", "task", "weights", "precision", "mode", "stage", "how", "axis", "what is timed", "failure"}
)
AXES = {
    "seconds": "length of the segment (s)",
    "electrodes": "electrodes",
    "candidates": "candidates a segment",
    "training": "share of the training part",
}
READ = (
    "The standard case is one segment of 4 s in float32, without compilation. Times are medians over the rounds; p90 "
    f"and p99 are of the rounds too, and p99 is but the slowest where there are fewer than {TAIL_ROUNDS}. All rounds "
    "are in the records.",
    "Real-time factor: seconds of computation a second of speech. Below 1 a system keeps up, if it may wait for the "
    "end of the segment.",
    "Memory is what an answer needs at most beyond the built system. Of a CPU it is the growth of the process, looked "
    "at every 2 ms: what the process had kept free for itself is not in it.",
    "Multiply-accumulates are those of products of matrices and convolutions; Fourier transforms, element-wise work "
    "and what is not torch are not counted.",
    "Networks whose weights are `initial` were not trained: their answers are worth nothing and take as long.",
)
STREAMED = (
    "Algorithmic latency: seconds of input beyond a moment that must be there before its sound can go out, whatever "
    "the computer's speed. A call is late when it ends after the next chunk has come. What carries no state from chunk "
    "to chunk is asked about the last window as a whole, and of its answer the newest hop is taken: the hop is its "
    "algorithmic latency, and its sound has no context from the future, unlike in the scores of the leaderboard. "
    "`by the clock` says whether chunks came at their time, or calls followed each other and lateness was computed."
)


class Slope(NamedTuple):
    """Exponent of a power law fitted by least squares to logarithms, and its standard error."""

    exponent: float
    error: float | None


def render_latency(root: Path) -> Iterator[Path]:
    """Write a page and a figure of the cost curves for each device, beside its records; yields their paths."""
    from eeg2speech.report.latency_figure import growth_svg

    latencies = LatencyStore(root).read_all()
    for device in devices_of(latencies):
        of_device = [latency for latency in latencies if latency.device == device]
        folder, figures = root / slug(device), []
        for axis in AXES:
            if any(growth.axis == axis for latency in of_device for growth in latency.growth):
                figures.append((axis, f"growth_{axis}.svg"))
                write_atomically(folder / figures[-1][1], growth_svg(of_device, axis).encode("utf-8"))
                yield folder / figures[-1][1]
        text = to_markdown(tuple(device_blocks(of_device, figures)), ".")
        write_atomically(folder / PAGE, text.encode("utf-8"))
        yield folder / PAGE


def device_blocks(latencies: Sequence[Latency], figures: Sequence[tuple[str, str]]) -> Iterator[Block]:
    """All that was measured on one device."""
    yield Heading(1, f"Latency: {latencies[0].device}")
    yield from map(Text, _machines(latencies))
    yield Text("Made from the records alone. To measure a system on another machine:")
    yield Code("eeg2speech profile dprnn --out results/latency\neeg2speech report")
    yield from (Text(line, bullet=True) for line in READ)
    yield Heading(2, "The standard case")
    yield standard_table(latencies)
    yield Heading(2, "While the signal comes")
    yield Text(STREAMED)
    yield streams_table(latencies)
    yield Heading(2, "Where the time goes")
    yield Text("Parts of an answer in the standard case, by hooks around them; in brackets the calls an answer.")
    yield stages_table(latencies)
    yield Heading(2, "Other ways to ask")
    yield cases_table(latencies)
    yield from _growth_blocks(latencies, figures)


def standard_table(latencies: Iterable[Latency]) -> Table:
    """A row a system: latency, tail, real-time factor, memory, size, products."""
    header = (
        *("system", "task", "weights", "p50 (ms)", "p90 (ms)", "p99 (ms)", "rounds", "real-time factor"),
        *("segments a second", "first answer (ms)", "memory (MB)", "parameters", "MMAC", "GMAC a second of speech"),
        "energy (J)",
    )
    return Table(header, tuple(_standard_row(latency) for latency in latencies), WORDS)


def streams_table(latencies: Iterable[Latency]) -> Table:
    """A row a system and chunk size."""
    header = (
        *("system", "how", "chunk (ms)", "signal (s)", "by the clock", "algorithmic latency (s)", "p50 (ms)"),
        *("p99 (ms)", "slowest (ms)", "real-time factor", "late", "longest delay (ms)", "state (kB)"),
    )
    rows = tuple(_stream_row(latency, stream) for latency in latencies for stream in latency.streams)
    return Table(header, rows, WORDS | {"by the clock"})


def stages_table(latencies: Iterable[Latency]) -> Table:
    """A row a stage of a system."""
    rows = []
    for latency in latencies:
        whole = sum(stage.seconds for stage in latency.stages) or 1.0
        for stage in latency.stages:
            share = f"{100 * stage.seconds / whole:.0f}"
            rows.append((latency.label, f"{stage.name} ({stage.calls})", _ms(stage.seconds), share))
    return Table(("system", "stage", "ms", "per cent"), tuple(rows), WORDS)


def cases_table(latencies: Iterable[Latency]) -> Table:
    """A row a way to ask, against the standard case of the same system."""
    header = (
        *("system", "batch", "segment (s)", "precision", "mode", "threads", "p50 (ms)", "p99 (ms)"),
        *("real-time factor", "segments a second", "memory (MB)", "time over standard, a segment", "failure"),
    )
    rows = (_case_row(latency, case) for latency in latencies for case in latency.cases[1:])
    return Table(header, tuple(rows), WORDS)


def slope(growth: Growth, values: Sequence[float]) -> Slope | None:
    """Exponent with which ``values`` grow along the axis: 1 is in proportion. None where a value is not positive."""
    if min(values) <= 0:
        return None
    x, y = [math.log(value) for value in growth.values], [math.log(value) for value in values]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    spread = sum((a - mean_x) ** 2 for a in x)
    exponent = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / spread
    if len(x) < 3:
        return Slope(exponent, None)
    left = sum((b - mean_y - exponent * (a - mean_x)) ** 2 for a, b in zip(x, y, strict=True))
    return Slope(exponent, math.sqrt(left / (len(x) - 2) / spread))


def _machines(latencies: Sequence[Latency]) -> Iterator[str]:
    machines = {tuple(sorted(latency.machine.items())) for latency in latencies}
    for machine in sorted(machines):
        yield "; ".join(f"{name} {value}" for name, value in machine) + "."
    commits = sorted({(latency.code.commit or "unknown")[:10] for latency in latencies})
    clock = max(latency.clock for latency in latencies)
    used = max(state.get("used_by_others", 0.0) for latency in latencies for state in latency.conditions)
    yield (
        f"{len(latencies)} records, commit {', '.join(commits)}. The clock tells {clock:.1g} s apart. Other processes "
        f"used at most {100 * used:.0f} % of the cores before and after a system was measured."
    )


def _standard_row(latency: Latency) -> tuple[str, ...]:
    case = latency.standard
    products = case.macs
    rate = None if products is None else products / (case.batch * case.seconds) / 1e9
    return (
        *(latency.label, latency.task, latency.weights, *(_ms(case.percentile(p)) for p in (0.5, 0.9, 0.99))),
        *(str(len(case.rounds)), factor(case.real_time_factor), number(case.throughput, 1), _ms(case.first)),
        *(number(case.peak_megabytes, 0), size(latency.parameters)),
        *(number(None if products is None else products / 1e6, 1), number(rate, 3), number(case.joules, 2)),
    )


def _stream_row(latency: Latency, stream: Streaming) -> tuple[str, ...]:
    how = "chunks" if stream.window is None else f"window of {stream.window:g} s"
    state = None if stream.state_bytes is None else stream.state_bytes / 1e3
    return (
        *(latency.label, how, number(1000 * stream.chunk, 0), number(stream.signal, 0)),
        *("yes" if stream.paced else "no", number(stream.algorithmic, 3), _ms(stream.at(0.5)), _ms(stream.at(0.99))),
        *(_ms(stream.at(1.0)), factor(stream.real_time_factor), f"{stream.missed} of {stream.calls}"),
        *(_ms(stream.worst_delay), number(state, 0)),
    )


def _case_row(latency: Latency, case: Case) -> tuple[str, ...]:
    base, own = latency.standard.percentile(0.5), case.percentile(0.5)
    ratio = None if base is None or own is None else own / case.batch / base
    return (
        *(latency.label, str(case.batch), f"{case.seconds:g}", case.precision),
        *("compiled" if case.compiled else "eager", str(case.threads), _ms(own), _ms(case.percentile(0.99))),
        *(factor(case.real_time_factor), number(case.throughput, 1), number(case.peak_megabytes, 0)),
        *(number(ratio, 2), case.failure or ""),
    )


def _growth_blocks(latencies: Sequence[Latency], figures: Sequence[tuple[str, str]]) -> Iterator[Block]:
    rows = [_growth_row(latency, growth) for latency in latencies for growth in latency.growth]
    if not rows:
        return
    yield Heading(2, "How cost grows")
    yield Text(
        "Exponents of power laws, fitted by least squares to the logarithms, with their standard errors: 1 is in "
        "proportion, 2 four times as much for twice as much, 0 not at all."
    )
    header = ("system", "axis", "what is timed", "from", "to", "time: exponent", "memory: exponent")
    yield Table(header, tuple(rows), WORDS)
    yield from (Text(f"![Time against {AXES[axis]}]({file})") for axis, file in figures)


def _growth_row(latency: Latency, growth: Growth) -> tuple[str, ...]:
    ends = (f"{growth.values[0]:g}", f"{growth.values[-1]:g}")
    found = (_slope(slope(growth, values)) for values in (growth.seconds, growth.megabytes))
    return (latency.label, AXES[growth.axis], growth.what, *ends, *found)


def _slope(found: Slope | None) -> str:
    if found is None:
        return NOTHING
    return number(found.exponent, 2) if found.error is None else f"{found.exponent:.2f} ± {found.error:.2f}"


def _ms(seconds: float | None) -> str:
    """Milliseconds, to three digits or a hundredth."""
    if seconds is None:
        return NOTHING
    value = 1000 * seconds
    return number(value, 0 if value >= 100 else 1 if value >= 10 else 2)
