# The rule that the rules of all kinds of steps inherit. A rule has inputs, an output, a log and an environment of its
# own: with its kind as a wildcard, Snakemake would try every rule for every file. The log and the environment here are
# for the linter, which wants them in every rule.
rule step:
    log:
        "logs/step/{step}.log",
    conda:
        "../../envs/data.yaml"
    threads: of_step(lambda step: step.run.threads)
    resources:
        **{name: request(name) for name in NAMES},
        gpus=of_step(lambda step: own_gpus(step, gpus())),
    params:
        command=of_step(lambda step: WORKFLOW.command(step, own_gpus(step, gpus()))),
    message:
        "{rule} {wildcards.step}"
    shell:
        "{params.command} --workers {threads} > {log:q} 2>&1"
