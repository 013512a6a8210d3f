#!/usr/bin/env bash
# Build the wheel, install it with its dependencies into an empty environment, and do a small round with nothing
# of the checkout in reach. Usage: try.sh FOLDER, which is emptied.
set -euo pipefail
unset PYTHONPATH  # pip takes the checkout's package for an installed one where it is on the path

CHECKOUT=$(cd "$(dirname "$0")/../.." && pwd)
FOLDER=$(realpath -m "$1")
PYTHON=${PYTHON:-python3}
PIP="-m pip --disable-pip-version-check --quiet"

rm -rf "$FOLDER"
mkdir -p "$FOLDER/work"
$PYTHON -m venv "$FOLDER/env"
ENV=$FOLDER/env/bin/python
$ENV $PIP wheel --no-deps --wheel-dir "$FOLDER" "$CHECKOUT"
$ENV $PIP install --no-deps -c "$CHECKOUT/envs/requirements.lock" torch
$ENV $PIP install -c "$CHECKOUT/envs/requirements.lock" "$FOLDER"/tomohet-*.whl

cd "$FOLDER/work"
export MPLBACKEND=Agg
tomohet() { "$FOLDER/env/bin/tomohet" "$@"; }
tomohet --version
tomohet doctor
tomohet simulate -o simulated --particles 40 --box 24 --pixel-size 14 --snr 0.3
tomohet validate simulated/particles.star -o validation >/dev/null
tomohet prepare simulated/particles.star -o results/prepared
tomohet train_linear results/prepared -o results/all/linear --zdim 2 -n 2
tomohet choose_volumes results/all/linear --epoch -1 -o results/all/volumes
tomohet eval_vol --workdir results/all/linear --epoch -1 --zfile results/all/volumes/z.pkl -o results/all/volumes
tomohet report results
$ENV - <<'CODE'
from tomohet.commands import siren
from tomohet.options import SirenOptions

print(siren.run(SirenOptions(volumes="results/all/volumes", outdir="results/all/siren"))["n_volumes"], "volumes")
CODE
test -s results/report.html
echo "the wheel works"
