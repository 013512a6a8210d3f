"""Where every subset comes from, with digests and seeds, and the methods paragraph with its numbers."""


rule lineage:
    input:
        config="<results>/config.yaml",
        homogeneous="<results>/homogeneous/fsc.csv",
        tables=expand("<results>/{round}/particles.parquet", round=ROUNDS),
        maps=expand("<results>/{round}/subset/fsc.csv", round=ROUNDS),
        support=expand(
            "<results>/{round}/subset/support.json",
            round=[name for name, given in ROUNDS.items() if given.get("parent")],
        ),
        clusters=expand("<results>/{round}/groups/clusters", round=ROUNDS),
        classes=expand("<results>/{round}/groups/classes", round=filter(has_units, ROUNDS)),
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
        **needs("lineage"),
    params:
        folder=subpath(output.lineage, parent=True),
    shell:
        "lineage_and_methods() {{"
        " tomohet lineage {params.folder:q} && tomohet methods {params.folder:q} -o {output.methods:q}; }};"
        " logged {log:q} {resources.attempt} lineage_and_methods"
