"""Where the particles of a round lie in their tomograms, as ChimeraX scenes."""


rule mapback:
    input:
        star=VOLUME_SERIES or [],
        linked=VOLUME_SERIES_LINKED,
        table="<results>/{round}/particles.parquet",
    output:
        directory("<results>/{round}/mapback"),
    log:
        "<logs>/{round}/mapback.log",
    benchmark:
        "<benchmarks>/{round}/mapback.tsv"
    conda:
        "../../envs/tomohet.yaml"
    threads: 1
    resources:
        **needs("mapback"),
    params:
        options=options("mapback"),
    shell:
        "logged {log:q} {resources.attempt}"
        " tomohet subtomo2chimerax {input.star:q} --mode markers --table {input.table:q} -o {output:q}"
        " {params.options}"
