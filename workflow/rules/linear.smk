"""The linear latent model: a first answer in seconds, with its own test of whether there is anything to find."""


rule train_linear:
    input:
        store=STORE + "/store.yaml",
        indices=ROUND + "/subset/indices.pkl",
    output:
        directory(ROUND + "/linear"),
    log:
        ROUND_LOGS + "/train_linear.log",
    benchmark:
        ROUND_BENCHMARKS + "/train_linear.tsv"
    conda:
        "../../envs/tomohet.yaml"
    params:
        options=options("linear"),
        store=STORE,
    threads: 2
    resources:
        mem_mb=megabytes(8000),
        runtime=minutes(120),
    shell:
        "python {SCRIPTS}/train_linear.py {params.store} --ind-ptcls {input.indices} -o {output}"
        " {params.options} 2>&1 | logged {log}"
