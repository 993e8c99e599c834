"""What would run, why, and what it costs."""
