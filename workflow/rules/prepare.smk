"""Reads, windows, transforms, shifts and sorts every image once; all rounds use this one store."""


rule prepare:
    input:
        particles=PARTICLES,
        validation=RESULTS + "/validation/validation.json",
    output:
        store=STORE + "/store.yaml",
        particles=STORE + "/particles.parquet",
        images=STORE + "/images.parquet",
    log:
        LOGS + "/prepare.log",
    benchmark:
        BENCHMARKS + "/prepare.tsv"
    conda:
        "../../envs/tomohet.yaml"
    params:
        datadir=DATADIR,
        options=options("prepare"),
        folder=subpath(output.store, parent=True),
    threads: 2
    resources:
        mem_mb=megabytes(8000),
        runtime=minutes(240),
    shell:
        "python {SCRIPTS}/prepare.py {input.particles} {params.datadir} -o {params.folder} {params.options}"
        " 2>&1 | logged {log}"
