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
        mem_mb=megabytes(2000),
        runtime=minutes(30),
    params:
        options=options("mapback"),
    shell:
        "tomohet subtomo2chimerax {input.star:q} --mode markers --table {input.table:q} -o {output:q}"
        " {params.options} 2>&1 | logged {log:q}"
