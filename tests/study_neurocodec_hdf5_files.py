"""Files as the scripts of BASEN, M3ANet and NeuroCodec write them, small."""

from pathlib import Path

import h5py
import numpy as np

ROWS = {"train": 6, "val": 2, "test": 4}


def arrays(
    part: str, length: int = 87_552, seconds: int = 2, unit: float = 1e-5, columns: int = 128
) -> dict[str, np.ndarray]:
    """What the files of a part hold. Subjects 1 and 18 have half of the rows each and hear the same speech."""
    rng, count = np.random.default_rng(sorted(ROWS).index(part)), ROWS[part]
    half = rng.standard_normal((2, count // 2, length, 1)).astype(np.float32)
    clean, other = np.concatenate([half[0], half[0]]), np.concatenate([half[1], half[1]])
    mixed = clean + other
    return {
        "noisy": mixed / np.abs(mixed).max(),
        "clean": clean / np.abs(clean).max(),
        "unattended": other / np.abs(other).max(),
        "eegs": rng.standard_normal((count, 128 * seconds, columns)) * unit,
        "subjects": np.repeat([1, 18], count // 2),
    }


def write(folder: Path, sign: str = "=", nested: bool = False, **kinds: object) -> Path:
    """All files of a study. ``sign`` ends the names of the data sets."""
    for part in ROWS:
        home = folder / part if nested else folder
        home.mkdir(parents=True, exist_ok=True)
        for kind, array in arrays(part, **kinds).items():  # type: ignore[arg-type]
            with h5py.File(home / f"{kind}_{part}.h5", "w") as file:
                file.create_dataset(f"{kind}_{part}{sign}", data=array)
    return folder


def replace(path: Path, array: np.ndarray, key: str = "") -> None:
    """Another array in a file."""
    with h5py.File(path, "w") as file:
        file.create_dataset(key or f"{path.stem}=", data=array)
