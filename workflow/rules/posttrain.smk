# Mid-training, SFT, preference pairs, APO and the merge.


use rule step as posttraining with:
    input:
        parent=role("parent"),
        data=role("data"),
    output:
        manifest=ensure("results/posttraining/{step}/manifest.json", non_empty=True),
    log:
        "logs/posttraining/{step}.log",
    # Evaluations fill the cores that training leaves.
    priority: 10
    conda:
        environment("posttraining")
    message:
        "training {wildcards.step} on conversations"


use rule step as preferences with:
    input:
        strong=role("strong"),
        weak=role("weak"),
        prompts=role("prompts"),
    output:
        manifest=ensure("results/preferences/{step}/manifest.json", non_empty=True),
    log:
        "logs/preferences/{step}.log",
    # Evaluations fill the cores that training leaves.
    priority: 10
    conda:
        environment("preferences")
    message:
        "two checkpoints answer {wildcards.step}"


use rule step as alignment with:
    input:
        parent=role("parent"),
        pairs=role("pairs"),
        data=role("data"),
    output:
        manifest=ensure("results/alignment/{step}/manifest.json", non_empty=True),
    log:
        "logs/alignment/{step}.log",
    # Evaluations fill the cores that training leaves.
    priority: 10
    conda:
        environment("alignment")
    message:
        "aligning {wildcards.step}"


use rule step as merge with:
    input:
        model=role("model"),
        tokenizer=role("tokenizer"),
    output:
        manifest=ensure("results/merge/{step}/manifest.json", non_empty=True),
    log:
        "logs/merge/{step}.log",
    # Evaluations fill the cores that training leaves.
    priority: 10
    conda:
        environment("merge")
    message:
        "merging {wildcards.step}"
