"""Occupancy of every unit of a model, or of every mask, in every volume and every particle."""


rule maven:
    input:
        model=lambda wildcards: [] if masks_of(wildcards) else MODEL,
        blocks=lambda wildcards: "<results>/{round}/siren" if masks_of(wildcards) == "siren" else [],
        volumes="<results>/{round}/volumes",
        weights=latent_model,
        named=named("maven"),
        shares=shares("maven"),
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
        workdir=lambda wildcards, input: Path(input.weights[0]).parent,
        epoch=lambda wildcards, input: epoch(wildcards, input.weights),
        options=options("maven"),
        of_volumes=options("volumes"),
        jobs=gathered,
    shell:
        "logged {log:q} {resources.attempt} with_cards {resources.cards}"
        " tomohet maven --volumes {input.volumes:q} {params.units} --workdir {params.workdir:q}"
        " --epoch {params.epoch:q} {params.of_volumes} {params.options} {params.jobs} -o {output:q}"


use rule maven as maven_share with:
    output:
        temp(directory("<results>/{round}/maven.shares/{share}")),
    log:
        "<logs>/{round}/maven_share.{share}.log",
    benchmark:
        "<benchmarks>/{round}/maven_share.{share}.tsv"
    params:
        jobs=part,
