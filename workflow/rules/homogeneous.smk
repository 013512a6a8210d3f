"""Half maps, FSC and filtered map of all particles."""


rule homogeneous:
    input:
        store="<results>/prepared/store.yaml",
        named=named("homogeneous"),
    output:
        map="<results>/homogeneous/map.mrc",
        filtered="<results>/homogeneous/map_filt.mrc",
        half1="<results>/homogeneous/half1.mrc",
        half2="<results>/homogeneous/half2.mrc",
        numbers="<results>/homogeneous/reconstruction.json",
        fsc="<results>/homogeneous/fsc.csv",
    log:
        "<logs>/homogeneous.log",
    benchmark:
        "<benchmarks>/homogeneous.tsv"
    conda:
        "../../envs/tomohet.yaml"
    threads: 1
    resources:
        **needs("homogeneous"),
    params:
        options=options("homogeneous"),
        store=subpath(input.store, parent=True),
        folder=subpath(output.map, parent=True),
    shell:
        "logged {log:q} {resources.attempt}"
        " tomohet backproject_voxel {params.store:q} -o {params.folder:q} {params.options}"
