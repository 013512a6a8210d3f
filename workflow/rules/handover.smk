"""A round's particles, maps and mask in one folder, for the programs that refine them further."""


rule handover:
    input:
        particles="<results>/{round}/subset/particles.star",
        series="<results>/{round}/subset/volumes.star" if VOLUME_SERIES else [],
        numbers="<results>/{round}/subset/reconstruction.json",
        map="<results>/{round}/subset/map.mrc",
        filtered="<results>/{round}/subset/map_filt.mrc",
        half1="<results>/{round}/subset/half1.mrc",
        half2="<results>/{round}/subset/half2.mrc",
    output:
        directory("<results>/{round}/subset/handover"),
    log:
        "<logs>/{round}/handover.log",
    benchmark:
        "<benchmarks>/{round}/handover.tsv"
    conda:
        "../../envs/tomohet.yaml"
    threads: 1
    resources:
        **needs("handover"),
    params:
        folder=lambda wildcards, input: str(Path(input.particles).parents[1]),
    shell:
        "logged {log:q} {resources.attempt}" " tomohet handover {params.folder:q} -o {output:q}"
