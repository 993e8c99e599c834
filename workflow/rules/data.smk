# From raw sources to mixtures of token shards.


use rule step as generated with:
    output:
        manifest=ensure("results/generated/{step}/manifest.json", non_empty=True),
    log:
        "logs/generated/{step}.log",
    conda:
        environment("generated")
    message:
        "generating {wildcards.step}"


use rule step as adopted with:
    output:
        manifest=ensure("results/adopted/{step}/manifest.json", non_empty=True),
    log:
        "logs/adopted/{step}.log",
    conda:
        environment("adopted")
    message:
        "adopting {wildcards.step}"


use rule step as suite_items with:
    input:
        data=role("data"),
    output:
        manifest=ensure("results/suite_items/{step}/manifest.json", non_empty=True),
    log:
        "logs/suite_items/{step}.log",
    conda:
        environment("suite_items")
    message:
        "gathering the items of the suites' tasks"


use rule step as documents with:
    input:
        files=role("files"),
        duplicates_of=role("duplicates_of"),
        tasks=role("tasks"),
        suite_items=role("suite_items"),
    output:
        manifest=ensure("results/documents/{step}/manifest.json", non_empty=True),
    log:
        "logs/documents/{step}.log",
    conda:
        environment("documents")
    message:
        "cleaning {wildcards.step}"


use rule step as overlap with:
    input:
        documents=role("documents"),
        shards=role("shards"),
        tokenizer=role("tokenizer"),
        tasks=role("tasks"),
        suite_items=role("suite_items"),
    output:
        manifest=ensure("results/overlap/{step}/manifest.json", non_empty=True),
    log:
        "logs/overlap/{step}.log",
    conda:
        environment("overlap")
    message:
        "measuring the overlap of {wildcards.step}"


use rule step as heldout with:
    input:
        documents=role("documents"),
    output:
        manifest=ensure("results/heldout/{step}/manifest.json", non_empty=True),
    log:
        "logs/heldout/{step}.log",
    conda:
        environment("heldout")
    message:
        "gathering held-out documents"


use rule step as tokenizer with:
    input:
        documents=role("documents"),
        base=role("base"),
    output:
        manifest=ensure("results/tokenizer/{step}/manifest.json", non_empty=True),
    log:
        "logs/tokenizer/{step}.log",
    conda:
        environment("tokenizer")
    message:
        "making tokenizer {wildcards.step}"


use rule step as tokenizer_comparison with:
    input:
        documents=role("documents"),
        tokenizer=role("tokenizer"),
    output:
        manifest=ensure("results/tokenizer_comparison/{step}/manifest.json", non_empty=True),
    log:
        "logs/tokenizer_comparison/{step}.log",
    conda:
        environment("tokenizer_comparison")
    message:
        "comparing tokenizers"


use rule step as shards with:
    input:
        documents=role("documents"),
        tokenizer=role("tokenizer"),
    output:
        manifest=ensure("results/shards/{step}/manifest.json", non_empty=True),
    log:
        "logs/shards/{step}.log",
    conda:
        environment("shards")
    message:
        "tokenizing {wildcards.step}"


use rule step as packing with:
    input:
        shards=role("shards"),
    output:
        manifest=ensure("results/packing/{step}/manifest.json", non_empty=True),
    log:
        "logs/packing/{step}.log",
    conda:
        environment("packing")
    message:
        "packing {wildcards.step}"


use rule step as mixture with:
    input:
        shards=role("shards"),
        packing=role("packing"),
        before=role("before"),
    output:
        manifest=ensure("results/mixture/{step}/manifest.json", non_empty=True),
    log:
        "logs/mixture/{step}.log",
    conda:
        environment("mixture")
    message:
        "mixing {wildcards.step}"


use rule step as epochs with:
    input:
        mixture=role("mixture"),
    output:
        manifest=ensure("results/epochs/{step}/manifest.json", non_empty=True),
    log:
        "logs/epochs/{step}.log",
    localrule: True
    conda:
        environment("epochs")
    message:
        "counting epochs of {wildcards.step}"
