"""The toy's texts, conversations and tasks: everything is a function of the seed, Python and the packages named."""
