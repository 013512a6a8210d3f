"""Recorded ratios of a device, to compare a run with: times are never compared, they depend on the day."""

import json
import re
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "baselines"
RATIOS = ("times_textbook", "share_of_peak")


def path_of(device_name: str) -> Path:
    """The file of a device."""
    slug = re.sub(r"[^a-z0-9]+", "-", device_name.lower()).strip("-")
    return FOLDER / f"{slug}.json"


def read(path: Path) -> dict[str, dict[str, float]]:
    """Ratios by row; none where nothing was recorded."""
    return json.loads(path.read_text())["rows"] if path.is_file() else {}


def write(path: Path, found: dict) -> None:
    """Record the ratios of a run."""
    rows = {
        key_of(row): {ratio: round(row[ratio], 4) for ratio in RATIOS if row[ratio] is not None}
        for row in found["rows"]
    }
    path.parent.mkdir(exist_ok=True)
    content = {"device": found["device"], "torch": found["torch"], "rows": rows}
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def key_of(row: dict) -> str:
    """What a row is known by."""
    return f"{row['workload']}: {row['what']}"


def compared(row: dict, baseline: dict[str, dict[str, float]]) -> dict[str, float]:
    """Each of the row's ratios over the recorded one, where there are both."""
    recorded = baseline.get(key_of(row), {})
    return {ratio: row[ratio] / recorded[ratio] for ratio in RATIOS if row[ratio] and recorded.get(ratio)}
