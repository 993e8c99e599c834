# The report, and the readable links to everything of a recipe.


use rule step as report with:
    input:
        step=role("step"),
    output:
        manifest=ensure("results/report/{step}/manifest.json", non_empty=True),
    log:
        "logs/report/{step}.log",
    localrule: True
    conda:
        environment("report")
    message:
        "writing the report {wildcards.step}"


rule link_results:
    input:
        manifests=ancient(WORKFLOW.manifests("report")),
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
