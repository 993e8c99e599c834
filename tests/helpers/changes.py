"""What runs again from a step on: the only place where tests list by hand what follows what (see CONTRIBUTING)."""

NOTHING: tuple[str, ...] = ()
FROM_APO = ("alignment/*", "merge/*", "evaluation/apo", "evaluation/merged", "report/*")
FROM_SFT = ("posttraining/sft", "evaluation/sft", "preferences/*", *FROM_APO)
FROM_MID = ("posttraining/mid", "evaluation/mid", *FROM_SFT)
FROM_LC2 = ("segment/lc2-*", "evaluation/lc2-*", *FROM_MID)
FROM_LC1 = ("segment/lc1-*", "evaluation/lc1-*", *FROM_LC2)
FROM_STAGE3 = ("segment/stage3-*", "evaluation/stage3-*", *FROM_LC1)
FROM_STAGE2 = ("segment/stage2-*", "evaluation/stage2-*", *FROM_STAGE3)
FROM_STAGE1 = ("segment/stage1-*", "evaluation/stage1-*", *FROM_STAGE2)
FROM_TOKENIZER = ("tokenizer_comparison/*", "shards/*", "packing/*", "mixture/*", "epochs/*", *FROM_STAGE1)
FROM_DOCUMENTS = ("heldout/*", "evaluation/*", "tokenizer/*", *FROM_TOKENIZER)
FROM_CLEANING = ("documents/*", *FROM_DOCUMENTS)
BEAR_THE_RECIPES_NAME = {"heldout", "epochs", "report"}  # kinds
EVALUATIONS = ("evaluation/*", "report/*")
