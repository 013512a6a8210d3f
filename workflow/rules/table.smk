"""One table of everything known about the particles of a round."""


rule particle_table:
    input:
        particles="<results>/prepared/particles.parquet",
        indices="<results>/{round}/subset/indices.pkl",
        series=VOLUME_SERIES or [],
        series_linked=VOLUME_SERIES_LINKED,
        linear="<results>/{round}/linear/particles.parquet",
        parent=axes_of_parent,
        stages=table_stages,
    output:
        "<results>/{round}/particles.parquet",
    log:
        "<logs>/{round}/particle_table.log",
    benchmark:
        "<benchmarks>/{round}/particle_table.tsv"
    conda:
        "../../envs/tomohet.yaml"
    threads: 1
    resources:
        **needs("particle_table"),
    params:
        store=subpath(input.particles, parent=True),
        folder=subpath(output[0], parent=True),
        series="--volume-series" if VOLUME_SERIES else "",
        parent=lambda wildcards, input: (
            shlex.join(["--parent-table", str(input.parent)]) if input.parent else ""
        ),
    shell:
        "logged {log:q} {resources.attempt}"
        " tomohet particle_table {params.store:q} --ind-ptcls {input.indices:q} --round-dir {params.folder:q}"
        " {params.series} {input.series:q} {params.parent} -o {output:q}"
