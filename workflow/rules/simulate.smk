"""A dataset with known truth, when the configuration names no particles."""


rule simulate:
    input:
        named=named("simulate"),
    output:
        particles="<results>/simulated/particles.star",
        volumes="<results>/simulated/volumes.star",
        model="<results>/simulated/model.cif",
        truth="<results>/simulated/truth.npz",
    log:
        "<logs>/simulate.log",
    benchmark:
        "<benchmarks>/simulate.tsv"
    conda:
        "../../envs/tomohet.yaml"
    threads: 2
    resources:
        **needs("simulate"),
    params:
        settings=lambda wildcards: yaml.safe_dump(
            {key: value for key, value in CONFIG["simulate"].items() if value is not None}
        ),
        folder=subpath(output.particles, parent=True),
    shell:
        "logged {log:q} {resources.attempt}"
        " tomohet simulate -o {params.folder:q} --config <(printf '%s' {params.settings:q})"
