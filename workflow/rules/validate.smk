"""Refuses early what cannot be right; counts what comes in and what stays."""


rule validate:
    input:
        particles=PARTICLES,
        linked=PARTICLES_LINKED,
        volume_series=VOLUME_SERIES or [],
        volume_series_linked=VOLUME_SERIES_LINKED,
    output:
        json="<results>/validation/validation.json",
        html="<results>/validation/validation.html",
    log:
        "<logs>/validate.log",
    benchmark:
        "<benchmarks>/validate.tsv"
    conda:
        "../../envs/tomohet.yaml"
    threads: 1
    resources:
        **needs("validate"),
    params:
        datadir=datadir,
        stacks=stacks,
        options=options("validate"),
        # What preparation will do to the images belongs to the question whether they are right.
        prepared=lambda wildcards: command_line(
            "prepare",
            {
                key: CONFIG["prepare"][key]
                for key in ("source_software", "symmetry_expanded", "uninvert_data", "rescale")
            },
        ),
        series=lambda wildcards, input: (
            f"--volume-series {shlex.quote(str(input.volume_series))}" if input.volume_series else ""
        ),
        folder=subpath(output.json, parent=True),
    shell:
        "logged {log:q} {resources.attempt}"
        " tomohet validate {input.particles:q} {params.datadir} {params.series} -o {params.folder:q}"
        " {params.prepared} {params.options}"
