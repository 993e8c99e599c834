"""What tells how a run goes. Nothing here changes a result."""
