"""System x split x control -> per-segment scores -> record."""
