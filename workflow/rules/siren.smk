"""Structural blocks found in the volumes without a model."""


rule siren:
    input:
        "<results>/{round}/volumes",
    output:
        directory("<results>/{round}/siren"),
    log:
        "<logs>/{round}/siren.log",
    benchmark:
        "<benchmarks>/{round}/siren.tsv"
    conda:
        "../../envs/tomohet.yaml"
    threads: 2
    resources:
        mem_mb=megabytes(6000),
        runtime=minutes(120),
    params:
        options=options("siren"),
    shell:
        "tomohet siren --volumes {input} -o {output} {params.options} 2>&1 | logged {log}"
