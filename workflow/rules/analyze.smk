"""The latents of a round: principal components, clusters, UMAP, volumes; do the clusters differ?"""


rule analyze:
    input:
        latent_model,
        states="<results>/{round}/states",
        store="<results>/prepared/store.yaml",
        indices="<results>/{round}/subset/indices.pkl",
        linear="<results>/{round}/linear/weights.pkl",
        config="<results>/{round}/linear/config.pkl",
        held_out="<results>/{round}/linear/held_out.npz",
        poses="<results>/{round}/linear/poses.parquet",
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
        store=subpath(input.store, parent=True),
        linear=subpath(input.linear, parent=True),
        epoch=epoch,
    shell:
        "analyze_and_support() {{"
        " tomohet analyze {params.model:q} --epoch {params.epoch:q} --states {input.states:q}/particles.parquet"
        " -o {output:q} {params.options}"
        " && tomohet support {params.store:q} --ind-ptcls {input.indices:q} --column kmeans"
        " --groups {output:q}/particles.parquet --linear {params.linear:q} -o {output:q}; }};"
        " logged {log:q} {resources.attempt} analyze_and_support"
