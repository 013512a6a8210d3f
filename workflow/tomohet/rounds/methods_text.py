"""The methods paragraph of a dataset: what was done, in sentences whose numbers are read from its files.

Each number is quoted by `Evidence`, which notes the file and the key; the text ends with this table. A stage
that has not run is not mentioned, and no number is computed here.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tomohet.rounds.layout import (
    ANALYZE,
    ANALYZE_VOLUMES,
    CONFIG,
    CONVERGENCE,
    HALF_MAPS,
    HOMOGENEOUS,
    LINEAGE,
    LINEAR,
    MAVEN,
    POSES_FROM,
    PREPARED,
    RECONSTRUCTION,
    SIREN,
    STATES,
    SUBSET,
    SUPPORT,
    TRAIN_VAE,
    VALIDATION,
)
from tomohet.rounds.lineage import read_lineage
from tomohet.rounds.quoting import Evidence, Quoted

GOLD_STANDARD = "0.143"  # threshold of the FSC in `reconstruction.json`: a definition, not a result
# The file of a round's stage that has its numbers, by the stage's name; UMAP is a part of `analyze`.
SUMMARIES = {
    stage.name: f"{stage.folder}/{stage.summary}"
    for stage in (SUBSET, LINEAR, STATES, ANALYZE, ANALYZE_VOLUMES, SIREN, MAVEN, HALF_MAPS, SUPPORT)
} | {TRAIN_VAE.name: f"{TRAIN_VAE.folder}/config.yaml", "umap": f"{ANALYZE.folder}/umap.pkl"}
# What a methods section cites for each stage.
CITATIONS = {
    LINEAR.name: "Tipping & Bishop (1999), J. R. Stat. Soc. B 61:611: probabilistic PCA.",
    TRAIN_VAE.name: "Powell & Davis (2024), Nat. Methods 21:1525, doi 10.1038/s41592-024-02210-z: tomoDRGN.",
    "umap": "McInnes, Healy & Melville (2018), arXiv 1802.03426: UMAP.",
    SIREN.name: "Kinman and colleagues, SIREn: github.com/lkinman/SIREn.",
    MAVEN.name: "Sun, Kinman, Jahagirdar, Ortega & Davis (2023), Nat. Struct. Mol. Biol. 30:1468: MAVEn.",
    HALF_MAPS.name: "Chen et al. (2013), Ultramicroscopy 135:24: phase randomisation of FSC curves.",
}


def methods_text(results: str | Path) -> str:
    """Return the methods paragraph of the dataset in the folder `results`, in Markdown.

    Paragraphs on the data and each round are followed by versions, seeds, digests, what to cite, and the
    table of all quoted numbers with their files.

    Raises InputError when the folder is not a dataset's, or a file in it is damaged.
    """
    results = Path(results)
    lineage = read_lineage(results)
    evidence = Evidence(results, lineage)
    paragraphs = [_of_dataset(evidence), *(_of_round(evidence, name) for name in lineage["rounds"])]
    parts = [f"# Methods: {lineage['dataset']}", *filter(None, paragraphs), _reproduction(evidence, lineage)]
    cited = [f"- {citation}" for stage, citation in CITATIONS.items() if _ran(evidence, lineage, stage)]
    if cited:
        parts += ["## To cite", "\n".join([*cited, "- tomohet: CITATION.cff of its repository."])]
    rows = [f"| {text} | {file} | {key} |" for text, file, key in dict.fromkeys(evidence.quoted)]
    if rows:
        parts += [
            "## Where the numbers stand",
            "\n".join(["| number | file | key |", "| --- | --- | --- |", *rows]),
        ]
    return "\n\n".join(parts) + "\n"


def _of_dataset(evidence: Evidence) -> str:
    """Describe the particles, their check, the prepared images and the average of all."""
    store, checked = f"{PREPARED.folder}/store.yaml", f"{VALIDATION.folder}/validation.json"
    average, returned = f"{HOMOGENEOUS.folder}/{RECONSTRUCTION}", f"{PREPARED.folder}/{POSES_FROM}"
    said = []
    if evidence.has(store):
        number = _quoting(evidence, store)
        said.append(
            f"The dataset has {number('counts/particles')} particles with {number('counts/images')} tilt "
            f"images in {number('counts/tomograms')} tomograms (box {number('box')} px, pixel size "
            f"{number('pixel_size_A', '{:.4g}')} Å; {evidence.value(store, 'dialect')})."
        )
        if evidence.value(CONFIG, "particles") is None:
            said.append(f"They were simulated (seed {evidence.quote(CONFIG, 'simulate/seed')}).")
    if evidence.has(returned):
        number = _quoting(evidence, returned)
        said.append(
            f"Poses of {number('n_particles')} particles were taken from {evidence.value(returned, 'file')}; "
            f"{number('n_changed')} of them differ from the input, by "
            f"{number('median_rotation_deg', '{:.2g}')} degrees and {number('median_shift_A', '{:.2g}')} Å "
            "(medians)."
        )
    if evidence.has(checked):
        said.append(f"The check of the input ended with the verdict “{evidence.value(checked, 'verdict')}”.")
    if evidence.has(average):
        said.append(
            f"Half maps of all particles agree to {evidence.quote(average, 'resolution_A', '{:.1f}')} Å "
            f"(FSC {GOLD_STANDARD})."
        )
    return " ".join(said)


def _of_round(evidence: Evidence, name: str) -> str:
    """Describe a round by the stages that have run; "" before its particles are selected."""
    if not evidence.has(f"{name}/{SUMMARIES[SUBSET.name]}"):
        return ""
    said = (
        sentence(evidence, name, f"{name}/{SUMMARIES[stage]}")
        for stage, sentence in SENTENCES.items()
        if evidence.has(f"{name}/{SUMMARIES[stage]}")
    )
    return " ".join(filter(None, said))


def _selection(evidence: Evidence, name: str, file: str) -> str:
    number = _quoting(evidence, file)
    parent, query = evidence.value(file, "parent"), evidence.value(file, "query")
    source = f"round {parent}" if parent else "the dataset"
    steps = [step["text"] for step in evidence.value(file, "steps") or ()]
    counted = f"{number('n_particles')} of {number('n_parent')} particles of {source}"
    if query and steps in ([], [f"query {query}"]):
        return f"**Round {name}** has the {counted} for which `{query}` is true."
    by = f", left after these steps: {'; '.join(f'`{step}`' for step in steps)}" if steps else ""
    return f"**Round {name}** has {counted}{by}."


def _linear(evidence: Evidence, name: str, file: str) -> str:
    settings = f"{name}/{LINEAR.folder}/config.yaml"
    said = (
        "A linear latent model (probabilistic principal component analysis of the tilt images) was fitted "
        f"with {evidence.quote(file, 'zdim')} components (seed {evidence.quote(settings, 'seed')})"
    )
    if evidence.value(settings, "training_args/refine_poses") and evidence.value(
        file, "pose_errors/rotation_deg"
    ):
        said += (
            "; it refined the poses, whose errors it estimates as "
            f"{evidence.quote(file, 'pose_errors/rotation_deg', '{:.2g}')} degrees and "
            f"{evidence.quote(file, 'pose_errors/shift_A', '{:.2g}')} Å (rms)"
        )
    return f"{said}. {_verdict(evidence, file)}"


def _states(evidence: Evidence, name: str, file: str) -> str:
    return f"{evidence.quote(file, 'n_states')} discrete states were fitted. {_verdict(evidence, file)}"


def _network(evidence: Evidence, name: str, file: str) -> str:
    chosen = f"{name}/{CONVERGENCE.folder}/convergence.json"
    at_most = "at most " if evidence.value(file, "training_args/until") == "converged" else ""
    number = _quoting(evidence, file)
    said = (
        f"A network with {number('model_args/zdim')} latent dimensions and {number('model_args/players')} "
        f"hidden decoder layers of {number('model_args/pdim')} units was trained for {at_most}"
        f"{number('training_args/n')} epochs (batch size {number('training_args/B')}, learning rate "
        f"{number('training_args/lr', '{:g}')}, seed {number('seed')})."
    )
    if evidence.value(file, "training_args/init"):
        said += " A fitted model initialised it."
    if evidence.has(chosen):
        said += (
            f" Epoch {evidence.quote(chosen, 'epoch')} (from 0) was analysed; the training was judged "
            f"“{evidence.value(chosen, 'verdict')}”."
        )
    return said


def _analysis(evidence: Evidence, name: str, file: str) -> str:
    return f"Latents were grouped by k-means into {evidence.quote(file, 'kmeans/clusters')} clusters."


def _volumes(evidence: Evidence, name: str, file: str) -> str:
    return (
        f"{evidence.quote(file, 'volumes')} volumes were decoded and grouped into "
        f"{evidence.quote(file, 'kmeans/clusters')} clusters of maps."
    )


def _siren(evidence: Evidence, name: str, file: str) -> str:
    return f"SIREn found {evidence.quote(file, 'n_blocks')} structural blocks in these volumes."


def _maven(evidence: Evidence, name: str, file: str) -> str:
    at = (
        f" at a resolution of {evidence.quote(file, 'resolution_A', '{:.3g}')} Å"
        if evidence.value(file, "resolution_A")
        else ""
    )
    return f"MAVEn measured occupancies of {evidence.quote(file, 'n_units')} units{at}."


def _half_maps(evidence: Evidence, name: str, file: str) -> str:
    return (
        f"Half maps of the {evidence.quote(file, 'n_particles')} particles "
        f"({evidence.quote(file, 'n_images')} tilt images), reconstructed without the network, agree to "
        f"{evidence.quote(file, 'resolution_A', '{:.1f}')} Å."
    )


def _support(evidence: Evidence, name: str, file: str) -> str:
    sentence = evidence.value(file, "sentence")
    if not sentence:
        return ""
    evidence.quoted.append(Quoted(f"“{sentence}”", file, "sentence"))
    return f"The comparison with random subsets and held-out tilts: “{sentence}”"


def _reproduction(evidence: Evidence, lineage: dict[str, Any]) -> str:
    """Return versions, seeds and digests as lists."""
    lines = ["## Versions, seeds and digests", ""]
    for program, versions in lineage["versions"].items():
        if versions:
            lines.append(f"- {program} {', '.join(versions)}")
            evidence.quoted.append(Quoted(", ".join(versions), LINEAGE, f"versions/{program}"))
    lines.append(f"- SHA-256 of {CONFIG}: `{lineage['config_digest']}`")
    lines += [f"- SHA-256 of {path}: `{digest}`" for path, digest in lineage["inputs"].items()]
    for name, found in lineage["rounds"].items():
        for stage in found["seeds"]:
            evidence.quote(LINEAGE, f"rounds/{name}/seeds/{stage}")
        seeds = ", ".join(f"{stage} {seed}" for stage, seed in found["seeds"].items())
        lines.append(f"- Round {name}: seeds {seeds}")
        lines += [f"- Round {name}, {what}: `{digest}`" for what, digest in found["digests"].items()]
    return "\n".join(lines)


def _verdict(evidence: Evidence, file: str) -> str:
    """Return the verdict that a stage has stated, in quotation marks."""
    verdict = evidence.value(file, "verdict")
    if not verdict:
        return ""
    evidence.quoted.append(Quoted(f"“{verdict}”", file, "verdict"))
    return f"Its verdict: “{verdict}”."


def _ran(evidence: Evidence, lineage: dict[str, Any], stage: str) -> bool:
    """Tell whether a stage has run in any round."""
    return any(evidence.has(f"{name}/{SUMMARIES[stage]}") for name in lineage["rounds"])


def _quoting(evidence: Evidence, file: str) -> Callable[..., str]:
    """Return a function that quotes the keys of one file."""
    return lambda key, form="{:,}": evidence.quote(file, key, form)


SENTENCES: dict[str, Callable[[Evidence, str, str], str]] = {
    SUBSET.name: _selection,
    LINEAR.name: _linear,
    STATES.name: _states,
    TRAIN_VAE.name: _network,
    ANALYZE.name: _analysis,
    ANALYZE_VOLUMES.name: _volumes,
    SIREN.name: _siren,
    MAVEN.name: _maven,
    HALF_MAPS.name: _half_maps,
    SUPPORT.name: _support,
}
