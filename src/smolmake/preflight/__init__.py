"""Checks of machines before a training."""
