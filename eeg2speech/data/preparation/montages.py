"""Where the sensors of usual caps are."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from eeg2speech.data.types import Sensors
from eeg2speech.errors import BadInput


@cache
def montage(name: str) -> Sensors:
    """All sensors of one of MNE's templates (``biosemi64``, ``biosemi128``, ``easycap-M10``), in its order and in head
    coordinates."""
    import mne

    template = mne.channels.make_standard_montage(name)
    info = mne.create_info(template.ch_names, 128.0, "eeg", verbose="ERROR")
    info.set_montage(template, verbose="ERROR")
    places = [tuple(float(v) for v in channel["loc"][:3]) for channel in info["chs"]]
    return Sensors(tuple(template.ch_names), tuple((x, y, z) for x, y, z in places))


def placed(names: Sequence[str], template: str, where: object) -> Sensors:
    """Sensors of these names, whatever their case, with the places that a template gives them.

    Raises BadInput for one that the template does not have.
    """
    known = montage(template)
    rows = {name.casefold(): row for row, name in enumerate(known.names)}
    unknown = [name for name in names if name.casefold() not in rows]
    if unknown:
        raise BadInput(where, "channels", f"sensors of {template}", ", ".join(unknown))
    found = [rows[name.casefold()] for name in names]
    return Sensors(tuple(known.names[row] for row in found), tuple(known.positions[row] for row in found))
