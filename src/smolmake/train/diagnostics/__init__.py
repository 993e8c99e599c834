"""What a training measures about itself. Nothing here changes a result."""
