"""The report: one HTML page about a run, every figure of which names the files it is computed from."""
