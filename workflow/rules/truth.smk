"""What was found beside what was simulated."""


rule assess:
    input:
        truth="<results>/simulated/truth.npz",
        table="<results>/{round}/particles.parquet",
        linear="<results>/{round}/linear/z.train.pkl",
    output:
        directory("<results>/{round}/truth"),
    log:
        "<logs>/{round}/assess.log",
    benchmark:
        "<benchmarks>/{round}/assess.tsv"
    conda:
        "../../envs/tomohet.yaml"
    threads: 1
    resources:
        **needs("assess"),
    params:
        folder=subpath(input.table, parent=True),
    shell:
        "logged {log:q} {resources.attempt}"
        " tomohet assess --truth {input.truth:q} --round-dir {params.folder:q} -o {output:q}"
