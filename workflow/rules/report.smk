"""The configuration as it was used, and one HTML page of everything."""


rule write_config:
    output:
        RESULTS + "/config.yaml",
    log:
        LOGS + "/write_config.log",
    benchmark:
        BENCHMARKS + "/write_config.tsv"
    conda:
        "../../envs/tomohet.yaml"
    params:
        text=yaml.safe_dump(CONFIG, sort_keys=False, allow_unicode=True),
    threads: 1
    resources:
        mem_mb=100,
        runtime=5,
    shell:
        "printf '%s' {params.text:q} > {output} 2> {log}"


rule report:
    input:
        config=RESULTS + "/config.yaml",
        validation=RESULTS + "/validation/validation.json",
        homogeneous=RESULTS + "/homogeneous/fsc.csv",
        linear=expand(ROUND + "/linear", round=ROUNDS),
        tables=expand(ROUND + "/particles.parquet", round=ROUNDS),
        subsets=expand(ROUND + "/subset/particles.star", round=ROUNDS),
        maps=expand(ROUND + "/subset/fsc.csv", round=ROUNDS),
        truth=expand(ROUND + "/truth", round=ROUNDS) if SIMULATED else [],
    output:
        RESULTS + "/report.html",
    log:
        LOGS + "/report.log",
    benchmark:
        BENCHMARKS + "/report.tsv"
    conda:
        "../../envs/tomohet.yaml"
    params:
        folder=RESULTS,
    threads: 1
    resources:
        mem_mb=megabytes(4000),
        runtime=minutes(30),
    shell:
        "python {SCRIPTS}/report.py {params.folder} -o {output} 2>&1 | logged {log}"
