"""Surviving a stop: recovery checkpoints, signals, uploads. Nothing here changes a result."""
