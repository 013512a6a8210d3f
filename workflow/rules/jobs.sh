# Functions of every rule's shell (`common.smk`).

# logged LOG ATTEMPT COMMAND...: run a command of a job, its output to the terminal and to LOG.
#
# A mistake of the user is kept beside the log. The next attempt ends with it at once; the first attempt of a later
# run forgets it.
#
# Another process may still write into the output folder, such as a job that a killed Snakemake has left: the command
# starts again until that process has ended, for at most ten minutes. The log is a new file, because that process goes
# on writing to the old one.
logged() {
    local log=$1 attempt=$2 mistake=${1%.log}.mistake status=0 began=$SECONDS longest_wait=600
    shift 2
    if [ "$attempt" -gt 1 ] && [ -s "$mistake" ]; then
        { echo "not tried again: the mistake of the attempt before must be corrected first"; cat "$mistake"; } |
            tee "$log"
        return 1
    fi
    rm -f "$mistake" "$log"
    told "$log" "$@" || status=$?
    while [ "$status" -gt 0 ] && in_use "$log" && [ $((SECONDS - began)) -lt "$longest_wait" ]; do
        sleep 5
        status=0
        told "$log" "$@" || status=$?
    done
    if [ "$status" = 1 ] && ! in_use "$log"; then
        grep '^error: ' "$log" | tail -n 1 > "$mistake" || rm -f "$mistake"
    fi
    return "$status"
}

# in_use LOG: whether a command ended because another process writes into its folder. The status of it is 73
# (tomohet.errors), but 1 where torchrun started the command.
in_use() { grep -q '^error: .* is writing there' "$1"; }

# told LOG COMMAND...: run a command, its output to the terminal and to LOG, also while signals end the job.
told() {
    local log=$1
    shift
    "$@" 2>&1 | (trap '' INT TERM; tee "$log")
}

# with_cards N COMMAND...: run a command on N GPUs of this machine that no other job of the user has.
#
# A scheduler that gives a job its GPUs shows it no others; then there is nothing to choose. Else each GPU has a lock
# file, held until the job's shell ends; a job waits until enough are free.
with_cards() {
    local wanted=$1 visible
    shift
    visible=${CUDA_VISIBLE_DEVICES-$(nvidia-smi --query-gpu=index --format=csv,noheader 2> /dev/null | paste -sd,)} || true
    local -a all=() free=()
    IFS=, read -ra all <<< "$visible"
    if [ "$wanted" -gt 0 ] && [ "${#all[@]}" -gt "$wanted" ]; then
        while true; do
            lock_cards "$wanted" "${all[@]}" && break
            sleep 5
        done
        CUDA_VISIBLE_DEVICES=$(IFS=,; echo "${free[*]}")
        export CUDA_VISIBLE_DEVICES
        echo "GPU $CUDA_VISIBLE_DEVICES of $visible" >&2
    fi
    "$@"
}

# lock_cards N CARD...: lock N cards and name them in the caller's `free`; lock none where fewer are free.
lock_cards() {
    local wanted=$1 card handle
    shift
    local -a held=()
    free=()
    for card in "$@"; do
        exec {handle}>> "${GPU_LOCKS:-/tmp}/tomohet-$UID-gpu-$card.lock"
        if flock --nonblock "$handle"; then
            free+=("$card") held+=("$handle")
            [ "${#free[@]}" -eq "$wanted" ] && return 0
        else
            exec {handle}>&-
        fi
    done
    for handle in "${held[@]}"; do exec {handle}>&-; done
    return 1
}
