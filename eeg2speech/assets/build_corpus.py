"""Build the embedded speech corpus from Debian's asterisk-core-sounds packages.

Usage::

    apt-get download asterisk-core-sounds-{en,es,fr,it,ru}-g722
    python eeg2speech/assets/build_corpus.py --packages FOLDER --out eeg2speech/assets/speech

FOLDER holds the ``.deb`` files or the folders that ``dpkg -x`` made of them. Needs ``ffmpeg`` with libopus (and
``dpkg`` where there are ``.deb`` files). The same packages and the same ffmpeg/libopus give the same bytes.

Rules, in this order:

1. Left out by name: ``tone*``, ``*tone``, ``beep*``, ``silence/*`` and ``tt-monkeys`` (animal noises).
2. Left out as a duplicate: a file with the same bytes as an earlier one, in any language.
3. Trimmed: frames more than 38 dB below the file's loud level (95th percentile of 10 ms frames) are pause. Leading and
   trailing pause goes (30 ms of it stay), inner pauses longer than 0.3 s are shortened to 0.3 s.
4. Left out as too short: 1.5 s or less after that.
5. Left out as not speech: median spectral flatness of the active frames above 0.4 (noise), envelope variation
   (standard deviation over mean) below 0.4 (tones, hum, music), or a beep: one spectral line above 350 Hz that holds
   more than 95 % of the power for at least 0.12 s.
6. Left out as a re-edit: half or more of its one-second windows occur, as the same recording, in longer utterances of
   the same speaker (band envelopes propose the place, cross-correlation of the waveforms decides). This keeps
   re-used recordings off both sides of a split by utterance; phrases shared below that limit stay.
7. Brought to -26 dBFS active-speech RMS (less where the peak would pass 0.9 of full scale).
8. Joined per language in the order of a seeded hash of the name, with 0.15 s of digital silence between utterances.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

RATE = 16_000
FRAME = RATE // 100  # 10 ms
PAUSE_BELOW_DB = 38.0
LONGEST_PAUSE = 30  # frames, 0.3 s
EDGE = 3  # frames of pause kept at either end
SHORTEST_SECONDS = 1.5
ACTIVE_BELOW_DB = 25.0
TARGET_DB = -26.0
PEAK = 0.9
GAP = int(0.15 * RATE)
SEED = "eeg2speech-corpus-1"
SKIPPED_NAMES = ("tone*", "*tone", "beep*", "silence/*", "tt-monkeys")
FLATTEST, LEAST_VARIATION = 0.4, 0.4
BEEP_ABOVE_HZ, BEEP_SHARE, BEEP_SECONDS = 350.0, 0.95, 0.12
SHARED_AT_MOST = 0.5
ENCODER = "ffmpeg libopus, voip, vbr"

Signal = NDArray[np.float32]


@dataclass(frozen=True)
class Source:
    """One language's package: who speaks, under which licence, and how the sound files' folder is called."""

    language: str
    speaker: str
    speaker_name: str
    licence: str
    folder: str

    @property
    def package(self) -> str:
        """Name of the Debian package."""
        return f"asterisk-core-sounds-{self.language}-g722"


SOURCES = (
    Source("en", "allison-smith", "Allison Smith", "CC-BY-SA-3.0", "en_US_f_Allison"),
    Source("es", "allison-smith", "Allison Smith", "CC-BY-SA-3.0", "es_MX_f_Allison"),
    Source("fr", "june-wallack", "June Wallack", "CC-BY-SA-3.0", "fr_CA_f_June"),
    Source("it", "carlo-flora", "Carlo Flora", "CC-BY-3.0", "it_IT_m_Carlo"),
    Source("ru", "ivrvoice-ru", "IVRvoice.ru (provided by Maxim Topal)", "CC-BY-3.0", "ru_RU_f_IvrvoiceRU"),
)


@dataclass
class Clip:
    """One utterance on its way into a track."""

    source: Source
    name: str
    path: str
    signal: Signal

    @property
    def key(self) -> str:
        """Name that is unique in the corpus, e.g. ``en/vm-intro``."""
        return f"{self.source.language}/{self.name}"


def frame_rms(signal: Signal) -> NDArray[np.float64]:
    """RMS of each whole 10 ms frame of ``signal`` [samples], as [frames], in units of full scale."""
    frames = signal[: len(signal) // FRAME * FRAME].reshape(-1, FRAME).astype(np.float64)
    return np.asarray(np.sqrt((frames**2).mean(axis=1)), dtype=np.float64)


def active_mask(signal: Signal, below_db: float = ACTIVE_BELOW_DB) -> NDArray[np.bool_]:
    """Which 10 ms frames of ``signal`` are less than ``below_db`` under its loud level (95th percentile), [frames]."""
    rms = frame_rms(signal)
    return np.asarray(rms > max(float(np.percentile(rms, 95)) * 10 ** (-below_db / 20), 1e-5), dtype=np.bool_)


def active_rms_db(signal: Signal) -> float:
    """Active-speech level of ``signal`` [samples] in dBFS (full scale = an RMS of 1)."""
    rms = frame_rms(signal)[active_mask(signal)]
    return float(10 * np.log10(np.mean(rms**2))) if len(rms) else -np.inf


def decode(path: Path) -> Signal:
    """Decode one G.722 file to float32 [samples] in [-1, 1] at 16 kHz; raises CalledProcessError if ffmpeg fails."""
    command = ["ffmpeg", "-v", "error", "-threads", "1", "-f", "g722", "-i", str(path), "-f", "s16le", "-"]
    pcm = subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL).stdout
    return np.frombuffer(pcm, dtype="<i2").astype(np.float32) / np.float32(32768)


def trim(signal: Signal) -> Signal:
    """Cut the outer pauses of ``signal`` [samples] and shorten inner ones to 0.3 s (5 ms fades at the joints)."""
    voiced = np.flatnonzero(active_mask(signal, PAUSE_BELOW_DB))
    if len(voiced) == 0:
        return signal[:0]
    edges = [max(int(voiced[0]) - EDGE, 0)]
    for before, after in zip(voiced[:-1], voiced[1:], strict=True):
        if after - before - 1 > LONGEST_PAUSE:
            half = LONGEST_PAUSE // 2
            edges += [int(before) + 1 + half, int(after) - (LONGEST_PAUSE - half)]
    edges.append(int(voiced[-1]) + 1 + EDGE)
    fade = np.linspace(0, 1, FRAME // 2, dtype=np.float32)
    pieces = []
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        piece = signal[start * FRAME : stop * FRAME].copy()
        piece[: len(fade)] *= fade
        piece[-len(fade) :] *= fade[::-1]
        pieces.append(piece)
    return np.concatenate(pieces)


def spectra(signal: Signal) -> NDArray[np.float64]:
    """Power spectra of the active frames of ``signal``: 32 ms Hann windows every 10 ms, [frames, 257 bins]."""
    windows = sliding_window_view(signal.astype(np.float64), 512)[::FRAME]
    active = active_mask(signal)[: len(windows)]
    return np.asarray(np.abs(np.fft.rfft(windows[: len(active)][active] * np.hanning(512))) ** 2, dtype=np.float64)


def speech_facts(signal: Signal) -> tuple[float, float, float]:
    """Facts that tell speech from other sounds.

    Returns the median spectral flatness of the active frames (0.1 to 7 kHz), the envelope's standard deviation over
    its mean, and the seconds of the longest steady single spectral line above 350 Hz.
    """
    power = spectra(signal)
    band = power[:, 3:225] + 1e-12
    flatness = float(np.median(np.exp(np.log(band).mean(axis=1)) / band.mean(axis=1)))
    rms = frame_rms(signal)
    peak = power.argmax(axis=1)
    near = np.clip(peak[:, None] + np.arange(-2, 3), 0, power.shape[1] - 1)
    share = np.take_along_axis(power, near, axis=1).sum(axis=1) / (power.sum(axis=1) + 1e-12)
    lines = (share > BEEP_SHARE) & (peak * RATE / 512 > BEEP_ABOVE_HZ)
    longest = run = 0
    for index, line in enumerate(lines):
        steady = bool(line) and (run == 0 or abs(int(peak[index]) - int(peak[index - 1])) <= 1)
        run = run + 1 if steady else int(line)
        longest = max(longest, run)
    return flatness, float(rms.std() / rms.mean()), longest * FRAME / RATE


def why_not_speech(signal: Signal) -> str | None:
    """Reason why ``signal`` [samples] is left out as something else than speech, or None."""
    flatness, variation, beep = speech_facts(signal)
    if flatness > FLATTEST:
        return f"noise: flatness {flatness:.2f}"
    if variation < LEAST_VARIATION:
        return f"steady sound: variation {variation:.2f}"
    return f"beep of {beep:.2f} s" if beep >= BEEP_SECONDS else None


def envelopes(signal: Signal) -> NDArray[np.float32]:
    """Ten log band energies (0.1 to 6 kHz) of 64 ms windows every 20 ms, less each frame's mean: [frames, 10]."""
    windows = sliding_window_view(signal.astype(np.float32), 1024)[:: 2 * FRAME]
    power = np.abs(np.fft.rfft(windows * np.hanning(1024).astype(np.float32))) ** 2
    edges = np.geomspace(6, 384, 11).astype(int)
    bands = np.log(np.stack([power[:, a:b].sum(axis=1) for a, b in zip(edges, edges[1:], strict=False)], 1) + 1e-4)
    return np.asarray(bands - bands.mean(axis=0), dtype=np.float32)


