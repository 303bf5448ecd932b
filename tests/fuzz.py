"""Damage for files: cut, bytes flipped, stretches zeroed, repeated or made random; each case decided by its number."""

from collections.abc import Iterator

import numpy as np


def damaged(content: bytes, count: int, seed: int = 0) -> Iterator[bytes]:
    """``count`` damaged versions of a file's content, each other than it."""
    for case in range(count):
        rng = np.random.default_rng((seed, case))
        found = content
        while found == content:
            found = KINDS[case % len(KINDS)](content, rng)
        yield found


def _cut(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: rng.integers(len(content))]


def _flipped(content: bytes, rng: np.random.Generator) -> bytes:
    found = bytearray(content)
    for place in rng.integers(len(content), size=rng.integers(1, 9)):
        found[place] ^= 1 << rng.integers(8)
    return bytes(found)


def _flipped_early(content: bytes, rng: np.random.Generator) -> bytes:
    """Headers are at the beginning, and most of a file is not header."""
    head = min(len(content), 512)
    return _flipped(content[:head], rng) + content[head:]


def _zeroed(content: bytes, rng: np.random.Generator) -> bytes:
    begin, length = rng.integers(len(content)), rng.integers(1, 65)
    found = bytearray(content)
    found[begin : begin + length] = bytes(len(found[begin : begin + length]))
    return bytes(found)


def _random(content: bytes, rng: np.random.Generator) -> bytes:
    begin, length = rng.integers(len(content)), rng.integers(1, 65)
    found = bytearray(content)
    found[begin : begin + length] = rng.bytes(len(found[begin : begin + length]))
    return bytes(found)


def _huge(content: bytes, rng: np.random.Generator) -> bytes:
    """Four bytes that read as a number near the largest."""
    place = rng.integers(max(len(content) - 4, 1))
    return content[:place] + b"\xff\xff\xff\x7f" + content[place + 4 :]


def _doubled(content: bytes, rng: np.random.Generator) -> bytes:
    begin, length = rng.integers(len(content)), rng.integers(1, 257)
    return content[:begin] + content[begin : begin + length] + content[begin:]


KINDS = (_cut, _flipped, _flipped_early, _zeroed, _random, _huge, _doubled)
