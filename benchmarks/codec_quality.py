"""How well a codec carries speech that it has not heard: ``python benchmarks/codec_quality.py [PATH]``.

The embedded codec unless a path, or a published codec's name, is given.
"""

from __future__ import annotations

import sys

from eeg2speech.evaluation.codec import codec_quality
from eeg2speech.processes import cores
from eeg2speech.systems.codecs import load_codec

if __name__ == "__main__":
    name = sys.argv[1] if len(sys.argv) > 1 else "demo"
    print(codec_quality(load_codec(name), jobs=cores()).round(3).to_string())
