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
        **needs("prepare"),
    params:
        datadir=datadir,
        stacks=stacks,
        options=options("prepare"),
        folder=subpath(output.store, parent=True),
    shell:
        "logged {log:q} {resources.attempt}"
        " tomohet prepare {input.particles:q} {params.datadir} -o {params.folder:q} {params.options}"
