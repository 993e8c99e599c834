"""What devices can do and hold, and what fits on them."""
