"""The network. Checkpoints, loss.csv and run.log are not declared: Snakemake deletes the declared outputs of a
job that fails, is killed or preempted, and a training must find its checkpoints again."""


rule train_vae:
    input:
        store="<results>/prepared/store.yaml",
        indices="<results>/{round}/subset/indices.pkl",
        teacher=teacher,
        warm=warm_network,
        poses="<results>/{round}/linear/poses.parquet",
    output:
        weights="<results>/{round}/train_vae/weights.pkl",
        latents="<results>/{round}/train_vae/z.train.pkl",
    log:
        "<logs>/{round}/train_vae.log",
    benchmark:
        "<benchmarks>/{round}/train_vae.tsv"
    conda:
        "../../envs/tomohet.yaml"
    threads: 2
    resources:
        **ON_MACHINES.resources,
        **needs("train_vae"),
    params:
        options=options("train"),
        store=subpath(input.store, parent=True),
        folder=subpath(output.weights, parent=True),
        teacher=lambda wildcards, input: (
            shlex.join(
                ["--init", str(Path(input.teacher).parent)]
                + (["--warm-start", str(Path(input.warm).parent)] if input.warm else [])
            )
            if input.teacher
            else shlex.join(["--poses", str(input.poses)])
        ),
        several=ON_MACHINES.several,
        program=LAUNCHED,
    shell:
        "logged {log:q} {resources.attempt} with_cards {resources.cards}"
        " {params.program} train_vae {params.store:q} --ind-ptcls {input.indices:q} -o {params.folder:q}"
        " {params.teacher} {params.several} {params.options}"
