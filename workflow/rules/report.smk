# The report, and the readable links to everything of a recipe.


rule report:
    input:
        manifests=ancient(inputs_of("report")),
    output:
        manifest=ensure("results/report/{step}/manifest.json", non_empty=True),
    log:
        "logs/report/{step}.log",
    localrule: True
    conda:
        "../../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=30,
    params:
        recipe=str(WORKFLOW.file),
    message:
        "writing the report {wildcards.step}"
    shell:
        "python workflow/scripts/report.py {params.recipe:q} {output.manifest:q} > {log:q} 2>&1"


rule link_results:
    input:
        manifests=ancient(manifests_of("report")),
    output:
        links="results/latest/{recipe}/links-{state}.json",
    log:
        "logs/latest/{recipe}-{state}.log",
    localrule: True
    conda:
        "../../envs/report.yaml"
    threads: 1
    params:
        recipe=str(WORKFLOW.file),
    message:
        "linking results/latest/{wildcards.recipe}"
    shell:
        "python workflow/scripts/link_results.py {params.recipe:q} {output.links:q} > {log:q} 2>&1"
