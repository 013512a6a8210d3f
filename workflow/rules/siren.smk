"""Structural blocks found in the volumes without a model, and how much of each is on in every particle."""


rule siren:
    input:
        volumes="<results>/{round}/volumes",
        weights=latent_model,
        named=named("siren"),
        shares=shares("siren"),
    output:
        directory("<results>/{round}/siren"),
    log:
        "<logs>/{round}/siren.log",
    benchmark:
        "<benchmarks>/{round}/siren.tsv"
    conda:
        "../../envs/tomohet.yaml"
    threads: 2
    resources:
        **ONE_GPU,
        **needs("siren"),
    params:
        workdir=lambda wildcards, input: Path(input.weights[0]).parent,
        epoch=lambda wildcards, input: epoch(wildcards, input.weights),
        options=options("siren"),
        of_volumes=options("volumes"),
        jobs=gathered,
    shell:
        "logged {log:q} {resources.attempt} with_cards {resources.cards}"
        " tomohet siren --volumes {input.volumes:q} --workdir {params.workdir:q} --epoch {params.epoch:q}"
        " {params.of_volumes} {params.options} {params.jobs} -o {output:q}"


use rule siren as siren_share with:
    output:
        temp(directory("<results>/{round}/siren.shares/{share}")),
    log:
        "<logs>/{round}/siren_share.{share}.log",
    benchmark:
        "<benchmarks>/{round}/siren_share.{share}.tsv"
    params:
        jobs=part,
