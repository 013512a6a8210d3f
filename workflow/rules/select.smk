"""The particles of a round: chosen from its parent's table, exported, and reconstructed by themselves."""


rule select:
    input:
        table=parent_table,
        indices=lambda wildcards: ROUNDS[wildcards.round].get("indices") or [],
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
        mem_mb=megabytes(2000),
        runtime=minutes(10),
    params:
        selection=selection,
    shell:
        "tomohet select {input.table} {params.selection} --explain"
        " -o {output.indices} --summary {output.summary} 2>&1 | logged {log}"


rule export_subset:
    input:
        star=PARTICLES,
        indices="<results>/{round}/subset/indices.pkl",
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
        mem_mb=megabytes(4000),
        runtime=minutes(30),
    params:
        datadir=DATADIR,
    shell:
        "tomohet filter_star {input.star} {params.datadir} --ind {input.indices} -o {output}"
        " 2>&1 | logged {log}"


rule export_volume_series:
    input:
        star=VOLUME_SERIES or [],
        particles=PARTICLES,
        indices="<results>/{round}/subset/indices.pkl",
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
        mem_mb=megabytes(4000),
        runtime=minutes(30),
    shell:
        "tomohet filter_star {input.star} --particles {input.particles}"
        " --ind {input.indices} -o {output} 2>&1 | logged {log}"


rule reconstruct_subset:
    input:
        store="<results>/prepared/store.yaml",
        indices="<results>/{round}/subset/indices.pkl",
    output:
        map="<results>/{round}/subset/map.mrc",
        filtered="<results>/{round}/subset/map_filt.mrc",
        half1="<results>/{round}/subset/half1.mrc",
        half2="<results>/{round}/subset/half2.mrc",
        fsc="<results>/{round}/subset/fsc.csv",
    log:
        "<logs>/{round}/reconstruct_subset.log",
    benchmark:
        "<benchmarks>/{round}/reconstruct_subset.tsv"
    conda:
        "../../envs/tomohet.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(6000),
        runtime=minutes(120),
    params:
        options=options("homogeneous"),
        store=subpath(input.store, parent=True),
        folder=subpath(output.map, parent=True),
    shell:
        "tomohet backproject_voxel {params.store} --ind-ptcls {input.indices}"
        " -o {params.folder} {params.options} 2>&1 | logged {log}"
