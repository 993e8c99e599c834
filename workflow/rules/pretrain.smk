# The checks before training, then all stages and long-context extensions, segment by segment.


use rule step as preflight with:
    output:
        manifest=ensure("results/{kind,preflight}/{step}/manifest.json", non_empty=True),
    message:
        "checking the machines of {wildcards.step}"


use rule step as check_tasks with:
    input:
        tokenizer=role("tokenizer"),
        data=role("data"),
    output:
        manifest=ensure("results/{kind,check_tasks}/{step}/manifest.json", non_empty=True),
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
        manifest=ensure("results/{kind,segment}/{step}/manifest.json", non_empty=True),
    # Evaluations fill the cores that training leaves.
    priority: 10
    message:
        "training segment {wildcards.step}"
