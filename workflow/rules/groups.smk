"""Whether k-means clusters and MAVEN's classes differ by more than chance and noise, against controls."""


rule compare_groups:
    input:
        store="<results>/prepared/store.yaml",
        indices="<results>/{round}/subset/indices.pkl",
        linear="<results>/{round}/linear/weights.pkl",
        config="<results>/{round}/linear/config.pkl",
        held_out="<results>/{round}/linear/held_out.npz",
        poses="<results>/{round}/linear/poses.parquet",
        clusters="<results>/{round}/analyze",
        classes=lambda wildcards: "<results>/{round}/maven" if has_units(wildcards.round) else [],
    output:
        directory("<results>/{round}/groups"),
    log:
        "<logs>/{round}/compare_groups.log",
    benchmark:
        "<benchmarks>/{round}/compare_groups.tsv"
    conda:
        "../../envs/tomohet.yaml"
    threads: 1
    resources:
        **ONE_GPU,
        **needs("compare_groups"),
    params:
        particles=lambda wildcards, input: shlex.join(
            [str(Path(input.store).parent), "--ind-ptcls", str(input.indices)]
            + ["--linear", str(Path(input.linear).parent)]
        ),
    shell:
        "clusters_and_classes() {{"
        " tomohet support {params.particles} --groups {input.clusters:q}/particles.parquet --column kmeans"
        " -o {output:q}/clusters || return;"
        " for classes in {input.classes:q}; do tomohet support {params.particles}"
        ' --groups "$classes"/particles.parquet --column maven_class -o {output:q}/classes; done; }};'
        " logged {log:q} {resources.attempt} with_cards {resources.cards} clusters_and_classes"
