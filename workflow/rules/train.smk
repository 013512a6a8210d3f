"""The network. Checkpoints, loss.csv and run.log are not declared: Snakemake deletes the declared outputs of a
job that fails, is killed or preempted, and a training must find its checkpoints again."""


rule train_vae:
    input:
        store="<results>/prepared/store.yaml",
        indices="<results>/{round}/subset/indices.pkl",
        teacher=branch(
            lambda wildcards: stage_options(CONFIG, "train", wildcards.round)["init"] == "linear",
            then="<results>/{round}/linear/weights.pkl",
            otherwise=[],
        ),
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
        **TRAINING.resources,
        mem_mb=megabytes(6000),
        runtime=minutes(720),
    params:
        options=options("train"),
        store=subpath(input.store, parent=True),
        folder=subpath(output.weights, parent=True),
        teacher=lambda wildcards, input: (
            f"--init {shlex.quote(str(Path(input.teacher).parent))}"
            if input.teacher
            else shlex.join(["--poses", str(input.poses)])
        ),
        several=TRAINING.several,
        program=TRAINER,
    shell:
        "{params.program} train_vae {params.store:q} --ind-ptcls {input.indices:q} -o {params.folder:q}"
        " {params.teacher} {params.several} {params.options} 2>&1 | logged {log:q}"
