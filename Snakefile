"""tomohet: structural heterogeneity of cryo-ET particles, from tilt images to validated states.

One configuration file describes the dataset and its tree of rounds. Every rule calls one command of
workflow/scripts; `snakemake -n` shows every job of every round before anything runs.
"""

from pathlib import Path

from snakemake.utils import min_version

min_version("9.27")


# The demo, unless another configuration is given: --configfile would only be mixed into it.
if not workflow.overwrite_configfiles:

    configfile: str(Path(workflow.basedir, "config", "config.yaml"))


include: "workflow/rules/common.smk"


rule all:
    input:
        "<results>/report.html",
        "<results>/lineage.json",
        expand("<results>/{round}/subset/handover", round=ROUNDS),


# Seconds of work on small tables: not worth a job of a cluster.
localrules:
    all,
    write_config,
    select,
    export_subset,
    export_volume_series,
    mapback,
    handover,
    lineage,
    particle_table,


# The dataset
include: "workflow/rules/simulate.smk"
include: "workflow/rules/validate.smk"
include: "workflow/rules/prepare.smk"
include: "workflow/rules/homogeneous.smk"
# A round
include: "workflow/rules/select.smk"
include: "workflow/rules/linear.smk"
include: "workflow/rules/states.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/convergence.smk"
include: "workflow/rules/analyze.smk"
include: "workflow/rules/volumes.smk"
include: "workflow/rules/siren.smk"
include: "workflow/rules/maven.smk"
include: "workflow/rules/groups.smk"
include: "workflow/rules/table.smk"
include: "workflow/rules/support.smk"
include: "workflow/rules/mapback.smk"
include: "workflow/rules/propose.smk"
include: "workflow/rules/handover.smk"
# What it all says
include: "workflow/rules/truth.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/lineage.smk"
