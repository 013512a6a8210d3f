"""Compare latents, clusters, occupancies and maps of a round with the simulated truth."""

import logging

from tomohet.analysis.run_folder import ParticleLatents, RunFolder, refuse_other_models
from tomohet.errors import InputError
from tomohet.files.atomic import write_json
from tomohet.files.digests import is_there
from tomohet.files.tables import read_table
from tomohet.options import AssessOptions
from tomohet.particles.store import open_store
from tomohet.rounds import layout
from tomohet.running.work import command
from tomohet.simulation import assessment
from tomohet.simulation.assessment_figure import write_figure
from tomohet.simulation.oracle import block_log_odds
from tomohet.simulation.truth import load_truth

log = logging.getLogger(__name__)


@command
def run(options: AssessOptions) -> dict:
    """Compare with the truth; write truth.json and a figure; return the content of truth.json."""
    table_file = options.round_dir / layout.TABLE
    if not is_there(table_file):
        raise InputError(f"{table_file}: missing; the round's particle table is made by `particle_table`")
    table = read_table(table_file, {"particle": "whole numbers", "source_id": "anything"})
    truth = load_truth(options.truth)
    round_truth = assessment.RoundTruth(truth, truth.rows_of(table["source_id"].to_numpy()))

    store = open_store(options.store or options.round_dir.parent / layout.PREPARED.folder)
    refuse_other_models(options.round_dir, store.folder)
    odds = block_log_odds(store, truth)[table["particle"].to_numpy()]
    result = {
        "n_particles": len(table),
        "snr": truth.snr_measured,
        "frequency": {
            str(name): float(round_truth.presence[:, block].mean())
            for block, name in enumerate(truth.block_names)
        },
        "mass_share": {
            str(name): float(truth.block_maps[block].sum() / (truth.core_map.sum() + truth.block_maps.sum()))
            for block, name in enumerate(truth.block_names)
        },
        "oracle": {
            str(truth.block_names[block]): assessment.auc(round_truth.presence[:, block], odds[:, block])
            for block in round_truth.varying()
        },
        "latents": {},
    }
    for model in (layout.LINEAR, layout.TRAIN_VAE):
        latents = model.path(options.round_dir, layout.LATENTS)
        if is_there(latents):
            trained = RunFolder(latents.parent).particles()
            mu = ParticleLatents.read(latents, trained).of(table["particle"].to_numpy())
            result["latents"][model.folder] = assessment.latents_against_truth(round_truth, mu, options.seed)
    result["clusters"] = assessment.clusters_against_truth(round_truth, table)
    result["siren"] = assessment.blocks_against_truth(round_truth, table)
    result["maven"] = assessment.occupancies_against_truth(round_truth, table)
    volumes = layout.VOLUMES.path(options.round_dir, layout.VOLUMES.by_particle)
    if is_there(volumes):
        numbers = dict.fromkeys(("particle", "volume"), "whole numbers")
        assignment = read_table(volumes, numbers).set_index("particle")
        if not table["particle"].isin(assignment.index).all():
            raise InputError(f"{volumes}: not of the particles of {table_file}")
        assignment = assignment.loc[table["particle"]].reset_index()
        result["maps"] = assessment.maps_against_truth(round_truth, volumes.parent, assignment)
    options.outdir.mkdir(parents=True, exist_ok=True)
    write_figure(result, options.outdir / "truth.png")
    write_json(options.outdir / layout.TRUTH.summary, result)
    for name, oracle in result["oracle"].items():
        found = ", ".join(f"{m} {r['blocks'][name]['auc']:.3f}" for m, r in result["latents"].items())
        log.info("%s: AUC of the oracle %.3f; latents %s", name, oracle, found)
    return result
