# A drill of all tasks before training; then every checkpoint on every task, on held-out text, and in its own words.


rule check_tasks:
    input:
        manifests=ancient(inputs_of("check_tasks")),
    output:
        manifest=ensure("results/check_tasks/{step}/manifest.json", non_empty=True),
    log:
        "logs/check_tasks/{step}.log",
    conda:
        "../../envs/evaluate.yaml"
    threads: WORKFLOW.recipe.runtime.threads
    resources:
        mem_mb=4000,
        runtime=120,
    params:
        job=job_of("check_tasks"),
    message:
        "trying every task of {wildcards.step}"
    shell:
        "python workflow/scripts/check_tasks.py {params.job:q} > {log:q} 2>&1"


rule evaluation:
    input:
        manifests=ancient(inputs_of("evaluation")),
    output:
        manifest=ensure("results/evaluation/{step}/manifest.json", non_empty=True),
    log:
        "logs/evaluation/{step}.log",
    conda:
        "../../envs/evaluate.yaml"
    threads: 1
    resources:
        **devices_of("evaluation", mem_mb=2000, runtime=240),
    params:
        job=job_of("evaluation"),
    message:
        "evaluating {wildcards.step}"
    shell:
        "python workflow/scripts/evaluation.py {params.job:q} > {log:q} 2>&1"


rule suite:
    input:
        manifests=ancient(inputs_of("suite")),
    output:
        manifest=ensure("results/suite/{step}/manifest.json", non_empty=True),
    log:
        "logs/suite/{step}.log",
    conda:
        "../../envs/evaluate.yaml"
    threads: 1
    resources:
        **devices_of("suite", mem_mb=2000, runtime=480),
    params:
        job=job_of("suite"),
    message:
        "evaluating {wildcards.step}"
    shell:
        "python workflow/scripts/suite.py {params.job:q} > {log:q} 2>&1"
