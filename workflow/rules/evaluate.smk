# Every checkpoint on every task, on held-out text, and in its own words.


use rule step as evaluation with:
    input:
        checkpoint=role("checkpoint"),
        heldout=role("heldout"),
        data=role("data"),
    output:
        manifest=ensure("results/evaluation/{step}/manifest.json", non_empty=True),
    log:
        "logs/evaluation/{step}.log",
    conda:
        environment("evaluation")
    message:
        "evaluating {wildcards.step}"


use rule step as suite with:
    input:
        checkpoint=role("checkpoint"),
        data=role("data"),
        heldout=role("heldout"),
    output:
        manifest=ensure("results/suite/{step}/manifest.json", non_empty=True),
    log:
        "logs/suite/{step}.log",
    conda:
        environment("suite")
    message:
        "evaluating {wildcards.step}"
