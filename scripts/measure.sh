#!/usr/bin/env bash
# What scripts/bench and scripts/bench-files share: timing with dropped caches, medians, cells of tables, daemons that mount.
#
# The caller sources common.sh first, makes a scratch directory, and sets dir, results (a file of measurements) and image.

# --- measuring -------------------------------------------------------------------------------------------------------

cold() {
    sync
    echo 3 >/proc/sys/vm/drop_caches
}

# timed COMMAND ...: runs it with its output thrown away; ELAPSED is what it took, in seconds.
timed() {
    local started=$EPOCHREALTIME
    "$@" >"$SCRATCH/timed.log" 2>&1 || {
        tail -n 5 "$SCRATCH/timed.log" >&2
        die "failed: $*"
    }
    ELAPSED=$(calculate "$EPOCHREALTIME - $started")
}

calculate() { awk "BEGIN { printf \"%.6f\", $1 }"; }

# record WHAT CONTESTANT VALUE
record() { printf '%s\t%s\t%s\n' "$@" >>"$results"; }

# median WHAT CONTESTANT: of what was recorded; nothing if nothing was.
median() {
    awk -F '\t' -v what="$1" -v who="$2" '$1 == what && $2 == who { print $3 }' "$results" | sort -g |
        awk '{ value[NR] = $1 } END { if (NR) printf "%.6f", NR % 2 ? value[(NR + 1) / 2] : (value[NR / 2] + value[NR / 2 + 1]) / 2 }'
}

# Cells of a table: "-" where a contestant did not take part. seconds WHAT WHO, megabytes_per_second WHAT WHO BYTES, ...
cell() { if [[ -n $2 ]]; then awk "BEGIN { printf \"$1\", $2 }"; else printf -- -; fi; }
seconds() { cell '%.2f s' "$(median "$@")"; }
milliseconds() { local value; value=$(median "$@"); cell '%.1f ms' "${value:+$value * 1000}"; }
microseconds() { cell '%.0f µs' "$(median "$@")"; }
count() { cell '%.0f' "$(median "$@")"; }
mebibytes() { local value; value=$(median "$@"); cell '%.0f MiB' "${value:+$value / 1048576}"; }
speed() { local value; value=$(median "$1" "$2"); cell '%.0f MB/s' "${value:+$(stat -c %s "$image") / $value / 1000000}"; }
# ratio WHAT WHO WHAT WHO: the first median divided by the second.
ratio() {
    local one other
    one=$(median "$1" "$2") other=$(median "$3" "$4")
    cell '%.2f' "${one:+${other:+$one / $other}}"
}

stored_bytes() { du --summarize --bytes "$1" | cut -f 1; }

# --- mounts ----------------------------------------------------------------------------------------------------------

mount_point=$SCRATCH/mount
is_mounted() { grep -q " $mount_point " /proc/self/mounts; }

# serve COMMAND ...: starts a daemon that mounts on $mount_point, and waits until it has.
serve() {
    local tries
    "$@" </dev/null >"$SCRATCH/daemon.log" 2>&1 &
    DAEMON=$!
    at_exit kill_daemon "$DAEMON"
    for ((tries = 0; tries < 1200; tries++)); do
        ! is_mounted || return 0
        kill -0 "$DAEMON" 2>/dev/null || break
        sleep 0.05
    done
    tail -n 5 "$SCRATCH/daemon.log" >&2
    die "did not mount: $*"
}

kill_daemon() {
    local tries
    ! is_mounted || umount "$mount_point" 2>/dev/null || true
    for ((tries = 0; tries < 40; tries++)); do
        kill -0 "$1" 2>/dev/null || break
        sleep 0.05
    done
    kill "$1" 2>/dev/null || true
    wait "$1" 2>/dev/null || true
    ! is_mounted || umount --lazy "$mount_point" || true
}

# unserve WHAT CONTESTANT: notes the daemon's peak memory, and ends it.
unserve() {
    record "$1 memory" "$2" "$(awk '/^VmHWM/ { print $2 * 1024 }' "/proc/$DAEMON/status")"
    clean_up_to $((${#EXIT_COMMANDS[@]} - 1))
}

# --- peers -----------------------------------------------------------------------------------------------------------

# Sets rustic to the program's path, built if it is not there; nothing if it does not build.
prepare_rustic() {
    local cache version=0.11.4
    cache=$(cache_dir)
    if [[ -z $rustic ]]; then
        rustic=$cache/rustic-$version/bin/rustic
        if [[ ! -x $rustic ]]; then
            note "building rustic $version"
            cargo install --quiet rustic-rs --version "$version" --locked --no-default-features --features mount \
                --root "$cache/rustic-$version" >"$SCRATCH/cargo.log" 2>&1 || {
                note "rustic does not build, and is left out: $(tail -n 1 "$SCRATCH/cargo.log")"
                rustic=
                return 1
            }
        fi
    fi
}
