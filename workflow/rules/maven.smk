"""Occupancy of every unit of a model, or of every mask, in every volume and every particle; do the classes differ?"""


rule maven:
    input:
        model=lambda wildcards: [] if masks_of(wildcards) else MODEL,
        blocks=lambda wildcards: "<results>/{round}/siren" if masks_of(wildcards) == "siren" else [],
        volumes="<results>/{round}/volumes",
        weights=latent_model,
        named=named("maven"),
        store="<results>/prepared/store.yaml",
        indices="<results>/{round}/subset/indices.pkl",
        linear="<results>/{round}/linear/weights.pkl",
        config="<results>/{round}/linear/config.pkl",
        held_out="<results>/{round}/linear/held_out.npz",
        poses="<results>/{round}/linear/poses.parquet",
    output:
        directory("<results>/{round}/maven"),
    log:
        "<logs>/{round}/maven.log",
    benchmark:
        "<benchmarks>/{round}/maven.tsv"
    conda:
        "../../envs/tomohet.yaml"
    threads: 1
    resources:
        **ONE_GPU,
        **needs("maven"),
    params:
        units=units,
        store=subpath(input.store, parent=True),
        linear=subpath(input.linear, parent=True),
        workdir=lambda wildcards, input: Path(input.weights[0]).parent,
        epoch=lambda wildcards, input: epoch(wildcards, input.weights),
        options=options("maven"),
        of_volumes=options("volumes"),
    shell:
        "maven_and_support() {{"
        " tomohet maven --volumes {input.volumes:q} {params.units} --workdir {params.workdir:q}"
        " --epoch {params.epoch:q} {params.of_volumes} {params.options} -o {output:q}"
        " && tomohet support {params.store:q} --ind-ptcls {input.indices:q} --column maven_class"
        " --groups {output:q}/particles.parquet --linear {params.linear:q} -o {output:q}; }};"
        " logged {log:q} {resources.attempt} with_cards {resources.cards} maven_and_support"
