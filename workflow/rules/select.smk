"""The particles of a round: chosen from its parent's table, exported, and reconstructed by themselves."""

import shlex


def parent_table(wildcards):
    """The table a round selects from: its parent's, or the whole dataset's."""
    parent = ROUNDS[wildcards.round].get("parent")
    return f"{RESULTS}/{parent}/particles.parquet" if parent else STORE + "/particles.parquet"


def selection(wildcards):
    """The round's query or indices as options of `select`."""
    options = ROUNDS[wildcards.round]
    words = []
    for key, flag in (("select", "--query"), ("indices", "--indices"), ("parent", "--parent")):
        if options.get(key) is not None:
            words += [flag, options[key]]
    return shlex.join(words)


rule select:
    input:
        table=parent_table,
        indices=lambda wildcards: ROUNDS[wildcards.round].get("indices") or [],
    output:
        indices=ROUND + "/subset/indices.pkl",
        summary=ROUND + "/subset/summary.json",
    log:
        ROUND_LOGS + "/select.log",
    benchmark:
        ROUND_BENCHMARKS + "/select.tsv"
    conda:
        "../../envs/tomohet.yaml"
    params:
        selection=selection,
    threads: 1
    resources:
        mem_mb=megabytes(2000),
        runtime=minutes(10),
    shell:
        "python {SCRIPTS}/select.py {input.table} {params.selection} --explain"
        " -o {output.indices} --summary {output.summary} 2>&1 | logged {log}"


rule export_subset:
    input:
        star=PARTICLES,
        indices=ROUND + "/subset/indices.pkl",
    output:
        ROUND + "/subset/particles.star",
    log:
        ROUND_LOGS + "/export_subset.log",
    benchmark:
        ROUND_BENCHMARKS + "/export_subset.tsv"
    conda:
        "../../envs/tomohet.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(4000),
        runtime=minutes(30),
    shell:
        "python {SCRIPTS}/filter_star.py {input.star} --ind {input.indices} -o {output} 2>&1 | logged {log}"


rule reconstruct_subset:
    input:
        store=STORE + "/store.yaml",
        indices=ROUND + "/subset/indices.pkl",
    output:
        map=ROUND + "/subset/map.mrc",
        filtered=ROUND + "/subset/map_filt.mrc",
        half1=ROUND + "/subset/half1.mrc",
        half2=ROUND + "/subset/half2.mrc",
        fsc=ROUND + "/subset/fsc.csv",
    log:
        ROUND_LOGS + "/reconstruct_subset.log",
    benchmark:
        ROUND_BENCHMARKS + "/reconstruct_subset.tsv"
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
        "python {SCRIPTS}/backproject_voxel.py {params.store} --ind-ptcls {input.indices}"
        " -o {params.folder} {params.options} 2>&1 | logged {log}"
