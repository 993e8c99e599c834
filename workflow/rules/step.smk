# The rule that the rules of all kinds of steps inherit: all of it but inputs, output and message.
rule step:
    log:
        "logs/{kind}/{step}.log",
    conda:
        of_step(lambda step: str(ROOT / "envs" / f"{KINDS[step.kind].environment}.yaml"))
    threads: of_step(lambda step: step.run.threads)
    resources:
        **{name: request(name) for name in NAMES},
    params:
        launcher=of_step(WORKFLOW.launcher),
    message:
        "{wildcards.kind} {wildcards.step}"
    shell:
        "{params.launcher} workflow/scripts/{wildcards.kind}.py .smolmake/jobs/{wildcards.kind}/{wildcards.step}.json"
        " --workers {threads} > {log:q} 2>&1"
