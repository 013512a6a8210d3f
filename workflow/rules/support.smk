"""Whether a round's particles differ from the other particles of its parent by more than chance and noise."""


rule support:
    input:
        store="<results>/prepared/store.yaml",
        members="<results>/{round}/subset/indices.pkl",
        maps="<results>/{round}/subset/fsc.csv",
        parent=of_parent("<results>/{round}/subset/indices.pkl"),
        linear=of_parent(
            "<results>/{round}/linear/weights.pkl",
            "<results>/{round}/linear/config.pkl",
            "<results>/{round}/linear/held_out.npz",
            "<results>/{round}/linear/poses.parquet",
        ),
        model=lambda wildcards: of_parent(*latent_model(wildcards))(wildcards),
    output:
        "<results>/{round}/subset/support.json",
    log:
        "<logs>/{round}/support.log",
    benchmark:
        "<benchmarks>/{round}/support.tsv"
    conda:
        "../../envs/tomohet.yaml"
    threads: 1
    resources:
        **ONE_GPU,
        **needs("support"),
    params:
        store=subpath(input.store, parent=True),
        linear=lambda wildcards, input: Path(input.linear[0]).parent,
        maps=subpath(input.maps, parent=True),
        model=lambda wildcards, input: Path(input.model[0]).parent,
        epoch=lambda wildcards, input: epoch(wildcards, input.model),
        query=query,
        flip="--flip" if CONFIG["homogeneous"]["flip"] else "",
        folder=subpath(output[0], parent=True),
    shell:
        "logged {log:q} {resources.attempt} with_cards {resources.cards}"
        " tomohet support {params.store:q} --ind-ptcls {input.parent:q} --members {input.members:q}"
        " {params.query} --linear {params.linear:q} --maps {params.maps:q} {params.flip} --workdir {params.model:q}"
        " --epoch {params.epoch:q} -o {params.folder:q}"
