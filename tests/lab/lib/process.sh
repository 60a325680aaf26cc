# shellcheck shell=bash
# Processes of the lab: started in sessions of their own, so that they outlive the caller, and known
# by process id together with start time and boot, so that a reused id is never signalled.

# spawn SERVER COMMAND..: starts it in the lab's directory, its output appended to its log.
spawn() {
    local server=$1
    shift
    (
        close_descriptors
        cd "$LAB_DIR"
        # Room for many clients; not the hard limit itself, for which some servers allocate tables.
        ulimit -n 65536 2>/dev/null || ulimit -n "$(ulimit -Hn)"
        exec setsid "$@" </dev/null >>"$LAB_DIR/log/$server.log" 2>&1
    ) &
    local pid=$!
    printf '%s %s %s\n' "$pid" "$(start_time "$pid")" "$(boot_id)" >"$LAB_DIR/run/$server.pid"
}

# A server must hold neither the lab's locks nor a pipe that its caller reads to the end.
close_descriptors() {
    local path descriptor
    for path in "/proc/$BASHPID/fd"/*; do
        descriptor=${path##*/}
        ((descriptor > 2)) && eval "exec $descriptor>&-"
    done
    return 0
}

# Prints the process id of a server, or fails if it does not run.
running() {
    local server=$1 pid started boot
    [[ -e $LAB_DIR/run/$server.pid ]] || return 1
    read -r pid started boot <"$LAB_DIR/run/$server.pid" || return 1
    [[ $boot == "$(boot_id)" && -n $started && $started == "$(start_time "$pid")" ]] || return 1
    [[ $(state "$pid") != Z ]] || return 1
    echo "$pid"
}

boot_id() { cat /proc/sys/kernel/random/boot_id; }

# Fields 22 and 3 of /proc/PID/stat, counted behind the command's name, which may hold anything.
start_time() { stat_field "$1" 20; }
state() { stat_field "$1" 1; }
stat_field() {
    local line fields
    line=$(cat "/proc/$1/stat" 2>/dev/null) || return 0
    read -ra fields <<<"${line##*) }"
    echo "${fields[$2 - 1]}"
}

# Asks, and after ten seconds insists.
terminate() {
    local server=$1 pid tenths
    if pid=$(running "$server"); then
        kill -TERM -- "-$pid" 2>/dev/null || true
        kill -CONT -- "-$pid" 2>/dev/null || true
        for ((tenths = 0; tenths < 500; tenths++)); do
            running "$server" >/dev/null || break
            sleep 0.02
        done
        if running "$server" >/dev/null; then
            say "$server does not end; killing it"
            kill -KILL -- "-$pid" 2>/dev/null || true
            while running "$server" >/dev/null; do sleep 0.02; done
        fi
    fi
    rm -f "$LAB_DIR/run/$server.pid"
}

freeze() {
    local pid
    pid=$(running "$1") || die "$1 is not running"
    kill -STOP -- "-$pid"
}

thaw() {
    local pid
    pid=$(running "$1") || die "$1 is not running"
    kill -CONT -- "-$pid"
}
