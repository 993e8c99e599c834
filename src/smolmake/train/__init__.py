"""Pretraining: schedule, optimizer, loop, recovery and metrics."""
