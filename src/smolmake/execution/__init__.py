"""How a step is identified, computed and kept. Nothing here changes a result."""
