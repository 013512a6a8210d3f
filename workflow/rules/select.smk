"""The particles of a round: chosen from its parent's table, exported, and reconstructed by themselves."""


rule select:
    input:
        table=parent_table,
        files=lambda wildcards: list(selection_files(ROUNDS[wildcards.round]).values()),
    output:
        indices="<results>/{round}/subset/indices.pkl",
        summary="<results>/{round}/subset/summary.json",
    log:
        "<logs>/{round}/select.log",
    benchmark:
        "<benchmarks>/{round}/select.tsv"
    conda:
        "../../envs/tomohet.yaml"
    threads: 1
    resources:
        **needs("select"),
    params:
        selection=selection,
    shell:
        "logged {log:q} {resources.attempt}"
        " tomohet select {input.table:q} {params.selection} --explain"
        " -o {output.indices:q} --summary {output.summary:q}"


rule export_subset:
    input:
        star=POSED or PARTICLES,
        linked=POSED_LINKED if POSED else PARTICLES_LINKED,
        counted=PARTICLES if POSED else [],
        counted_linked=PARTICLES_LINKED if POSED else [],
        indices="<results>/{round}/subset/indices.pkl",
        poses=EXPORTED_POSES,
    output:
        "<results>/{round}/subset/particles.star",
    log:
        "<logs>/{round}/export_subset.log",
    benchmark:
        "<benchmarks>/{round}/export_subset.tsv"
    conda:
        "../../envs/tomohet.yaml"
    threads: 1
    resources:
        **needs("export_subset"),
    params:
        datadir=datadir,
        counted=counted_particles,
        poses=exported_poses,
    shell:
        "logged {log:q} {resources.attempt}"
        " tomohet filter_star {input.star:q} {params.datadir} {params.counted} --ind {input.indices:q}"
        " {params.poses} -o {output:q}"


rule export_volume_series:
    input:
        star=VOLUME_SERIES or [],
        linked=VOLUME_SERIES_LINKED,
        particles=PARTICLES,
        particles_linked=PARTICLES_LINKED,
        indices="<results>/{round}/subset/indices.pkl",
        poses=EXPORTED_POSES,
    output:
        "<results>/{round}/subset/volumes.star",
    log:
        "<logs>/{round}/export_volume_series.log",
    benchmark:
        "<benchmarks>/{round}/export_volume_series.tsv"
    conda:
        "../../envs/tomohet.yaml"
    threads: 1
    resources:
        **needs("export_volume_series"),
    params:
        poses=exported_poses,
    shell:
        "logged {log:q} {resources.attempt}"
        " tomohet filter_star {input.star:q} --particles {input.particles:q}"
        " --ind {input.indices:q} {params.poses} -o {output:q}"


rule reconstruct_subset:
    input:
        store="<results>/prepared/store.yaml",
        indices="<results>/{round}/subset/indices.pkl",
        poses="<results>/{round}/linear/poses.parquet",
        named=named("homogeneous"),
    output:
        map="<results>/{round}/subset/map.mrc",
        filtered="<results>/{round}/subset/map_filt.mrc",
        half1="<results>/{round}/subset/half1.mrc",
        half2="<results>/{round}/subset/half2.mrc",
        numbers="<results>/{round}/subset/reconstruction.json",
        fsc="<results>/{round}/subset/fsc.csv",
    log:
        "<logs>/{round}/reconstruct_subset.log",
    benchmark:
        "<benchmarks>/{round}/reconstruct_subset.tsv"
    conda:
        "../../envs/tomohet.yaml"
    threads: 1
    resources:
        **needs("reconstruct_subset"),
    params:
        options=options("homogeneous"),
        store=subpath(input.store, parent=True),
        folder=subpath(output.map, parent=True),
    shell:
        "logged {log:q} {resources.attempt}"
        " tomohet backproject_voxel {params.store:q} --ind-ptcls {input.indices:q}"
        " --refine-poses {input.poses:q} -o {params.folder:q} {params.options}"