def same_recording(window: Signal, signal: Signal, place: int) -> bool:
    """Whether ``window`` [samples] occurs in ``signal`` within 40 ms of ``place``, by waveform correlation > 0.7."""
    start = max(place - 640, 0)
    piece = signal[start : place + len(window) + 640].astype(np.float64)
    if len(piece) < len(window):
        return False
    size = 1 << (len(piece) + len(window)).bit_length()
    cross = np.fft.irfft(np.fft.rfft(piece, size) * np.conj(np.fft.rfft(window.astype(np.float64), size)), size)
    sums = np.concatenate([[0.0], np.cumsum(piece**2)])
    power = sums[len(window) :] - sums[: -len(window)]
    scale = np.sqrt(power * float((window.astype(np.float64) ** 2).sum())) + 1e-9
    return bool((cross[: len(power)] / scale).max() > 0.7)


def re_edits(clips: Sequence[Clip]) -> dict[str, float]:
    """Share of one-second windows of each of one speaker's ``clips`` that occur in longer kept clips.

    Returns key -> share for every clip with a share above 0; those of at least ``SHARED_AT_MOST`` are to be left out.
    """
    shared: dict[str, float] = {}
    kept: list[Clip] = []
    index: list[NDArray[np.float32]] = []
    owners: list[tuple[int, int]] = []

    def rows(features: NDArray[np.float32]) -> NDArray[np.float32]:
        flat = sliding_window_view(features, 46, axis=0).reshape(len(features) - 45, -1)
        centred = flat - flat.mean(axis=1, keepdims=True)
        return np.asarray(centred / (np.linalg.norm(centred, axis=1, keepdims=True) + 1e-6), dtype=np.float32)

    for clip in sorted(clips, key=lambda c: (-len(c.signal), c.key)):
        own = rows(envelopes(clip.signal))
        starts = range(0, len(own), 50)
        queries = own[list(starts)]
        best = np.full(len(queries), -1.0)
        where: list[tuple[int, int]] = [(0, 0)] * len(queries)
        for block, (first, _) in zip(index, owners, strict=True):
            scores = queries @ block.T
            top = scores.argmax(axis=1)
            for q in np.flatnonzero(scores[np.arange(len(top)), top] > best).tolist():
                best[q], where[q] = scores[q, top[q]], (first, int(top[q]))
        hits = 0
        for q, start in enumerate(starts):
            if best[q] > 0.8:
                window = clip.signal[start * 2 * FRAME : start * 2 * FRAME + RATE]
                hits += same_recording(window[: int(0.9 * RATE)], kept[where[q][0]].signal, where[q][1] * 2 * FRAME)
        share = hits / len(queries)
        if share:
            shared[clip.key] = share
        if share < SHARED_AT_MOST:
            owners.append((len(kept), len(own)))
            index.append(own)
            kept.append(clip)
    return shared


