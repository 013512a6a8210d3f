"""Refuses early what cannot be right; counts what comes in and what stays."""


rule validate:
    input:
        PARTICLES,
    output:
        json="<results>/validation/validation.json",
        html="<results>/validation/validation.html",
    log:
        "<logs>/validate.log",
    benchmark:
        "<benchmarks>/validate.tsv"
    conda:
        "../../envs/tomohet.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(4000),
        runtime=minutes(60),
    params:
        datadir=DATADIR,
        software=CONFIG["prepare"]["source_software"],
        folder=subpath(output.json, parent=True),
    shell:
        "tomohet validate {input} {params.datadir} -o {params.folder} --source-software {params.software}"
        " 2>&1 | logged {log}"
