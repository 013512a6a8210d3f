"""Figure of the assessment: the results beside the oracle's limit."""

from pathlib import Path

import numpy as np

from tomohet import plots


def write_figure(result: dict, path: Path) -> None:
    """Draw AUC per block (oracle, latents, blocks, occupancies) and, per state, decoded against true maps.

    result : the contents of truth.json
    """
    figure, (left, right) = plots.figure(1, 2, width=5.2)
    _auc_bars(left, result)
    _state_maps(right, result.get("maps", {}))
    plots.save(figure, path)


def _auc_bars(axis, result: dict) -> None:
    names = list(result["oracle"])
    bars = {"oracle (true maps)": [result["oracle"][name] for name in names]}
    for model, found in result["latents"].items():
        bars[f"latents of {model}"] = [found["blocks"][name]["auc"] for name in names]
    for key, label in (("siren", "best block (siren)"), ("maven", "occupancy (maven)")):
        if found := result.get(key):
            bars[label] = [found.get(name, {}).get("auc", np.nan) for name in names]
    width = 0.8 / len(bars)
    for number, (label, values) in enumerate(bars.items()):
        place = np.arange(len(names)) + (number - (len(bars) - 1) / 2) * width
        axis.bar(place, values, width * 0.92, label=label, color=plots.PALETTE[number])
    axis.set_xticks(range(len(names)), names)
    axis.set(title="Presence of blocks: results and limit", xlabel="block", ylabel="AUC", ylim=(0.5, 1.01))
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2, fontsize=7)


def _state_maps(axis, maps: dict) -> None:
    states = maps.get("states", {})
    names = [f"{name} ({found['particles']})" for name, found in states.items()]
    axis.barh(names[::-1], [found["fsc_half_A"] for found in states.values()][::-1], color=plots.PALETTE[0])
    axis.set(title="Decoded mean map of each true state", xlabel="resolution where FSC = 0.5 (Å)")
    axis.set_ylabel("blocks present (particles)")
    axis.tick_params(axis="y", labelsize=6)
    if states:
        nyquist_A = 2 * maps["pixel_size_A"]
        axis.axvline(nyquist_A, color="0.5", linewidth=0.8, linestyle="--")
        axis.text(nyquist_A, -0.7, " Nyquist", fontsize=7, color="0.4", va="center")