def level(signal: Signal) -> NDArray[np.int16]:
    """Bring ``signal`` [samples] to -26 dBFS active RMS, peak at most 0.9, as int16."""
    gain = 10 ** ((TARGET_DB - active_rms_db(signal)) / 20)
    gain = min(gain, PEAK / float(np.abs(signal).max()))
    return np.asarray(np.rint(signal * gain * 32767), dtype=np.int16)


def encode(pcm: NDArray[np.int16], path: Path, bitrate: int) -> None:
    """Write ``pcm`` [samples] at 16 kHz as mono Ogg Opus with ``bitrate`` bit/s, reproducibly, without metadata."""
    command = ["ffmpeg", "-v", "error", "-y", "-f", "s16le", "-ar", str(RATE), "-ac", "1", "-i", "-"]
    command += ["-map_metadata", "-1", "-fflags", "+bitexact", "-flags:a", "+bitexact", "-c:a", "libopus"]
    command += ["-b:a", str(bitrate), "-vbr", "on", "-application", "voip", "-compression_level", "10"]
    command += ["-frame_duration", "60", "-f", "ogg", str(path)]
    subprocess.run(command, check=True, input=pcm.astype("<i2").tobytes())


def unpack(packages: Path, scratch: Path) -> Iterator[tuple[Source, Path, str]]:
    """Yield each source, the root of its unpacked package and the package's version; unpacks ``.deb`` files."""
    for deb in sorted(packages.glob("asterisk-core-sounds-*-g722_*.deb")):
        subprocess.run(["dpkg", "-x", str(deb), str(scratch / deb.name.split("_")[0])], check=True)
    for source in SOURCES:
        inside = f"usr/share/doc/{source.package}/changelog.Debian.gz"
        found = [p for top in (scratch, packages) for p in (*top.glob(inside), *sorted(top.glob(f"*/{inside}")))]
        if not found:
            raise SystemExit(f"{packages}: package: expected {source.package}, found none")
        head = gzip.decompress(found[0].read_bytes()).decode().splitlines()[0]
        version = re.search(r"\(([^)]+)\)", head)
        yield source, found[0].parents[4], version.group(1) if version else "unknown"


