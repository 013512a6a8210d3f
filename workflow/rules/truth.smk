"""What was found beside what was simulated."""


rule assess:
    input:
        truth=RESULTS + "/simulated/truth.npz",
        table=ROUND + "/particles.parquet",
        linear=ROUND + "/linear",
    output:
        directory(ROUND + "/truth"),
    log:
        ROUND_LOGS + "/assess.log",
    benchmark:
        ROUND_BENCHMARKS + "/assess.tsv"
    conda:
        "../../envs/tomohet.yaml"
    params:
        folder=subpath(input.table, parent=True),
    threads: 2
    resources:
        mem_mb=megabytes(4000),
        runtime=minutes(60),
    shell:
        "python {SCRIPTS}/assess.py --truth {input.truth} --round-dir {params.folder} -o {output}"
        " 2>&1 | logged {log}"
