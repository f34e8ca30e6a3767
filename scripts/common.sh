# Shared by the scripts beside it, which source it: messages, usage, clean-up, the cache directory, loop devices and disk layout.
# shellcheck shell=bash

# Where Debian keeps mke2fs, losetup and others; not on an ordinary user's PATH.
PATH=$PATH:/usr/sbin:/sbin

# Prints the comment that opens the calling script: it is the script's help.
usage() { sed -n '2,/^[^#]/{/^#/!q;s/^# \{0,1\}//;p}' "$0"; }

note() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

die() {
    note "$*"
    exit 1
}

# For a wrong command line: exit code 2, as in vaultfs itself.
die_usage() {
    note "$* (see ${0##*/} -h)"
    exit 2
}

need_root() { [[ $EUID -eq 0 ]] || die "$1 needs root: run it with sudo"; }

# Runs a command as root, through sudo where we are an ordinary user.
as_root() {
    if [[ $EUID -eq 0 ]]; then
        "$@"
    else
        command -v sudo >/dev/null || die "needs root to run '$*', and there is no sudo"
        sudo "$@"
    fi
}

cache_dir() {
    local dir=${VAULTFS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/vaultfs}
    mkdir -p "$dir"
    printf '%s\n' "$dir"
}

# Clean-up runs last in, first out, on every way out of the script.
declare -a EXIT_COMMANDS=()
at_exit() { EXIT_COMMANDS+=("$(printf '%q ' "$@")"); }

# clean_up_to COUNT: runs the clean-up commands now, until COUNT of them are left.
clean_up_to() {
    local command
    while [[ ${#EXIT_COMMANDS[@]} -gt $1 ]]; do
        command=${EXIT_COMMANDS[-1]}
        unset 'EXIT_COMMANDS[-1]'
        eval "$command" || note "clean-up failed: $command"
    done
}
leave() {
    local code=$?
    trap '' INT TERM
    clean_up_to 0
    exit "$code"
}
trap leave EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# A command that fails unforeseen ends the script (set -e): say which one.
set -o errtrace
trap 'note "line $LINENO: failed: $BASH_COMMAND"' ERR

# Makes a scratch directory that is gone when the script ends; its path is in SCRATCH.
make_scratch() {
    SCRATCH=$(mktemp -d "${TMPDIR:-/var/tmp}/vaultfs-${0##*/}.XXXXXX")
    at_exit rm -rf --one-file-system "$SCRATCH"
}

# attach IMAGE [OFFSET SIZE] [losetup option ...]: attaches a loop device (its name is in LOOP) until the script ends.
# An offset, unlike a partition scan, also works where nobody makes the partitions' device nodes.
attach() {
    local image=$1 offset=${2:-0} size=${3:-0}
    shift "$(($# < 3 ? $# : 3))"
    LOOP=$(losetup --find --show --offset "$offset" --sizelimit "$size" "$@" "$image")
    at_exit losetup --detach "$LOOP"
}

# mount_until_exit DEVICE DIR [mount option ...]
mount_until_exit() {
    mkdir -p "$2"
    mount "${@:3}" "$1" "$2"
    at_exit umount "$2"
}

# in_chroot ROOT COMMAND ...: our own TMPDIR need not exist in there.
in_chroot() { env --unset=TMPDIR DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 chroot "$@"; }

# forbid_services ROOT: packages that are installed in there start nothing, until allow_services ROOT.
forbid_services() {
    printf '#!/bin/sh\nexit 101\n' >"$1/usr/sbin/policy-rc.d"
    chmod +x "$1/usr/sbin/policy-rc.d"
}
allow_services() { rm "$1/usr/sbin/policy-rc.d"; }

# copy_files BUDGET DIR SOURCE ...: copies files of this machine, in order, until BUDGET bytes are used up.
copy_files() {
    local budget=$1 target=$2
    shift 2
    find "$@" -xdev \( -type f -size -65536k -o -type l \) -printf '%s %p\0' 2>/dev/null |
        perl -0ne 'BEGIN { $left = shift } chomp; my ($size, $path) = split / /, $_, 2;
            next if $path =~ /\n/; $size = 4096 * int($size / 4096 + 1);
            if ($size <= $left) { $left -= $size; print "$path\0" }' "$budget" |
        { tar --create --file - --directory / --null --no-recursion --files-from - 2>/dev/null ||
            [[ $? -eq 1 ]]; } | # 1: a file changed while it was read, as files do
        tar --extract --directory "$target" --file -
}

# The layout of the server's disk vda, in bytes: an EFI system partition, then the root file system.
MIB=$((1 << 20))
ESP_OFFSET=$((1 * MIB))
ESP_SIZE=$((64 * MIB))
ROOT_OFFSET=$((ESP_OFFSET + ESP_SIZE))

# Size in bytes of the root partition of IMAGE: up to the last MiB, which holds the second partition table.
root_size() { printf '%s\n' $(($(stat -Lc %s "$1") - ROOT_OFFSET - MIB)); }

# The binary under test: $VAULTFS, else the checkout's release build.
vaultfs_binary() {
    local checkout
    checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
    printf '%s\n' "${VAULTFS:-${CARGO_TARGET_DIR:-$checkout/target}/release/vaultfs}"
}