def read_clips(source: Source, root: Path, seen: set[str], left_out: dict[str, str]) -> list[Clip]:
    """Decode and trim one package's utterances; ``seen`` holds content hashes, ``left_out`` gets key -> reason."""
    sounds = root / "usr/share/asterisk/sounds" / source.folder
    wanted: list[tuple[str, Path]] = []
    for path in sorted(sounds.rglob("*.g722")):
        name = path.relative_to(sounds).with_suffix("").as_posix()
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if any(fnmatch(name, pattern) for pattern in SKIPPED_NAMES):
            left_out[f"{source.language}/{name}"] = "by name"
        elif path.stat().st_size <= SHORTEST_SECONDS * RATE / 2:  # two samples a byte
            left_out[f"{source.language}/{name}"] = "too short"
        elif digest in seen:
            left_out[f"{source.language}/{name}"] = "duplicate"
        else:
            wanted.append((name, path))
            seen.add(digest)
    with ThreadPoolExecutor(2) as pool:
        signals = list(pool.map(lambda item: trim(decode(item[1])), wanted))
    clips = []
    for (name, path), signal in zip(wanted, signals, strict=True):
        clip = Clip(source, name, path.relative_to(root).as_posix(), signal)
        if len(signal) <= SHORTEST_SECONDS * RATE:
            left_out[clip.key] = "too short"
        elif reason := why_not_speech(signal):
            left_out[clip.key] = reason
        else:
            clips.append(clip)
    return clips


