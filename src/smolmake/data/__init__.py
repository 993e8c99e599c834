"""The data path: sources, cleaning, tokenizer, token shards, mixtures, and the sample at a position."""
