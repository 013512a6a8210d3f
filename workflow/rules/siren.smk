"""Structural blocks found in the volumes without a model."""


rule siren:
    input:
        ROUND + "/volumes",
    output:
        directory(ROUND + "/siren"),
    log:
        ROUND_LOGS + "/siren.log",
    benchmark:
        ROUND_BENCHMARKS + "/siren.tsv"
    conda:
        "../../envs/tomohet.yaml"
    params:
        options=options("siren"),
    threads: 2
    resources:
        mem_mb=megabytes(8000),
        runtime=minutes(120),
    shell:
        "python {SCRIPTS}/siren.py --volumes {input} -o {output} {params.options} 2>&1 | logged {log}"