def attribution(versions: dict[str, str]) -> str:
    """Text of ATTRIBUTION.md for the packages' ``versions`` (package -> version)."""
    urls = {
        "CC-BY-SA-3.0": "https://creativecommons.org/licenses/by-sa/3.0/",
        "CC-BY-3.0": "https://creativecommons.org/licenses/by/3.0/",
    }
    credit = {
        "en": "Copyright 2003-2010 Allison Smith. Recorded by Allison Smith (http://www.theivrvoice.com). Financial "
        "contributions by Digium, Inc. (http://www.digium.com).",
        "es": "Copyright 2003-2010 Allison Smith. Recorded by Allison Smith (http://www.theivrvoice.com). Financial "
        "contributions by Digium, Inc. (http://www.digium.com).",
        "fr": "Copyright 2006-2008 June Wallack. Recorded by June Wallack (http://www.junewallack.com). Translated "
        "into French by Clod Patry, Kristopher Lalletti and June Wallack. Financial contributions by Digium, Inc. "
        "(http://www.digium.com), Unlimitel (http://www.unlimitel.ca) and BGM Informatique (http://www.bgm.qc.ca).",
        "it": "Copyright 2012 Carlo Flora (http://www.segreterietelefoniche.it). Recorded by Carlo Flora "
        "(http://www.carloflora.com). Translated by Silvia Petrin from the original English distributed by Digium.",
        "ru": "Copyright 2010 Maxim. Provided by Maxim Topal (http://www.ivrvoice.ru). The package does not name the "
        "speaker; it marks the voice as a woman's (`ru_RU_f_IvrvoiceRU`).",
    }
    lines = [
        "# Speech corpus: attribution and licences",
        "",
        "The five tracks in this folder are adapted from the Asterisk core sounds",
        "(http://downloads.asterisk.org/pub/telephony/sounds/), as packaged by Debian.",
        "",
        "| File | Source package | Version | Credit | Licence |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| `{s.language}.ogg` | `{s.package}` | {versions[s.package]} | {credit[s.language]} | "
        f"[{s.licence}]({urls[s.licence]}) |"
        for s in SOURCES
    ]
    return "\n".join(
        [
            *lines,
            "",
            "## What was changed",
            "",
            "The G.722 recordings were decoded; tones, beeps, silences, noises, repeated recordings and utterances of",
            "1.5 s or less were left out; leading and trailing silence was cut; pauses longer than 0.3 s were",
            "shortened to 0.3 s; every utterance was brought to one loudness (-26 dBFS active RMS); the utterances of",
            "each language were shuffled, joined into one track with 0.15 s of silence between them, and",
            "encoded as Ogg Opus (16 kHz, mono). `build_corpus.py`, one folder up, is the program that did it.",
            "",
            "## Licence of these files",
            "",
            "`en.ogg`, `es.ogg` and `fr.ogg` are adaptations of works under Creative Commons",
            "Attribution-ShareAlike 3.0 Unported and are themselves under that same licence",
            "(https://creativecommons.org/licenses/by-sa/3.0/). `it.ogg` and `ru.ogg` are adaptations of works under",
            "Creative Commons Attribution 3.0 Unported and are under that licence",
            "(https://creativecommons.org/licenses/by/3.0/). These licences cover the audio in this folder only, not",
            "the software around it. The people credited above do not endorse this project or its use of their work.",
            "",
        ]
    )


