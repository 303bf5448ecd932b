"""The steps between published files and a store, each a named setting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeVar

from eeg2speech.errors import BadInput, unknown_name

Reference = Literal["average", "electrodes", "none"]
BadChannels = Literal["keep", "interpolate"]


@dataclass(frozen=True)
class Steps:
    """What is done to EEG and stimuli. Studies derive from it to change a default or to add settings of their own.

    Args:
        eeg_rate: Hz of the EEG in the store.
        audio_rate: Hz of the sound, or of the features, in the store.
        high_pass: Hz; 0 for none. A zero-phase FIR, as ``low_pass``.
        low_pass: Hz; 0 for none but what resampling needs.
        notch: Hz of the mains, taken out with its multiples below half the rate; 0 for none.
        reference: ``average`` of the good sensors, the mean of the reference ``electrodes`` that the study has beside
            its sensors, or ``none``: as the file has it.
        bad_channels: ``interpolate`` them by spherical splines, or ``keep`` them; either way they are told.
        bad_deviation: a sensor is bad whose log power is farther from the median of all than so many scaled median
            absolute deviations, or which is flat.
    """

    eeg_rate: int = 128
    audio_rate: int = 16_000
    high_pass: float = 0.5
    low_pass: float = 0.0
    notch: float = 0.0
    reference: Reference = "average"
    bad_channels: BadChannels = "keep"
    bad_deviation: float = 6.0

    def __post_init__(self) -> None:
        for name, least, most in (("eeg_rate", 16, 2000), ("audio_rate", 16, 96_000)):
            if not least <= getattr(self, name) <= most:
                raise BadInput("settings", name, f"{least} to {most} Hz", getattr(self, name))
        nyquist = self.eeg_rate / 2
        for name in ("high_pass", "low_pass", "notch"):
            if not 0 <= getattr(self, name) < nyquist:
                raise BadInput("settings", name, f"0 to below {nyquist:g} Hz, half the EEG's rate", getattr(self, name))
        if self.low_pass and self.low_pass <= self.high_pass:
            raise BadInput("settings", "low_pass", f"more than high_pass, {self.high_pass:g} Hz", self.low_pass)
        if not self.bad_deviation > 0:
            raise BadInput("settings", "bad_deviation", "more than 0", self.bad_deviation)


@dataclass(frozen=True)
class UnitSteps(Steps):
    """For studies whose files do not say the unit of their EEG.

    Args:
        unit: microvolt of one unit of the files; 1e6 where they are in volts.
    """

    unit: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.unit < float("inf"):
            raise BadInput("settings", "unit", "microvolt of one unit, more than 0", self.unit)


S = TypeVar("S", bound=Steps)


def settled(kind: type[S], given: Mapping[str, Any], study: str) -> S:
    """Settings of a study from names and values, which may be text as from the shell.

    Raises:
        BadInput: a name that the study does not have (with the nearest), a value of another type.
    """
    from pydantic import TypeAdapter, ValidationError

    known = [each.name for each in fields(kind)]
    for name in given:
        if name not in known:
            raise unknown_name(f"settings of {study}", "setting", name, known)
    try:
        made: S = TypeAdapter(kind).validate_python(dict(given))
    except ValidationError as error:
        if isinstance(error.errors()[0].get("ctx", {}).get("error"), BadInput):
            raise error.errors()[0]["ctx"]["error"] from error
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise BadInput(f"settings of {study}", where, first["msg"], repr(first.get("input"))) from error
    return made
