"""Identity: what a step's result depends on, where it lies, and the manifest that says it is whole."""
