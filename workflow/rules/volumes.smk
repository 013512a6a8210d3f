"""The volumes that stand for the particles of a round, and how they differ voxel by voxel."""


rule volumes:
    input:
        latent_model,
    output:
        directory("<results>/{round}/volumes"),
    log:
        "<logs>/{round}/volumes.log",
    benchmark:
        "<benchmarks>/{round}/volumes.tsv"
    conda:
        "../../envs/tomohet.yaml"
    threads: 2
    resources:
        **ON_ONE_MACHINE.resources,
        **needs("volumes"),
    params:
        n_volumes=lambda wildcards: stage_options(CONFIG, "volumes", wildcards.round)["count"],
        options=options("volumes"),
        model=subpath(input[0], parent=True),
        epoch=epoch,
        several=ON_ONE_MACHINE.several,
    shell:
        "chosen_and_decoded() {{ tomohet choose_volumes {params.model:q} --epoch {params.epoch:q}"
        " --count {params.n_volumes} -o {output:q} && tomohet eval_vol --workdir {params.model:q}"
        " --epoch {params.epoch:q} --zfile {output:q}/z.pkl -o {output:q} {params.several}"
        " {params.options}; }};"
        " logged {log:q} {resources.attempt} with_cards {resources.cards} chosen_and_decoded"


rule analyze_volumes:
    input:
        "<results>/{round}/volumes",
    output:
        directory("<results>/{round}/analyze_volumes"),
    log:
        "<logs>/{round}/analyze_volumes.log",
    benchmark:
        "<benchmarks>/{round}/analyze_volumes.tsv"
    conda:
        "../../envs/tomohet.yaml"
    threads: 1
    resources:
        **needs("analyze_volumes"),
    params:
        options=options("analyze_volumes"),
    shell:
        "logged {log:q} {resources.attempt}"
        " tomohet analyze_volumes --voldir {input:q} -o {output:q} {params.options}"
