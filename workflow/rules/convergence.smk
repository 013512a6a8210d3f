"""Which epoch to analyse."""


rule convergence:
    input:
        weights=ROUND + "/train_vae/weights.pkl",
        latents=ROUND + "/train_vae/z.train.pkl",
    output:
        directory(ROUND + "/convergence"),
    log:
        ROUND_LOGS + "/convergence.log",
    benchmark:
        ROUND_BENCHMARKS + "/convergence.tsv"
    conda:
        "../../envs/tomohet.yaml"
    params:
        options=options("convergence"),
        folder=subpath(input.weights, parent=True),
    threads: 2
    resources:
        mem_mb=megabytes(4000),
        runtime=minutes(60),
    shell:
        "python {SCRIPTS}/convergence_vae.py {params.folder} -o {output} {params.options} 2>&1 | logged {log}"
