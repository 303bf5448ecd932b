"""Waveform and spectrogram of a few signals side by side, on shared axes: to see what a system did to a mixture."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from eeg2speech.errors import BadInput
from eeg2speech.records.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

FORMATS = ("png", "svg", "pdf")
WINDOW_SECONDS, HOP_SECONDS = 0.032, 0.008
COLUMNS = 1200
"""Most points of a line and frames of a spectrogram: more than a panel has pixels."""
DYNAMIC_DB = 70.0
"""How far below the loudest bin of all signals the colours reach."""

Array = NDArray[np.float64]


def check_format(path: Path) -> None:
    """Refuse a file that ``save_panels`` cannot write, by its suffix."""
    if path.suffix.lower().lstrip(".") not in FORMATS:
        raise BadInput(path, "--plot", f"a file ending in .{', .'.join(FORMATS)}", repr(path.suffix))


def save_panels(path: Path, signals: Mapping[str, NDArray[Any]], rate: int, title: str = "") -> None:
    """Write the panels to ``path``. Raises BadInput for another suffix than png, svg or pdf, and as ``draw_panels``."""
    from matplotlib import rc_context

    check_format(path)
    sink = io.BytesIO()
    with rc_context():
        draw_panels(signals, rate, title).savefig(sink, format=path.suffix.lower().lstrip("."), dpi=150)
    write_atomically(path, sink.getvalue())


def draw_panels(signals: Mapping[str, NDArray[Any]], rate: int, title: str = "") -> Canvas:
    """One column a signal: waveform above, spectrogram below. Axes and colours are shared, so that columns compare.

    Args:
        signals: name -> [T], all of one length, full scale 1.0.
        rate: Hz. title: written above all.

    Raises:
        BadInput: no signal, signals of different lengths, or of none.
    """
    from matplotlib.figure import Figure as Canvas

    length = _common_length(signals)
    canvas = Canvas(figsize=(1.4 + 3.2 * len(signals), 4.4), layout="constrained")
    grid = canvas.subplots(2, len(signals), sharex=True, sharey="row", squeeze=False, height_ratios=(1, 1.6))
    pictures = {name: spectrogram_db(wave, rate) for name, wave in signals.items()}
    top = max(float(picture.max()) for picture in pictures.values())
    for column, (name, wave) in enumerate(signals.items()):
        _waveform(grid[0, column], name, wave, rate)
        image = _picture(grid[1, column], pictures[name], top, length / rate, rate)
    grid[0, 0].set_ylabel("amplitude")
    grid[1, 0].set_ylabel("frequency (kHz)")
    canvas.colorbar(image, ax=grid[1, :].tolist(), label="power (dB, loudest bin of all: 0)", pad=0.01)
    if title:
        canvas.suptitle(title, fontsize=10, color="#333333")
    return canvas


def spectrogram_db(wave: NDArray[Any], rate: int) -> Array:
    """Power in dB [F, frames] of [T] at ``rate`` Hz, frequencies from 0 to half the rate.

    Hann windows of 32 ms, a frame every 8 ms; in a signal so long that there would be too many, frames lie further
    apart and what is between them is not shown.
    """
    size = min(round(WINDOW_SECONDS * rate), len(wave))
    frames = min(COLUMNS, 1 + (len(wave) - size) // max(1, round(HOP_SECONDS * rate)))
    begins = np.linspace(0, len(wave) - size, frames).round().astype(int)
    windows = np.stack([wave[begin : begin + size] for begin in begins]).astype(np.float64)
    power = np.abs(np.fft.rfft(windows * np.hanning(size + 2)[1:-1])) ** 2
    decibel: Array = 10 * np.log10(np.maximum(power.T, 1e-20))
    return decibel


def _common_length(signals: Mapping[str, NDArray[Any]]) -> int:
    lengths = {len(wave) for wave in signals.values()}
    if len(lengths) != 1 or 0 in lengths:
        found = ", ".join(f"{name} {list(wave.shape)}" for name, wave in signals.items())
        raise BadInput("panels", "signals", "one or more of one length", found or "none")
    return lengths.pop()


def _waveform(axes: Axes, name: str, wave: NDArray[Any], rate: int) -> None:
    """Lowest and highest sample of each of many short stretches: no peak is lost, however long the signal is."""
    edges = np.linspace(0, len(wave), min(COLUMNS, len(wave)) + 1).astype(int)[:-1]
    low, high = np.minimum.reduceat(wave, edges), np.maximum.reduceat(wave, edges)
    axes.fill_between(edges / rate, low, high, color="#0173b2", linewidth=0.5, edgecolor="#0173b2")
    axes.set_title(name, loc="left", fontsize=10, color="#333333")
    axes.grid(color="#e6e6e6", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _picture(axes: Axes, picture: Array, top: float, seconds: float, rate: int) -> Any:
    extent = (0.0, seconds, 0.0, rate / 2000)
    image = axes.imshow(
        picture - top, origin="lower", aspect="auto", extent=extent, vmin=-DYNAMIC_DB, vmax=0, cmap="magma"
    )
    axes.set_xlabel("time (s)")
    axes.set_xlim(0, seconds)
    return image
