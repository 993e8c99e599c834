# From raw sources to mixtures of token shards.


rule generated:
    input:
        manifests=ancient(inputs_of("generated")),
    output:
        manifest=ensure("results/generated/{step}/manifest.json", non_empty=True),
    log:
        "logs/generated/{step}.log",
    conda:
        "../../envs/generated.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=1440,
    params:
        job=job_of("generated"),
    message:
        "generating {wildcards.step}"
    shell:
        "python workflow/scripts/generated.py {params.job:q} > {log:q} 2>&1"


rule documents:
    input:
        manifests=ancient(inputs_of("documents")),
    output:
        manifest=ensure("results/documents/{step}/manifest.json", non_empty=True),
    log:
        "logs/documents/{step}.log",
    conda:
        "../../envs/data.yaml"
    threads: WORKFLOW.recipe.runtime.data_workers
    resources:
        mem_mb=lambda wildcards, threads: 2000 * threads,
        runtime=240,
    params:
        job=job_of("documents"),
    message:
        "cleaning {wildcards.step}"
    shell:
        "python workflow/scripts/documents.py {params.job:q} --workers {threads} > {log:q} 2>&1"


rule suite_items:
    input:
        manifests=ancient(inputs_of("suite_items")),
    output:
        manifest=ensure("results/suite_items/{step}/manifest.json", non_empty=True),
    log:
        "logs/suite_items/{step}.log",
    conda:
        "../../envs/evaluate.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=120,
    params:
        job=job_of("suite_items"),
    message:
        "gathering the items of the suites' tasks"
    shell:
        "python workflow/scripts/suite_items.py {params.job:q} > {log:q} 2>&1"


rule overlap:
    input:
        manifests=ancient(inputs_of("overlap")),
    output:
        manifest=ensure("results/overlap/{step}/manifest.json", non_empty=True),
    log:
        "logs/overlap/{step}.log",
    conda:
        "../../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=240,
    params:
        job=job_of("overlap"),
    message:
        "measuring the overlap of {wildcards.step}"
    shell:
        "python workflow/scripts/overlap.py {params.job:q} > {log:q} 2>&1"


rule shards:
    input:
        manifests=ancient(inputs_of("shards")),
    output:
        manifest=ensure("results/shards/{step}/manifest.json", non_empty=True),
    log:
        "logs/shards/{step}.log",
    conda:
        "../../envs/data.yaml"
    threads: WORKFLOW.recipe.runtime.data_workers
    resources:
        mem_mb=lambda wildcards, threads: 2000 * threads,
        runtime=240,
    params:
        job=job_of("shards"),
    message:
        "tokenizing {wildcards.step}"
    shell:
        "python workflow/scripts/shards.py {params.job:q} --workers {threads} > {log:q} 2>&1"


rule packing:
    input:
        manifests=ancient(inputs_of("packing")),
    output:
        manifest=ensure("results/packing/{step}/manifest.json", non_empty=True),
    log:
        "logs/packing/{step}.log",
    conda:
        "../../envs/data.yaml"
    threads: WORKFLOW.recipe.runtime.data_workers
    resources:
        mem_mb=lambda wildcards, threads: 2000 * threads,
        runtime=240,
    params:
        job=job_of("packing"),
    message:
        "packing {wildcards.step}"
    shell:
        "python workflow/scripts/packing.py {params.job:q} --workers {threads} > {log:q} 2>&1"


rule mixture:
    input:
        manifests=ancient(inputs_of("mixture")),
    output:
        manifest=ensure("results/mixture/{step}/manifest.json", non_empty=True),
    log:
        "logs/mixture/{step}.log",
    conda:
        "../../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=30,
    params:
        job=job_of("mixture"),
    message:
        "mixing {wildcards.step}"
    shell:
        "python workflow/scripts/mixture.py {params.job:q} > {log:q} 2>&1"


rule epochs:
    input:
        manifests=ancient(inputs_of("epochs")),
    output:
        manifest=ensure("results/epochs/{step}/manifest.json", non_empty=True),
    log:
        "logs/epochs/{step}.log",
    localrule: True
    conda:
        "../../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=30,
    params:
        job=job_of("epochs"),
    message:
        "counting epochs of {wildcards.step}"
    shell:
        "python workflow/scripts/epochs.py {params.job:q} > {log:q} 2>&1"


rule adopted:
    input:
        manifests=ancient(inputs_of("adopted")),
    output:
        manifest=ensure("results/adopted/{step}/manifest.json", non_empty=True),
    log:
        "logs/adopted/{step}.log",
    conda:
        "../../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=240,
    params:
        job=job_of("adopted"),
    message:
        "adopting {wildcards.step}"
    shell:
        "python workflow/scripts/adopted.py {params.job:q} > {log:q} 2>&1"


rule heldout:
    input:
        manifests=ancient(inputs_of("heldout")),
    output:
        manifest=ensure("results/heldout/{step}/manifest.json", non_empty=True),
    log:
        "logs/heldout/{step}.log",
    conda:
        "../../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        job=job_of("heldout"),
    message:
        "gathering held-out documents"
    shell:
        "python workflow/scripts/heldout.py {params.job:q} > {log:q} 2>&1"
