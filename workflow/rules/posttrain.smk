# Mid-training, SFT, preference pairs, APO and the merge.


use rule step as posttraining with:
    input:
        parent=role("parent"),
        data=role("data"),
    output:
        manifest=ensure("results/{kind,posttraining}/{step}/manifest.json", non_empty=True),
    # Evaluations fill the cores that training leaves.
    priority: 10
    message:
        "training {wildcards.step} on conversations"


use rule step as preferences with:
    input:
        strong=role("strong"),
        weak=role("weak"),
        prompts=role("prompts"),
    output:
        manifest=ensure("results/{kind,preferences}/{step}/manifest.json", non_empty=True),
    # Evaluations fill the cores that training leaves.
    priority: 10
    message:
        "two checkpoints answer {wildcards.step}"


use rule step as alignment with:
    input:
        parent=role("parent"),
        pairs=role("pairs"),
        data=role("data"),
    output:
        manifest=ensure("results/{kind,alignment}/{step}/manifest.json", non_empty=True),
    # Evaluations fill the cores that training leaves.
    priority: 10
    message:
        "aligning {wildcards.step}"


use rule step as merge with:
    input:
        model=role("model"),
        tokenizer=role("tokenizer"),
    output:
        manifest=ensure("results/{kind,merge}/{step}/manifest.json", non_empty=True),
    # Evaluations fill the cores that training leaves.
    priority: 10
    message:
        "merging {wildcards.step}"
