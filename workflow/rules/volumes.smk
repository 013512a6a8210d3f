"""The volumes that stand for the particles of a round, and how they differ voxel by voxel."""


rule volumes:
    input:
        latent_model,
        shares=shares("volumes", ".decoded"),
        z=lambda wildcards: (
            "<results>/{round}/volumes.shares/set/z.pkl" if decoded_by_several(wildcards) else []
        ),
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
        how=lambda wildcards: "gathered" if decoded_by_several(wildcards) else "chosen_and_decoded",
    shell:
        "chosen_and_decoded() {{ tomohet choose_volumes {params.model:q} --epoch {params.epoch:q}"
        " --count {params.n_volumes} -o {output:q} && tomohet eval_vol --workdir {params.model:q}"
        " --epoch {params.epoch:q} --zfile {output:q}/z.pkl -o {output:q} {params.several}"
        " {params.options}; }};"
        " gathered() {{ rm -rf {output:q} && mv {output:q}.shares/set {output:q}; }};"
        " logged {log:q} {resources.attempt} with_cards {resources.cards} {params.how}"


rule volumes_chosen:
    input:
        latent_model,
    output:
        temp("<results>/{round}/volumes.shares/set/z.pkl"),
    log:
        "<logs>/{round}/volumes_chosen.log",
    benchmark:
        "<benchmarks>/{round}/volumes_chosen.tsv"
    conda:
        "../../envs/tomohet.yaml"
    threads: 1
    resources:
        **needs("volumes"),
    params:
        n_volumes=lambda wildcards: stage_options(CONFIG, "volumes", wildcards.round)["count"],
        model=subpath(input[0], parent=True),
        epoch=epoch,
        folder=subpath(output[0], parent=True),
    shell:
        "logged {log:q} {resources.attempt}"
        " tomohet choose_volumes {params.model:q} --epoch {params.epoch:q} --count {params.n_volumes}"
        " -o {params.folder:q}"


rule volumes_share:
    input:
        latent_model,
        z="<results>/{round}/volumes.shares/set/z.pkl",
    output:
        temp(touch("<results>/{round}/volumes.shares/{share}.decoded")),
    log:
        "<logs>/{round}/volumes_share.{share}.log",
    benchmark:
        "<benchmarks>/{round}/volumes_share.{share}.tsv"
    conda:
        "../../envs/tomohet.yaml"
    threads: 2
    resources:
        **ON_ONE_MACHINE.resources,
        **needs("volumes"),
    params:
        options=options("volumes"),
        model=subpath(input[0], parent=True),
        epoch=epoch,
        folder=subpath(input.z, parent=True),
        several=ON_ONE_MACHINE.several,
        part=part,
    shell:
        "logged {log:q} {resources.attempt} with_cards {resources.cards}"
        " tomohet eval_vol --workdir {params.model:q} --epoch {params.epoch:q} --zfile {input.z:q}"
        " {params.part} -o {params.folder:q} {params.several} {params.options}"


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
