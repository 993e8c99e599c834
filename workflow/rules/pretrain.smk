# The check of each layout's machines, then stages 1 to 3 and the long-context extensions, segment by segment.


rule preflight:
    input:
        manifests=ancient(inputs_of("preflight")),
    output:
        manifest=ensure("results/preflight/{step}/manifest.json", non_empty=True),
    log:
        "logs/preflight/{step}.log",
    conda:
        "../../envs/train.yaml"
    threads: WORKFLOW.recipe.runtime.threads
    resources:
        **devices_of("preflight", mem_mb=1500, runtime=60),
    params:
        job=job_of("preflight"),
        launcher=launcher_of("preflight"),
    message:
        "checking the machines of {wildcards.step}"
    shell:
        "{params.launcher} workflow/scripts/preflight.py {params.job:q} > {log:q} 2>&1"


rule segment:
    input:
        manifests=ancient(inputs_of("segment")),
    output:
        manifest=ensure("results/segment/{step}/manifest.json", non_empty=True),
    log:
        "logs/segment/{step}.log",
    # Evaluations fill the cores that training leaves.
    priority: 10
    conda:
        "../../envs/train.yaml"
    threads: WORKFLOW.recipe.runtime.threads
    resources:
        **devices_of("segment", mem_mb=1500, runtime=1440),
    params:
        job=job_of("segment"),
        launcher=launcher_of("segment"),
    message:
        "training segment {wildcards.step}"
    shell:
        "{params.launcher} workflow/scripts/segment.py {params.job:q} > {log:q} 2>&1"
