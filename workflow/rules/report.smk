"""The configuration as it was used, and one HTML page of everything."""


rule write_config:
    output:
        "<results>/config.yaml",
    log:
        "<logs>/write_config.log",
    benchmark:
        "<benchmarks>/write_config.tsv"
    conda:
        "../../envs/tomohet.yaml"
    threads: 1
    resources:
        mem_mb=100,
        runtime=5,
    params:
        text=lambda wildcards: yaml.safe_dump(CONFIG, sort_keys=False, allow_unicode=True),
    shell:
        "printf '%s' {params.text:q} > {output:q} 2> {log:q}"


rule report:
    input:
        config="<results>/config.yaml",
        validation="<results>/validation/validation.json",
        homogeneous="<results>/homogeneous/fsc.csv",
        linear=expand("<results>/{round}/linear/summary.json", round=ROUNDS),
        tables=expand("<results>/{round}/particles.parquet", round=ROUNDS),
        subsets=expand("<results>/{round}/subset/particles.star", round=ROUNDS),
        series=expand("<results>/{round}/subset/volumes.star", round=ROUNDS if VOLUME_SERIES else []),
        scenes=expand("<results>/{round}/mapback", round=ROUNDS if VOLUME_SERIES else []),
        maps=expand("<results>/{round}/subset/fsc.csv", round=ROUNDS),
        support=expand(
            "<results>/{round}/subset/support.json",
            round=[name for name, given in ROUNDS.items() if given.get("parent")],
        ),
        clusters=expand("<results>/{round}/groups/clusters", round=ROUNDS),
        classes=expand("<results>/{round}/groups/classes", round=filter(has_units, ROUNDS)),
        proposals=expand("<results>/{round}/proposed/rounds.yaml", round=PROPOSING),
        truth=expand("<results>/{round}/truth", round=ROUNDS) if SIMULATED else [],
    output:
        "<results>/report.html",
    log:
        "<logs>/report.log",
    benchmark:
        "<benchmarks>/report.tsv"
    conda:
        "../../envs/tomohet.yaml"
    threads: 1
    resources:
        **needs("report"),
    params:
        folder=subpath(output[0], parent=True),
    shell:
        "logged {log:q} {resources.attempt}" " tomohet report {params.folder:q} -o {output:q}"
