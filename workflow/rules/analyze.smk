"""The latents of a round: principal components, clusters, UMAP, volumes along and within them."""


def latent_files(wildcards):
    """What the analysis waits for: the linear model, or the network and the choice of its epoch."""
    folder = latent_model(wildcards)
    if CONFIG["latents"] == "linear":
        return [folder]
    return [folder + "/weights.pkl", folder + "/z.train.pkl", f"{RESULTS}/{wildcards.round}/convergence"]


def epoch(wildcards):
    """The epoch that convergence chose; the linear model has none but its last."""
    if CONFIG["latents"] == "linear":
        return "-1"
    return f"{RESULTS}/{wildcards.round}/convergence/convergence.json"


rule analyze:
    input:
        latent_files,
    output:
        directory(ROUND + "/analyze"),
    log:
        ROUND_LOGS + "/analyze.log",
    benchmark:
        ROUND_BENCHMARKS + "/analyze.tsv"
    conda:
        "../../envs/tomohet.yaml"
    params:
        options=options("analyze"),
        model=latent_model,
        epoch=epoch,
    threads: 2
    resources:
        mem_mb=megabytes(8000),
        runtime=minutes(120),
    shell:
        "python {SCRIPTS}/analyze.py {params.model} --epoch {params.epoch} -o {output} {params.options}"
        " 2>&1 | logged {log}"
