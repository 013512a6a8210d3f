"""Occupancy of every unit of a model, or of every mask, in every volume and every particle."""


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
