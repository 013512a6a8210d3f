# logged LOG ATTEMPT COMMAND...: run a command of a job, its output to the terminal and to LOG (`common.smk`).
#
# A mistake of the user is kept beside the log. The next attempt ends with it at once; the first attempt of a later
# run forgets it.
logged() {
    local log=$1 attempt=$2 mistake=${1%.log}.mistake status=0
    shift 2
    if [ "$attempt" -gt 1 ] && [ -s "$mistake" ]; then
        { echo "not tried again: the mistake of the attempt before must be corrected first"; cat "$mistake"; } |
            tee "$log"
        return 1
    fi
    rm -f "$mistake"
    "$@" 2>&1 | (trap '' INT TERM; tee "$log") || status=$?
    if [ "$status" = 1 ]; then
        grep '^error: ' "$log" | tail -n 1 > "$mistake" || rm -f "$mistake"
    fi
    return "$status"
}
