# shellcheck shell=bash
# Starting and stopping, the same for every server. A server NAME is a file that defines
#   NAME_binary     what must be installed
#   NAME_ports      the TCP ports it listens on
#   NAME_configure  writes its files with write_config
#   NAME_run        calls spawn
#   NAME_ready      succeeds once it answers
#   NAME_prepare    optional: what is done once it answers (accounts)

START_SECONDS=60

require_server() {
    local server
    for server in "${SERVERS[@]}"; do
        [[ $server == "$1" ]] && return
    done
    die "no such server: $1 (there are ${SERVERS[*]})"
}

servers_up() {
    local began=$EPOCHREALTIME
    make_lab_dir
    for_each server_up "$@" || exit 1
    say "ready after $(since "$began") s"
}

servers_down() {
    [[ -d $LAB_DIR/run ]] || return 0
    for_each server_down "$@" || exit 1
}

# Runs a function for each of the servers named (or all), side by side.
for_each() {
    local function=$1 server pids=() pid failed=0
    shift
    (($#)) || set -- "${SERVERS[@]}"
    for server in "$@"; do require_server "$server"; done
    for server in "$@"; do
        ("$function" "$server") &
        pids+=($!)
    done
    for pid in "${pids[@]}"; do
        wait "$pid" || failed=1
    done
    return "$failed"
}

server_up() {
    local server=$1 pid
    lock "$server"
    [[ -x $("${server}_binary") ]] || die "$server is not installed; run: lab install"
    "${server}_configure"
    if pid=$(running "$server"); then
        if ((!CONFIG_CHANGED)); then
            [[ $(state "$pid") != T ]] || thaw "$server"
            return
        fi
        say "$server: configuration changed, restarting"
        terminate "$server"
    fi
    start "$server"
}

server_down() {
    local server=$1
    lock "$server"
    running "$server" >/dev/null || return 0
    terminate "$server"
    say "$server stopped"
}

# The caller holds the lock, the server is configured and does not run.
start() {
    local server=$1 port began=$EPOCHREALTIME deadline=$((SECONDS + START_SECONDS))
    # A stranger on the port would answer the probe in our server's place.
    for port in $("${server}_ports"); do
        ! port_open "$port" || die "$server: another process listens on $LAB_IP:$port"
    done
    rotate_log "$server"
    "${server}_run"
    until "${server}_ready"; do
        running "$server" >/dev/null || fail_with_log "$server" "ended while starting"
        ((SECONDS < deadline)) || fail_with_log "$server" "is not ready after $START_SECONDS s"
        sleep 0.05
    done
    running "$server" >/dev/null || fail_with_log "$server" "ended while starting"
    if declare -F "${server}_prepare" >/dev/null; then
        "${server}_prepare"
    fi
    say "$server ready after $(since "$began") s"
}

fail_with_log() {
    say "$1 $2; the end of $LAB_DIR/log/$1.log:"
    tail -n 30 "$LAB_DIR/log/$1.log" >&2
    terminate "$1"
    exit 1
}

rotate_log() {
    [[ ! -e $LAB_DIR/log/$1.log ]] || mv "$LAB_DIR/log/$1.log" "$LAB_DIR/log/$1.log.1"
}

show_log() {
    local arguments=(-n 200)
    if [[ ${1:-} == -f ]]; then
        arguments+=(-F)
        shift
    fi
    (($# == 1)) || die "the log of which server?"
    require_server "$1"
    exec tail "${arguments[@]}" "$LAB_DIR/log/$1.log"
}

servers_status() {
    local server pid word failed=0
    for server in "${SERVERS[@]}"; do
        if pid=$(running "$server"); then
            word=running
            [[ $(state "$pid") != T ]] || word=frozen
        else
            pid=- word=down failed=1
        fi
        printf '%-9s %-8s pid %-8s %s\n' "$server" "$word" "$pid" "$("${server}_ports" | sed "s/^/$LAB_IP:/" | tr '\n' ' ')"
    done
    return "$failed"
}

check() {
    local variables
    eval "variables=($(print_env))"
    exec env "${variables[@]}" "$SYNAPSE_VENV/bin/python" "$HERE/check.py"
}

since() {
    local now=$EPOCHREALTIME microseconds
    microseconds=$((${now/[.,]/} - ${1/[.,]/}))
    printf '%d.%02d' $((microseconds / 1000000)) $((microseconds % 1000000 / 10000))
}
