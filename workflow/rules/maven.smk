"""Occupancy of every chain of a model in every volume."""

MODEL = CONFIG["model"] or ([RESULTS + "/simulated/model.cif"] if SIMULATED else [])


rule maven:
    input:
        volumes=ROUND + "/volumes",
        model=MODEL,
    output:
        directory(ROUND + "/maven"),
    log:
        ROUND_LOGS + "/maven.log",
    benchmark:
        ROUND_BENCHMARKS + "/maven.tsv"
    conda:
        "../../envs/tomohet.yaml"
    params:
        options=options("maven"),
    threads: 2
    resources:
        mem_mb=megabytes(4000),
        runtime=minutes(120),
    shell:
        "python {SCRIPTS}/maven.py --volumes {input.volumes} --model {input.model} -o {output}"
        " {params.options} 2>&1 | logged {log}"
