"""Occupancy of every unit of a model, or of every mask, in every volume and every particle."""


def masks_of(wildcards):
    """The masks to measure: the blocks of siren, a folder, or None for the chains of the model."""
    masks = stage_options(CONFIG, "maven", wildcards.round)["masks"]
    return "<results>/{round}/siren" if masks == "siren" else masks


rule maven:
    input:
        units=lambda wildcards: masks_of(wildcards) or MODEL,
        volumes="<results>/{round}/volumes",
        weights=latent_model,
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
        mem_mb=megabytes(4000),
        runtime=minutes(120),
    params:
        kind=lambda wildcards: "--masks" if masks_of(wildcards) else "--model",
        workdir=lambda wildcards, input: Path(input.weights[0]).parent,
        epoch=lambda wildcards, input: epoch(wildcards, input.weights),
        options=options("maven"),
        of_volumes=options("volumes"),
    shell:
        "tomohet maven --volumes {input.volumes} {params.kind} {input.units:q}"
        " --workdir {params.workdir} --epoch {params.epoch} {params.of_volumes} {params.options} -o {output} 2>&1 | logged {log}"
