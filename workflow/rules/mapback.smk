"""Where the particles of a round lie in their tomograms, as ChimeraX scenes."""


rule mapback:
    input:
        star=VOLUME_SERIES or [],
        indices="<results>/{round}/subset/indices.pkl",
        analysis="<results>/{round}/analyze",
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
    shell:
        "tomohet subtomo2chimerax {input.star} --mode markers --ind {input.indices}"
        " --coloring-labels {input.analysis}/kmeans*/labels.pkl -o {output} 2>&1 | logged {log}"
