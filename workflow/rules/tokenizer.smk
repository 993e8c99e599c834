# Tokenizers and their comparison.


rule tokenizer:
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
        "python workflow/scripts/tokenizer.py {params.job:q} > {log:q} 2>&1"


rule tokenizer_comparison:
    input:
        manifests=ancient(inputs_of("tokenizer_comparison")),
    output:
        manifest=ensure("results/tokenizer_comparison/{step}/manifest.json", non_empty=True),
    log:
        "logs/tokenizer_comparison/{step}.log",
    conda:
        "../../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        job=job_of("tokenizer_comparison"),
    message:
        "comparing tokenizers"
    shell:
        "python workflow/scripts/tokenizer_comparison.py {params.job:q} > {log:q} 2>&1"
