# shellcheck shell=bash
# Puts the servers on the machine: Debian's packages, and Synapse in a virtual environment that all
# labs of this user share. Only what is missing is fetched; nothing that Debian installs is left running.

PACKAGES=(
    ngircd inspircd prosody prosody-modules knot knot-dnsutils
    openssl curl ca-certificates gcc libc6-dev make pkg-config procps strace eatmydata
)
POLICY=/usr/sbin/policy-rc.d
POLICY_KEPT=/usr/sbin/policy-rc.d.before-comity-lab

install_all() {
    local missing=() package before
    for package in "${PACKAGES[@]}"; do
        is_installed "$package" || missing+=("$package")
    done
    usable_python >/dev/null || missing+=(python3 python3-venv)
    if ((${#missing[@]})); then
        say "installing ${missing[*]}"
        before=$(list_units)
        without_daemons install_packages "${missing[@]}"
        disable_new_units "$before"
    fi
    synapse_install
}

is_installed() {
    [[ $(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null) == installed ]]
}

# A Python that can make a virtual environment; Debian's own first.
usable_python() {
    local python
    for python in /usr/bin/python3 python3; do
        if "$python" -c 'import ensurepip, sqlite3, sys, venv; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
            echo "$python"
            return
        fi
    done
    return 1
}

as_root() {
    if ((EUID == 0)); then
        "$@"
    else
        sudo "$@"
    fi
}

retry() {
    local attempt
    for attempt in 1 2 3; do
        "$@" && return
        say "attempt $attempt failed: $*"
        sleep $((attempt * 3))
    done
    return 1
}

install_packages() {
    local apt=(env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 apt-get -q -y)
    # Lists that name every package may still be too old to fetch it: then, and only then, update.
    if ! apt-cache show "$@" >/dev/null 2>&1 \
        || ! as_root "${apt[@]}" install --no-install-recommends "$@"; then
        retry as_root "${apt[@]}" update
        retry as_root "${apt[@]}" install --no-install-recommends "$@"
    fi
}

# Runs a command while Debian is told to start no daemon, and puts things back as they were.
without_daemons() {
    local failed=0
    # Left by a run that was killed: the true one is the one that was kept.
    restore_policy
    if [[ -e $POLICY ]]; then
        as_root mv "$POLICY" "$POLICY_KEPT"
    fi
    printf '#!/bin/sh\n# comity-lab: no daemon starts while packages are installed\nexit 101\n' \
        | as_root tee "$POLICY" >/dev/null
    as_root chmod 755 "$POLICY"
    trap restore_policy EXIT
    "$@" || failed=$?
    restore_policy
    trap - EXIT
    return "$failed"
}

restore_policy() {
    if [[ -e $POLICY ]] && grep -q comity-lab "$POLICY"; then
        as_root rm -f "$POLICY"
    fi
    if [[ -e $POLICY_KEPT ]]; then
        as_root mv "$POLICY_KEPT" "$POLICY"
    fi
}

list_units() {
    local unit
    for unit in ngircd inspircd prosody knot; do
        if [[ -e /lib/systemd/system/$unit.service ]]; then
            echo "$unit"
        fi
    done
}

# The units that came with this installation would start at the next boot.
disable_new_units() {
    local before=$1 unit
    command -v systemctl >/dev/null || return 0
    for unit in $(list_units); do
        if ! grep -qx "$unit" <<<"$before"; then
            as_root systemctl disable "$unit.service" >/dev/null 2>&1 || say "$unit.service could not be disabled"
        fi
    done
}
