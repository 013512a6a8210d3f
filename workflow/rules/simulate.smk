"""A dataset with known truth, when the configuration names no particles."""


rule simulate:
    output:
        particles=RESULTS + "/simulated/particles.star",
        model=RESULTS + "/simulated/model.cif",
        truth=RESULTS + "/simulated/truth.npz",
    log:
        LOGS + "/simulate.log",
    benchmark:
        BENCHMARKS + "/simulate.tsv"
    conda:
        "../../envs/tomohet.yaml"
    params:
        settings=yaml.safe_dump({k: v for k, v in CONFIG["simulate"].items() if v is not None}),
        folder=subpath(output.particles, parent=True),
    threads: 2
    resources:
        mem_mb=megabytes(4000),
        runtime=minutes(60),
    shell:
        "python {SCRIPTS}/simulate.py -o {params.folder} --config <(printf '%s' {params.settings:q})"
        " 2>&1 | logged {log}"
