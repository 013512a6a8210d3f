#!/usr/bin/env bash
# Measure the program on a GPU in under seven minutes, and write one table: tests/gpu/measure.sh [FOLDER].
# Each part ends after its own time limit, so that one that hangs costs no other. The order is that of importance.
# Without a GPU the same parts run on the CPU with small sizes (SMALL=1), which tries the script.
set -uo pipefail
cd "$(dirname "$0")/../.."
OUT=${1:-build/gpu}
PYTHON=${PYTHON:-.venv/bin/python}
export PYTHONPATH=$PWD/workflow:$PWD/tests/benchmarks:$PWD/tests/unit MPLBACKEND=Agg OMP_WAIT_POLICY=passive
mkdir -p "$OUT"

part() { # name, seconds, command...
    local name=$1 limit=$2 start=$SECONDS
    shift 2
    timeout "$limit" "$@" >"$OUT/$name.txt" 2>&1
    local status=$?
    printf '| %s | %s | %s s |\n' "$name" "$([ $status = 124 ] && echo "stopped after $limit s" || echo "status $status")" $((SECONDS - start)) >>"$OUT/parts.md"
    grep '^| ' "$OUT/$name.txt" >>"$OUT/table.md" || true
}

rm -f "$OUT"/parts.md "$OUT"/table.md
printf '| what | size | value |\n|---|---|---|\n' >"$OUT/table.md"
part step_64 60 "$PYTHON" tests/gpu/gpu_table.py step 64
part step_96 60 "$PYTHON" tests/gpu/gpu_table.py step 96
part taught 90 "$PYTHON" tests/gpu/gpu_table.py taught
part volumes 45 "$PYTHON" tests/gpu/gpu_table.py volumes
part pairs 45 "$PYTHON" tests/gpu/gpu_table.py pairs
part tests 75 "$PYTHON" -m pytest -q -x tests/gpu
cat "$OUT/table.md"
printf '\n| part | end | time |\n|---|---|---|\n'
cat "$OUT/parts.md"
tail -3 "$OUT/tests.txt"
