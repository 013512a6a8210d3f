"""The linear latent model: a first answer in seconds, and whether there is anything to find."""


rule train_linear:
    input:
        store="<results>/prepared/store.yaml",
        indices="<results>/{round}/subset/indices.pkl",
        named=named("linear"),
        warm=warm_linear,
    output:
        weights="<results>/{round}/linear/weights.pkl",
        held_out="<results>/{round}/linear/held_out.npz",
        latents="<results>/{round}/linear/z.train.pkl",
        config="<results>/{round}/linear/config.pkl",
        summary="<results>/{round}/linear/summary.json",
        table="<results>/{round}/linear/particles.parquet",
        poses="<results>/{round}/linear/poses.parquet",
    log:
        "<logs>/{round}/train_linear.log",
    benchmark:
        "<benchmarks>/{round}/train_linear.tsv"
    conda:
        "../../envs/tomohet.yaml"
    threads: 2
    resources:
        **ON_MACHINES.resources,
        **needs("train_linear"),
    params:
        options=options("linear"),
        store=subpath(input.store, parent=True),
        folder=subpath(output.weights, parent=True),
        several=ON_MACHINES.several,
        program=LAUNCHED,
        warm=lambda wildcards, input: (
            shlex.join(["--warm-start", str(Path(input.warm[0]).parent)]) if input.warm else ""
        ),
    shell:
        "logged {log:q} {resources.attempt} with_cards {resources.cards}"
        " {params.program} train_linear {params.store:q} --ind-ptcls {input.indices:q} -o {params.folder:q}"
        " {params.warm} {params.several} {params.options}"
