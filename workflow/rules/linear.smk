"""The linear latent model: a first answer in seconds, and whether there is anything to find."""


rule train_linear:
    input:
        store="<results>/prepared/store.yaml",
        indices="<results>/{round}/subset/indices.pkl",
        named=named("linear"),
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
        **ON_ONE_MACHINE.resources,
        mem_mb=megabytes(6000),
        runtime=minutes(120),
    params:
        options=options("linear"),
        store=subpath(input.store, parent=True),
        folder=subpath(output.weights, parent=True),
        several=ON_ONE_MACHINE.several,
    shell:
        "tomohet train_linear {params.store:q} --ind-ptcls {input.indices:q} -o {params.folder:q}"
        " {params.several} {params.options} 2>&1 | logged {log:q}"
