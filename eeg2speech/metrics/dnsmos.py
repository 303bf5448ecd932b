"""DNSMOS P.835: what listeners would say of a recording, without knowing the reference.

[1] C. Reddy, V. Gopal, R. Cutler, "DNSMOS P.835: a non-intrusive perceptual objective speech quality metric to
    evaluate noise suppressors", ICASSP 2022. The package speechmos holds the network (sig_bak_ovr.onnx).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eeg2speech.errors import BadInput
from eeg2speech.metrics.checks import Unscorable, Wave, check_audible, check_shapes
from eeg2speech.metrics.mel import RATE, require_rate
from eeg2speech.metrics.packages import package

DNSMOS_SECONDS = 1.0
"""Shortest signal: what is repeated more often than nine times is no longer speech."""
WINDOW = int(9.01 * RATE)
"""Samples that the network hears at once."""
CALIBRATION = (-0.06766283, 1.11546468, 0.04602535)
"""Square, linear and constant term from the network's OVRL to the scale of the listeners [1]."""
OVERALL = 2
"""Place of OVRL among the network's answers: SIG, BAK, OVRL."""


def dnsmos_overall(wave: Wave, rate: int) -> float:
    """Overall quality (OVRL) of a wave [T] at 16 kHz as DNSMOS P.835 [1] predicts it: MOS from 1 (bad) to 5.

    It rates the sound and its lack of noise, not the words: fluent speech that has nothing to do with the reference
    scores high. A wave that leaves [-1, 1] is scaled down to a peak of 1, not clipped, which would add distortion
    that a change of volume undoes; any other is taken as it is, and the network hears level.

    A wave shorter than 9.01 s is repeated to that length exactly; speechmos doubles it until it is long enough and
    takes the mean of its windows, 5 to 7 times the work for at most 0.04 MOS. A longer one is the mean of all windows
    of 9.01 s, a second apart. One thread: repeats to the last bit.

    Raises:
        BadInput: not a floating-point [T] array, another rate, or speechmos or onnxruntime is not installed.
        Unscorable: "too short" below 1 s, "silent estimate", "non-finite estimate".
    """
    require_rate("dnsmos_overall", rate)
    check_shapes(wave)
    if wave.size < DNSMOS_SECONDS * rate:
        raise Unscorable("too short")
    check_audible("estimate", wave)
    within = wave / max(1.0, float(np.abs(wave).max()))
    answers = [_session().run(None, {"input_1": part[None]})[0][0, OVERALL] for part in _windows(within)]
    return float(np.polyval(CALIBRATION, np.asarray(answers, dtype=np.float64)).mean())


def _windows(wave: Wave) -> Iterator[NDArray[np.float32]]:
    signal = np.asarray(wave if wave.size >= WINDOW else np.resize(wave, WINDOW), dtype=np.float32)
    for start in range(0, signal.size - WINDOW + 1, RATE):
        yield signal[start : start + WINDOW]


@cache
def _session() -> Any:
    runtime = package("onnxruntime", "onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return runtime.InferenceSession(str(_network()), options, providers=["CPUExecutionProvider"])


def _network() -> Path:
    """The file in speechmos, found without importing it: its import brings librosa and two more networks."""
    spec = find_spec("speechmos")
    if spec is None or not spec.submodule_search_locations:
        raise BadInput("dnsmos_overall", "package", "speechmos: pip install speechmos", "not installed")
    return Path(spec.submodule_search_locations[0]) / "dnsmos_models" / "sig_bak_ovr.onnx"
