"""Fitting, checkpoints and what feeds them."""
