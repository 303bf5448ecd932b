"""Put the weights of a finished run into the package: ``python benchmarks/ship.py runs/leaderboard [SYSTEM ...]``.

Of all systems, or of those that are named: the package is to stay under 50 MB. Rows with a name of their own
(ablations) are not shipped. Systems whose training gave the same weights for two studies (they hear no EEG) are shipped
for the first only.
"""

from __future__ import annotations

import sys
from pathlib import Path

from eeg2speech.evaluation.trained import ship
from eeg2speech.training.checkpoint import load_weights, state_hash


def main(run: Path, systems: list[str]) -> None:
    """Ship every ``system.safetensors`` under ``run`` that holds weights not shipped yet."""
    seen: set[str] = set()
    for path in sorted((run / "training").rglob("system.safetensors")):
        state, about = load_weights(path)
        name = state_hash(state)
        own = path.parent.name == f"{about['system']}-s{about['seed']}"
        wanted = not systems or about["system"] in systems
        if own and wanted and state and name not in seen:
            seen.add(name)
            shipped = ship(path)
            print(f"{shipped}  {shipped.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
