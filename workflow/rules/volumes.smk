"""The volumes that stand for the particles of a round, and how they differ voxel by voxel."""


rule volumes:
    input:
        latent_files,
    output:
        directory(ROUND + "/volumes"),
    log:
        ROUND_LOGS + "/volumes.log",
    benchmark:
        ROUND_BENCHMARKS + "/volumes.tsv"
    conda:
        "../../envs/tomohet.yaml"
    params:
        options=options("volumes"),
        model=latent_model,
        epoch=epoch,
    threads: 2
    resources:
        mem_mb=megabytes(8000),
        runtime=minutes(240),
    shell:
        "python {SCRIPTS}/eval_vol.py --workdir {params.model} --epoch {params.epoch} -o {output}"
        " {params.options} 2>&1 | logged {log}"


rule analyze_volumes:
    input:
        ROUND + "/volumes",
    output:
        directory(ROUND + "/analyze_volumes"),
    log:
        ROUND_LOGS + "/analyze_volumes.log",
    benchmark:
        ROUND_BENCHMARKS + "/analyze_volumes.tsv"
    conda:
        "../../envs/tomohet.yaml"
    params:
        options=options("analyze_volumes"),
        model=latent_model,
    threads: 2
    resources:
        mem_mb=megabytes(8000),
        runtime=minutes(120),
    shell:
        "python {SCRIPTS}/analyze_volumes.py --voldir {input} --config {params.model}/config.pkl"
        " --outdir {output} {params.options} 2>&1 | logged {log}"