def build(packages: Path, out: Path, bitrate: int) -> None:
    """Build tracks, manifest.json and ATTRIBUTION.md from ``packages`` into ``out``; prints what was left out."""
    out.mkdir(parents=True, exist_ok=True)
    seen: set[str] = set()
    left_out: dict[str, str] = {}
    versions: dict[str, str] = {}
    clips: list[Clip] = []
    with tempfile.TemporaryDirectory() as scratch:
        for source, root, version in unpack(packages, Path(scratch)):
            versions[source.package] = version
            clips += read_clips(source, root, seen, left_out)
    for speaker in sorted({clip.source.speaker for clip in clips}):
        shares = re_edits([clip for clip in clips if clip.source.speaker == speaker])
        left_out |= {key: f"re-edit: {share:.0%} shared" for key, share in shares.items() if share >= SHARED_AT_MOST}
    tracks, utterances = [], []
    for source in SOURCES:
        chosen = [clip for clip in clips if clip.source == source and clip.key not in left_out]
        chosen.sort(key=lambda clip: hashlib.sha256(f"{SEED}:{clip.key}".encode()).hexdigest())
        pieces = [np.zeros(GAP, np.int16)]
        at = GAP
        for clip in chosen:
            pcm = level(clip.signal)
            utterances.append(
                {
                    "utterance": clip.key,
                    "track": source.language,
                    "start": at,
                    "stop": at + len(pcm),
                    "seconds": round(len(pcm) / RATE, 4),
                    "sha256": hashlib.sha256(pcm.astype("<i2").tobytes()).hexdigest(),
                    "source_file": clip.path,
                }
            )
            pieces += [pcm, np.zeros(GAP, np.int16)]
            at += len(pcm) + GAP
        path = out / f"{source.language}.ogg"
        encode(np.concatenate(pieces), path, bitrate)
        tracks.append(
            {
                "track": source.language,
                "speaker": source.speaker,
                "speaker_name": source.speaker_name,
                "language": source.language,
                "licence": source.licence,
                "file": path.name,
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                "samples": at,
                "seconds": round(at / RATE, 4),
                "source_package": source.package,
                "source_version": versions[source.package],
            }
        )
        size = path.stat().st_size / 1e6
        print(f"{source.language}: {len(chosen)} utterances, {at / RATE / 60:.2f} min, {size:.2f} MB")
    manifest = {"schema_version": 1, "rate": RATE, "encoder": f"{ENCODER}, {bitrate} bit/s", "tracks": tracks}
    # A line an utterance: a line a field would be a sixth more.
    head = json.dumps(manifest, indent=1, ensure_ascii=False).removesuffix("\n}")
    lines = ",\n".join(json.dumps(each, ensure_ascii=False, separators=(",", ":")) for each in utterances)
    (out / "manifest.json").write_text(f'{head},\n "utterances": [\n{lines}\n]}}\n', encoding="utf-8")
    (out / "ATTRIBUTION.md").write_text(attribution(versions), encoding="utf-8")
    for key, reason in sorted(left_out.items()):
        if reason not in ("too short", "by name"):
            print(f"left out {key}: {reason}")


def main() -> None:
    """Read the command line and build the corpus."""
    parser = argparse.ArgumentParser(description="Build the embedded speech corpus.")
    parser.add_argument("--packages", type=Path, required=True, help="folder with .deb files or unpacked packages")
    parser.add_argument("--out", type=Path, required=True, help="folder for tracks, manifest.json and ATTRIBUTION.md")
    parser.add_argument("--bitrate", type=int, default=17_500, help="Opus bit rate in bit/s")
    arguments = parser.parse_args()
    build(arguments.packages, arguments.out, arguments.bitrate)


if __name__ == "__main__":
    main()
