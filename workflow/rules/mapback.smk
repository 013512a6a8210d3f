"""Where the particles of a round lie in their tomograms, as ChimeraX scenes."""


rule mapback:
    input:
        star=VOLUME_SERIES or [],
        linked=VOLUME_SERIES_LINKED,
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
        **needs("mapback"),
    shell:
        "logged {log:q} {resources.attempt}"
        " tomohet subtomo2chimerax {input.star:q} --mode markers --ind {input.indices:q}"
        " --coloring-labels {input.analysis:q}/kmeans*/labels.pkl -o {output:q}"
