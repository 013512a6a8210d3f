"""Whether k-means clusters and MAVEN's classes differ by more than chance and noise, against controls."""


rule compare_clusters:
    input:
        store="<results>/prepared/store.yaml",
        indices="<results>/{round}/subset/indices.pkl",
        linear="<results>/{round}/linear/weights.pkl",
        config="<results>/{round}/linear/config.pkl",
        held_out="<results>/{round}/linear/held_out.npz",
        poses="<results>/{round}/linear/poses.parquet",
        groups="<results>/{round}/analyze",
    output:
        directory("<results>/{round}/groups/clusters"),
    log:
        "<logs>/{round}/compare_clusters.log",
    benchmark:
        "<benchmarks>/{round}/compare_clusters.tsv"
    conda:
        "../../envs/tomohet.yaml"
    threads: 1
    resources:
        **ONE_GPU,
        **needs("compare_clusters"),
    params:
        store=subpath(input.store, parent=True),
        linear=subpath(input.linear, parent=True),
    shell:
        "logged {log:q} {resources.attempt} with_cards {resources.cards}"
        " tomohet support {params.store:q} --ind-ptcls {input.indices:q} --linear {params.linear:q}"
        " --groups {input.groups:q}/particles.parquet --column kmeans -o {output:q}"


rule compare_classes:
    input:
        store="<results>/prepared/store.yaml",
        indices="<results>/{round}/subset/indices.pkl",
        linear="<results>/{round}/linear/weights.pkl",
        config="<results>/{round}/linear/config.pkl",
        held_out="<results>/{round}/linear/held_out.npz",
        poses="<results>/{round}/linear/poses.parquet",
        groups="<results>/{round}/maven",
    output:
        directory("<results>/{round}/groups/classes"),
    log:
        "<logs>/{round}/compare_classes.log",
    benchmark:
        "<benchmarks>/{round}/compare_classes.tsv"
    conda:
        "../../envs/tomohet.yaml"
    threads: 1
    resources:
        **ONE_GPU,
        **needs("compare_classes"),
    params:
        store=subpath(input.store, parent=True),
        linear=subpath(input.linear, parent=True),
    shell:
        "logged {log:q} {resources.attempt} with_cards {resources.cards}"
        " tomohet support {params.store:q} --ind-ptcls {input.indices:q} --linear {params.linear:q}"
        " --groups {input.groups:q}/particles.parquet --column maven_class -o {output:q}"
