"""Evaluation: tasks through lm-evaluation-harness, held-out loss, samples, intervals."""
