"""Files as those of SparrKULee: short, whole in form, of noise; and the derivatives that its authors make of them."""

from __future__ import annotations

import gzip
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

RATE, SOUND, CHANNELS, FEATURE = 1024, 48_000, 64, 64
"""Hz of EEG, sound and features."""
ONSET, SECONDS, TAIL = 2.25, 6.41, 1.5
"""Second of the EEG at which speech begins, how long it is, and how long the EEG goes on after it."""
AMPLIFIER = tuple(f"{side}{n}" for side in "AB" for n in range(1, 33))
STIMULI = ("audiobook_7_5", "podcast_3")
COLUMNS = ("onset", "duration", "stim_file", "trigger_file", "noise_file", "video_file", "condition", "snr")
PULSE = 50
"""Samples of the trigger file."""


def noise(*shape: int, seed: int = 0, scale: float = 20.0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def pulse_times(seconds: float = SECONDS) -> np.ndarray:
    """One a second, and one at the end."""
    return np.append(np.arange(0.0, seconds - 0.1), seconds - 2 * PULSE / SOUND)


def bdf(
    microvolt: np.ndarray,
    status: np.ndarray,
    rate: int = RATE,
    names: Sequence[str] = AMPLIFIER,
    records: int | None = None,
    unit: str = "uV",
) -> bytes:
    """Of EEG [C, N] and the trigger channel [N], in records of one second; what is no whole second is left out."""
    count, seconds = len(microvolt) + 1, microvolt.shape[1] // rate
    digital = np.vstack([np.round(microvolt * 32), status[None]]).astype("<i4")[:, : seconds * rate]
    fields = [
        (16, [*names, "Status"]),
        (80, [""] * count),
        (8, [unit] * (count - 1) + ["Boolean"]),
        (8, ["-262144"] * (count - 1) + ["-8388608"]),
        (8, ["262144"] * (count - 1) + ["8388607"]),
        (8, ["-8388608"] * count),
        (8, ["8388607"] * count),
        (80, [""] * count),
        (8, [str(rate)] * count),
        (32, [""] * count),
    ]
    head = b"\xffBIOSEMI" + f"{'':80}{'':80}{'01.01.2000.00.00':16}{256 * (count + 1):<8}{'24BIT':44}".encode()
    head += f"{seconds if records is None else records:<8}{1:<8}{count:<4}".encode()
    head += b"".join(f"{value:<{width}}".encode("latin-1") for width, values in fields for value in values)
    blocks = digital.reshape(count, seconds, rate).transpose(1, 0, 2)
    body = np.ascontiguousarray(blocks).view(np.uint8).reshape(*blocks.shape, 4)[..., :3]
    return head + body.tobytes()


def status(
    samples: int, onsets: Sequence[float] | np.ndarray, rate: int = RATE, rest: int = 0xFF00, on: int = 1
) -> np.ndarray:
    """The trigger channel, with bits above the lower 16 set, as the amplifier does."""
    made = np.full(samples, rest)
    for onset in onsets:
        place = int(np.ceil(onset * rate - 1e-9))
        made[place : place + max(rate * PULSE // SOUND, 2)] = rest ^ on
    return made | 0x100000


def npz(audio: np.ndarray, rate: object = SOUND, **more: np.ndarray) -> bytes:
    """Not compressed, as the published ones."""
    held = io.BytesIO()
    np.savez(held, audio=audio, fs=np.int64(rate), **more)  # type: ignore[call-overload]
    return held.getvalue()


def pulses(seconds: float = SECONDS, rate: int = SOUND) -> np.ndarray:
    made = np.zeros(round(seconds * rate), np.float32)
    for time in pulse_times(seconds):
        made[round(time * rate) :][:PULSE] = 1
    return made


def zipped(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content, 1, mtime=0))
    return path


def write_stimulus(root: Path, name: str, seconds: float = SECONDS, audio: np.ndarray | None = None) -> None:
    folder = root / "stimuli" / "eeg"
    made = noise(round(seconds * SOUND), seed=len(name), scale=0.05) if audio is None else audio
    zipped(folder / f"{name}.npz.gz", npz(made))
    zipped(folder / f"t_{name}.npz.gz", npz(pulses(seconds)))


def row(stimulus: str, **given: object) -> dict[str, object]:
    """Of a table of events."""
    made: dict[str, object] = {
        **dict.fromkeys(COLUMNS, "n/a"),
        "onset": ONSET,
        "duration": SECONDS,
        "stim_file": f"eeg/{stimulus}.npz.gz",
        "trigger_file": f"eeg/t_{stimulus}.npz.gz",
        "condition": "quiet",
    }
    return made | given


def write_events(path: Path, rows: Sequence[dict[str, object]], columns: Sequence[str] = COLUMNS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["\t".join(columns), *("\t".join(str(each[name]) for name in columns) for each in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def stem_of(subject: int, run: int, session: str = "varyingStories01") -> str:
    return f"sub-{subject:03d}_ses-{session}_task-listeningActive_run-{run:02d}"


def eeg_path(root: Path, stem: str) -> Path:
    subject, session = stem.split("_")[:2]
    return root / subject / session / "eeg" / f"{stem}_eeg.bdf.gz"


def write_run(
    root: Path,
    stem: str,
    rows: Sequence[dict[str, object]],
    eeg: np.ndarray | None = None,
    onsets: Sequence[float] | np.ndarray | None = None,
    rate: int = RATE,
    **given: object,
) -> Path:
    """A recording, its table of events and its results. Triggers are as the first stimulus has them."""
    length = round((ONSET + SECONDS + TAIL) * rate)
    signal = noise(CHANNELS, length, seed=sum(map(ord, stem))) if eeg is None else eeg
    marks = ONSET + pulse_times() if onsets is None else onsets
    path = zipped(eeg_path(root, stem), bdf(signal, status(signal.shape[1], marks, rate), rate, **given))  # type: ignore[arg-type]
    write_events(path.with_name(f"{stem}_events.tsv"), rows)
    path.with_name(f"{stem}_eeg.apr").write_text(apr())
    return path


def apr(snr: object = None) -> str:
    entry = f"<entry><description>SNR</description><new_value>{snr}</new_value></entry>"
    inner = f"<interactive>{'' if snr is None else entry}</interactive>"
    return f'<?xml version="1.0"?><apex:results xmlns:apex="http://med.kuleuven.be/exporl/apex/results">{inner}</apex:results>'


def write_study(root: Path) -> Path:
    """Two people; one hears two stimuli, the other one in noise."""
    for name in STIMULI:
        write_stimulus(root, name)
    write_run(root, stem_of(27, 2), [row(STIMULI[0])])
    write_run(root, stem_of(27, 10), [row(STIMULI[1])])
    noisy = row(STIMULI[0], noise_file="eeg/audiobook_6_1_swn.npz.gz", condition="in_noise", snr=-4)
    write_run(root, stem_of(5, 1), [noisy])
    return root


def write_features(root: Path, bands: int = 28, fortran: bool = False, separator: str = "_-_") -> Path:
    """What the authors make: EEG [64, T] as they prepare it, and features [T, F] of stimuli, of other lengths."""
    made = root / "derivatives"
    for subject, stimulus in ((27, STIMULI[0]), (27, STIMULI[1]), (5, STIMULI[0])):
        run = 1 + STIMULI.index(stimulus)
        stem = stem_of(subject, run)
        folder = made / "preprocessed_eeg" / f"sub-{subject:03d}" / "ses-varyingStories01"
        save(folder / f"{stem}_desc-preproc-audio-{stimulus}_eeg.npy", whole_eeg(subject, stimulus).T, fortran)
    for stimulus in STIMULI:
        folder = made / "preprocessed_stimuli"
        save(folder / f"{stimulus}{separator}envelope.npy", envelope(stimulus), fortran)
        save(folder / f"{stimulus}{separator}mel.npy", mel(stimulus, bands), fortran)
        (folder / f"{stimulus}.data_dict").write_bytes(b"a pickle, not to be opened")
    return root


def write_split(root: Path, bands: int = 28) -> Path:
    """Parts of 80, 10 and 10 %, samples by channels."""
    folder = root / "derivatives" / "split_data"
    for subject, stimulus in ((27, STIMULI[0]), (27, STIMULI[1]), (5, STIMULI[0])):
        for part, begin, end in (("train", 0, 400), ("val", 400, 450), ("test", 450, 500)):
            stem = f"{part}_-_sub-{subject:03d}_-_{stimulus}_-_"
            save(folder / f"{stem}eeg.npy", whole_eeg(subject, stimulus)[begin:end])
            save(folder / f"{stem}envelope.npy", envelope(stimulus)[begin:end])
            save(folder / f"{stem}mel.npy", mel(stimulus, bands)[begin:end])
    return root


def whole_eeg(subject: int, stimulus: str) -> np.ndarray:
    return noise(520, CHANNELS, seed=100 * subject + len(stimulus)).astype(np.float64)


def envelope(stimulus: str) -> np.ndarray:
    return np.abs(noise(505, 1, seed=len(stimulus))).astype(np.float64)


def mel(stimulus: str, bands: int) -> np.ndarray:
    return np.abs(noise(500, bands, seed=len(stimulus)))


def save(path: Path, array: np.ndarray, fortran: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.asfortranarray(array) if fortran else np.ascontiguousarray(array))
    return path
