"""Post-training: mid-training, SFT, preference pairs, APO and merging."""
