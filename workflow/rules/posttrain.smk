# Mid-training, SFT, preference pairs, APO and the merge.


rule posttraining:
    input:
        manifests=ancient(inputs_of("posttraining")),
    output:
        manifest=ensure("results/posttraining/{step}/manifest.json", non_empty=True),
    log:
        "logs/posttraining/{step}.log",
    # Evaluations fill the cores that training leaves.
    priority: 10
    conda:
        "../../envs/posttrain.yaml"
    threads: WORKFLOW.recipe.runtime.threads_posttraining
    resources:
        **devices_of("posttraining", mem_mb=2000, runtime=1440),
    params:
        job=job_of("posttraining"),
        launcher=launcher_of("posttraining"),
    message:
        "training {wildcards.step} on conversations"
    shell:
        "{params.launcher} workflow/scripts/posttraining.py {params.job:q} > {log:q} 2>&1"


rule preferences:
    input:
        manifests=ancient(inputs_of("preferences")),
    output:
        manifest=ensure("results/preferences/{step}/manifest.json", non_empty=True),
    log:
        "logs/preferences/{step}.log",
    # Evaluations fill the cores that training leaves.
    priority: 10
    conda:
        "../../envs/posttrain.yaml"
    threads: WORKFLOW.recipe.runtime.threads_posttraining
    resources:
        **devices_of("preferences", mem_mb=2000, runtime=240),
    params:
        job=job_of("preferences"),
    message:
        "two checkpoints answer {wildcards.step}"
    shell:
        "python workflow/scripts/preferences.py {params.job:q} > {log:q} 2>&1"


rule alignment:
    input:
        manifests=ancient(inputs_of("alignment")),
    output:
        manifest=ensure("results/alignment/{step}/manifest.json", non_empty=True),
    log:
        "logs/alignment/{step}.log",
    # Evaluations fill the cores that training leaves.
    priority: 10
    conda:
        "../../envs/posttrain.yaml"
    threads: WORKFLOW.recipe.runtime.threads_posttraining
    resources:
        **devices_of("alignment", mem_mb=2000, runtime=1440),
    params:
        job=job_of("alignment"),
        launcher=launcher_of("alignment"),
    message:
        "aligning {wildcards.step}"
    shell:
        "{params.launcher} workflow/scripts/alignment.py {params.job:q} > {log:q} 2>&1"


rule merge:
    input:
        manifests=ancient(inputs_of("merge")),
    output:
        manifest=ensure("results/merge/{step}/manifest.json", non_empty=True),
    log:
        "logs/merge/{step}.log",
    # Evaluations fill the cores that training leaves.
    priority: 10
    conda:
        "../../envs/posttrain.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        job=job_of("merge"),
    message:
        "merging {wildcards.step}"
    shell:
        "python workflow/scripts/merge.py {params.job:q} > {log:q} 2>&1"
