"""Half maps, FSC and filtered map of all particles."""


rule homogeneous:
    input:
        STORE + "/store.yaml",
    output:
        map=RESULTS + "/homogeneous/map.mrc",
        filtered=RESULTS + "/homogeneous/map_filt.mrc",
        half1=RESULTS + "/homogeneous/half1.mrc",
        half2=RESULTS + "/homogeneous/half2.mrc",
        fsc=RESULTS + "/homogeneous/fsc.csv",
    log:
        LOGS + "/homogeneous.log",
    benchmark:
        BENCHMARKS + "/homogeneous.tsv"
    conda:
        "../../envs/tomohet.yaml"
    params:
        options=options("homogeneous"),
        store=STORE,
        folder=subpath(output.map, parent=True),
    threads: 2
    resources:
        mem_mb=megabytes(8000),
        runtime=minutes(120),
    shell:
        "python {SCRIPTS}/backproject_voxel.py {params.store} -o {params.folder} {params.options}"
        " 2>&1 | logged {log}"
