"""The network. Checkpoints, loss.csv and run.log are not declared: Snakemake deletes the declared outputs of a
job that fails, is killed or preempted, and a training must find its checkpoints again."""


rule train_vae:
    input:
        store=STORE + "/store.yaml",
        indices=ROUND + "/subset/indices.pkl",
    output:
        weights=ROUND + "/train_vae/weights.pkl",
        latents=ROUND + "/train_vae/z.train.pkl",
    log:
        ROUND_LOGS + "/train_vae.log",
    benchmark:
        ROUND_BENCHMARKS + "/train_vae.tsv"
    conda:
        "../../envs/tomohet.yaml"
    params:
        options=options("train"),
        store=STORE,
        folder=subpath(output.weights, parent=True),
    threads: 2
    resources:
        mem_mb=megabytes(8000),
        runtime=minutes(720),
        **GPU,
    shell:
        "python {SCRIPTS}/train_vae.py {params.store} --ind-ptcls {input.indices} -o {params.folder}"
        " {params.options} 2>&1 | logged {log}"
