"""The latents of a round: principal components, clusters, UMAP, volumes along and within them."""


rule analyze:
    input:
        latent_model,
        states="<results>/{round}/states",
    output:
        directory("<results>/{round}/analyze"),
    log:
        "<logs>/{round}/analyze.log",
    benchmark:
        "<benchmarks>/{round}/analyze.tsv"
    conda:
        "../../envs/tomohet.yaml"
    threads: 1
    resources:
        **needs("analyze"),
    params:
        options=options("analyze"),
        model=subpath(input[0], parent=True),
        epoch=epoch,
    shell:
        "logged {log:q} {resources.attempt}"
        " tomohet analyze {params.model:q} --epoch {params.epoch:q} --states {input.states:q}/particles.parquet"
        " -o {output:q} {params.options}"
