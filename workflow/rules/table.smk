"""One table of everything known about the particles of a round."""


rule particle_table:
    input:
        particles=STORE + "/particles.parquet",
        indices=ROUND + "/subset/indices.pkl",
        stages=[
            f"{ROUND}/{stage}"
            for stage in ["analyze", "volumes", "analyze_volumes", "siren", *(["maven"] if MODEL else [])]
        ],
    output:
        ROUND + "/particles.parquet",
    log:
        ROUND_LOGS + "/particle_table.log",
    benchmark:
        ROUND_BENCHMARKS + "/particle_table.tsv"
    conda:
        "../../envs/tomohet.yaml"
    params:
        store=STORE,
        folder=subpath(output[0], parent=True),
    threads: 1
    resources:
        mem_mb=megabytes(4000),
        runtime=minutes(30),
    shell:
        "python {SCRIPTS}/particle_table.py {params.store} --ind-ptcls {input.indices}"
        " --round-dir {params.folder} -o {output} 2>&1 | logged {log}"
