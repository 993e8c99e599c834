# The checks before training, then all stages and long-context extensions, segment by segment.


use rule step as preflight with:
    output:
        manifest=ensure("results/preflight/{step}/manifest.json", non_empty=True),
    log:
        "logs/preflight/{step}.log",
    conda:
        environment("preflight")
    message:
        "checking the machines of {wildcards.step}"


use rule step as check_tasks with:
    input:
        tokenizer=role("tokenizer"),
        data=role("data"),
        heldout=role("heldout"),
    output:
        manifest=ensure("results/check_tasks/{step}/manifest.json", non_empty=True),
    log:
        "logs/check_tasks/{step}.log",
    conda:
        environment("check_tasks")
    message:
        "trying every task of {wildcards.step}"


use rule step as segment with:
    input:
        mixture=role("mixture"),
        tokenizer=role("tokenizer"),
        parent=role("parent"),
        epochs=gate("epochs"),
        preflight=gate("preflight"),
        check_tasks=gate("check_tasks"),
    output:
        manifest=ensure("results/segment/{step}/manifest.json", non_empty=True),
    log:
        "logs/segment/{step}.log",
    # Evaluations fill the cores that training leaves.
    priority: 10
    conda:
        environment("segment")
    message:
        "training segment {wildcards.step}"
