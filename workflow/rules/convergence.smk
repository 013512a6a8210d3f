"""Which epoch to analyse."""


rule convergence:
    input:
        weights="<results>/{round}/train_vae/weights.pkl",
        latents="<results>/{round}/train_vae/z.train.pkl",
        fsc="<results>/{round}/subset/fsc.csv",
    output:
        directory("<results>/{round}/convergence"),
    log:
        "<logs>/{round}/convergence.log",
    benchmark:
        "<benchmarks>/{round}/convergence.tsv"
    conda:
        "../../envs/tomohet.yaml"
    threads: 1
    resources:
        **needs("convergence"),
    params:
        options=options("convergence"),
        folder=subpath(input.weights, parent=True),
    shell:
        "logged {log:q} {resources.attempt}"
        " tomohet convergence_vae {params.folder:q} -o {output:q} --fsc {input.fsc:q} {params.options}"
