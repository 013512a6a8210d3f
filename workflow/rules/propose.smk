"""Rounds that are proposed for the particles of a round: text for the configuration, which the user adds."""


rule propose:
    input:
        table="<results>/{round}/particles.parquet",
        store="<results>/prepared/store.yaml",
        linear="<results>/{round}/linear/weights.pkl",
        config="<results>/{round}/linear/config.pkl",
        held_out="<results>/{round}/linear/held_out.npz",
        poses="<results>/{round}/linear/poses.parquet",
        stages=table_stages,
        # Its rounds' names are taken; another configuration alone is no reason to propose again.
        rounds=ancient("<results>/config.yaml"),
    output:
        rounds="<results>/{round}/proposed/rounds.yaml",
        summary="<results>/{round}/proposed/proposal.json",
    log:
        "<logs>/{round}/propose.log",
    benchmark:
        "<benchmarks>/{round}/propose.tsv"
    conda:
        "../../envs/tomohet.yaml"
    threads: 2
    resources:
        **ONE_GPU,
        **needs("propose"),
    params:
        options=options("auto"),
        store=subpath(input.store, parent=True),
        round=subpath(input.table, parent=True),
        folder=subpath(output.rounds, parent=True),
    shell:
        "logged {log:q} {resources.attempt} with_cards {resources.cards}"
        " tomohet propose {params.round:q} --store {params.store:q} -o {params.folder:q} {params.options}"
