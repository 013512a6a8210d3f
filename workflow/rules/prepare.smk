"""Reads, windows, transforms, shifts and sorts every image once; all rounds use this one store."""


rule prepare:
    input:
        particles=PARTICLES,
        linked=PARTICLES_LINKED,
        named=named("prepare"),
        posed_linked=POSED_LINKED,
        validation="<results>/validation/validation.json",
    output:
        store="<results>/prepared/store.yaml",
        particles="<results>/prepared/particles.parquet",
        images="<results>/prepared/images.parquet",
    log:
        "<logs>/prepare.log",
    benchmark:
        "<benchmarks>/prepare.tsv"
    conda:
        "../../envs/tomohet.yaml"
    threads: 2
    resources:
        mem_mb=megabytes(6000),
        runtime=minutes(240),
    params:
        datadir=datadir,
        stacks=stacks,
        options=options("prepare"),
        folder=subpath(output.store, parent=True),
    shell:
        "tomohet prepare {input.particles:q} {params.datadir} -o {params.folder:q} {params.options}"
        " 2>&1 | logged {log:q}"
