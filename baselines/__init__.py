"""Floors, ceilings, classical and masking systems. They come in by the same entry points as a stranger's."""
