"""Where every subset comes from, with digests and seeds, and the methods paragraph with its numbers."""


rule lineage:
    input:
        config="<results>/config.yaml",
        homogeneous="<results>/homogeneous/fsc.csv",
        tables=expand("<results>/{round}/particles.parquet", round=ROUNDS),
        maps=expand("<results>/{round}/subset/fsc.csv", round=ROUNDS),
    output:
        lineage="<results>/lineage.json",
        picture="<results>/lineage.png",
        drawing="<results>/lineage.svg",
        methods="<results>/methods.md",
    log:
        "<logs>/lineage.log",
    benchmark:
        "<benchmarks>/lineage.tsv"
    conda:
        "../../envs/tomohet.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(1000),
        runtime=minutes(10),
    params:
        folder=subpath(output.lineage, parent=True),
    shell:
        "(tomohet lineage {params.folder:q} && tomohet methods {params.folder:q} -o {output.methods:q})"
        " 2>&1 | logged {log:q}"
