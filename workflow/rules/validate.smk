"""Refuses early what cannot be right; counts what comes in and what stays."""


rule validate:
    input:
        PARTICLES,
    output:
        json=RESULTS + "/validation/validation.json",
        html=RESULTS + "/validation/validation.html",
    log:
        LOGS + "/validate.log",
    benchmark:
        BENCHMARKS + "/validate.tsv"
    conda:
        "../../envs/tomohet.yaml"
    params:
        datadir=DATADIR,
        options=options("prepare"),
        folder=subpath(output.json, parent=True),
    threads: 1
    resources:
        mem_mb=megabytes(4000),
        runtime=minutes(60),
    shell:
        "python {SCRIPTS}/validate.py {input} {params.datadir} -o {params.folder} {params.options}"
        " 2>&1 | logged {log}"
