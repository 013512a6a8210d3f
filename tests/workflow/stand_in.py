"""A folder in which Snakemake runs every job of a configuration with a stand-in for the commands.

The stand-in only makes the files that a dry run has listed as outputs.
"""

import re
from pathlib import Path

import yaml
from snakemake_here import run_snakemake

ROOT = Path(__file__).resolve().parents[2]
SNAKEFILE = """
include: "Snakefile.real"
shell.prefix("source stand_in.sh; ")

rule everything:
    default_target: True
    input: rules.all.input
"""
LOGGED = 'logged() { log=$1; shift 2; "$@" > $log; }; with_cards() { shift; "$@"; }'


def snakemake(folder: Path, config: dict, *arguments: str, ok: bool = True) -> str:
    """What Snakemake says to a configuration in a folder, with the stand-in if the folder has it."""
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    snakefile = folder / "Snakefile" if (folder / "Snakefile").exists() else ROOT / "Snakefile"
    words = ["-s", snakefile, "-d", folder, "--cores", "1", "--configfile", folder / "config.yaml"]
    done = run_snakemake(*words, *arguments)
    assert (done.returncode == 0) == ok, done.stdout[-5000:]
    return done.stdout


def blocks(listing: str) -> list[str]:
    """The parts of a listing of jobs, each of which begins with `rule NAME:` but perhaps the first."""
    return re.split(r"\n(?=(?:local)?rule )", listing)


def run_with_stand_in(folder: Path, config: dict) -> None:
    """Run every job of a configuration with the stand-in."""
    for name in ("workflow", "config", "envs"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "Snakefile.real").symlink_to(ROOT / "Snakefile")
    (folder / "Snakefile").write_text(SNAKEFILE)
    listed = re.findall(r"^ +output: (.*)$", snakemake(folder, config, "-n"), re.MULTILINE)
    outputs = sorted({name for line in listed for name in line.split(", ")})
    files = [name for name in outputs if Path(name).suffix]
    folders = {*(str(Path(name).parent) for name in files), *set(outputs).difference(files)}
    make = [f"mkdir -p {' '.join(sorted(folders))}", *(f"[ -e {name} ] || : > {name}" for name in files)]
    (folder / "stand_in.sh").write_text("\n".join(["tomohet() {", *make, "}", LOGGED]))
    snakemake(folder, config)
