"""Occupancy of every chain of a model in every volume."""


rule maven:
    input:
        volumes="<results>/{round}/volumes",
        model=MODEL,
    output:
        directory("<results>/{round}/maven"),
    log:
        "<logs>/{round}/maven.log",
    benchmark:
        "<benchmarks>/{round}/maven.tsv"
    conda:
        "../../envs/tomohet.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(4000),
        runtime=minutes(120),
    params:
        options=options("maven"),
    shell:
        "tomohet maven --volumes {input.volumes} --model {input.model} -o {output}"
        " {params.options} 2>&1 | logged {log}"
