# Tokenizers and their comparison.


rule train_tokenizer:
    input:
        manifests=ancient(inputs_of("tokenizer")),
    output:
        manifest=ensure("results/tokenizer/{step}/manifest.json", non_empty=True),
    log:
        "logs/tokenizer/{step}.log",
    conda:
        "../../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=120,
    params:
        job=job_of("tokenizer"),
    message:
        "training tokenizer {wildcards.step}"
    shell:
        "python workflow/scripts/train_tokenizer.py {params.job:q} > {log:q} 2>&1"


rule analyse_tokenizers:
    input:
        manifests=ancient(inputs_of("tokenizer_analysis")),
    output:
        manifest=ensure("results/tokenizer_analysis/{step}/manifest.json", non_empty=True),
    log:
        "logs/tokenizer_analysis/{step}.log",
    conda:
        "../../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        job=job_of("tokenizer_analysis"),
    message:
        "comparing tokenizers"
    shell:
        "python workflow/scripts/analyse_tokenizers.py {params.job:q} > {log:q} 2>&1"
