"""Which steps a recipe means; read from top to bottom it is the pipeline."""
