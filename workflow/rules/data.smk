# From raw sources to mixtures of token shards.


use rule step as generated with:
    output:
        manifest=ensure("results/{kind,generated}/{step}/manifest.json", non_empty=True),
    message:
        "generating {wildcards.step}"


use rule step as adopted with:
    output:
        manifest=ensure("results/{kind,adopted}/{step}/manifest.json", non_empty=True),
    message:
        "adopting {wildcards.step}"


use rule step as suite_items with:
    output:
        manifest=ensure("results/{kind,suite_items}/{step}/manifest.json", non_empty=True),
    message:
        "gathering the items of the suites' tasks"


use rule step as documents with:
    input:
        files=role("files"),
        duplicates_of=role("duplicates_of"),
        tasks=role("tasks"),
        suite_items=role("suite_items"),
    output:
        manifest=ensure("results/{kind,documents}/{step}/manifest.json", non_empty=True),
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
        manifest=ensure("results/{kind,overlap}/{step}/manifest.json", non_empty=True),
    message:
        "measuring the overlap of {wildcards.step}"


use rule step as heldout with:
    input:
        documents=role("documents"),
    output:
        manifest=ensure("results/{kind,heldout}/{step}/manifest.json", non_empty=True),
    message:
        "gathering held-out documents"


use rule step as tokenizer with:
    input:
        documents=role("documents"),
        base=role("base"),
    output:
        manifest=ensure("results/{kind,tokenizer}/{step}/manifest.json", non_empty=True),
    message:
        "making tokenizer {wildcards.step}"


use rule step as tokenizer_comparison with:
    input:
        documents=role("documents"),
        tokenizer=role("tokenizer"),
    output:
        manifest=ensure("results/{kind,tokenizer_comparison}/{step}/manifest.json", non_empty=True),
    message:
        "comparing tokenizers"


use rule step as shards with:
    input:
        documents=role("documents"),
        tokenizer=role("tokenizer"),
    output:
        manifest=ensure("results/{kind,shards}/{step}/manifest.json", non_empty=True),
    message:
        "tokenizing {wildcards.step}"


use rule step as packing with:
    input:
        shards=role("shards"),
    output:
        manifest=ensure("results/{kind,packing}/{step}/manifest.json", non_empty=True),
    message:
        "packing {wildcards.step}"


use rule step as mixture with:
    input:
        shards=role("shards"),
        packing=role("packing"),
        before=role("before"),
    output:
        manifest=ensure("results/{kind,mixture}/{step}/manifest.json", non_empty=True),
    message:
        "mixing {wildcards.step}"


use rule step as epochs with:
    input:
        mixture=role("mixture"),
    output:
        manifest=ensure("results/{kind,epochs}/{step}/manifest.json", non_empty=True),
    localrule: True
    message:
        "counting epochs of {wildcards.step}"
