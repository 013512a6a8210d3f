"""Discrete states: how many, which particle in which, and whether they fit better than a continuum."""


rule states:
    input:
        store="<results>/prepared/store.yaml",
        indices="<results>/{round}/subset/indices.pkl",
        linear="<results>/{round}/linear/weights.pkl",
        config="<results>/{round}/linear/config.pkl",
        held_out="<results>/{round}/linear/held_out.npz",
        poses="<results>/{round}/linear/poses.parquet",
    output:
        directory("<results>/{round}/states"),
    log:
        "<logs>/{round}/states.log",
    benchmark:
        "<benchmarks>/{round}/states.tsv"
    conda:
        "../../envs/tomohet.yaml"
    threads: 2
    resources:
        **ONE_GPU,
        **needs("states"),
    params:
        options=options("states"),
        store=subpath(input.store, parent=True),
        linear=subpath(input.linear, parent=True),
    shell:
        "states_and_support() {{"
        " tomohet states {params.store:q} --ind-ptcls {input.indices:q} --linear {params.linear:q}"
        " -o {output:q} {params.options}"
        " && tomohet support {params.store:q} --ind-ptcls {input.indices:q}"
        " --groups {output:q}/particles.parquet --linear {params.linear:q} -o {output:q}; }};"
        " logged {log:q} {resources.attempt} with_cards {resources.cards} states_and_support"
