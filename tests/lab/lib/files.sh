# shellcheck shell=bash
# The lab's directory, its locks, and files that are written whole or not at all.

# Marks a directory as a lab's, so that `wipe` never deletes another.
MARK=.comity-lab

make_lab_dir() {
    umask 077
    mkdir -p "$LAB_DIR"
    # The mark comes before anything else, so that commands that begin together see a lab or nothing. Looked for last: what the listing saw
    # of another command came after its mark.
    if [[ -n $(ls -A "$LAB_DIR") && ! -e $LAB_DIR/$MARK ]]; then
        die "$LAB_DIR is not empty and not a lab"
    fi
    [[ -e $LAB_DIR/$MARK ]] || touch "$LAB_DIR/$MARK"
    mkdir -p "$LAB_DIR"/{run,log,certs}
}

# Writes standard input to a file unless it is there already, and remembers in CONFIG_CHANGED.
CONFIG_CHANGED=0
write_config() {
    local file=$1 new
    new=$(cat)
    [[ -e $file && $(<"$file") == "$new" ]] && return
    mkdir -p "$(dirname "$file")"
    printf '%s\n' "$new" >"$file.new"
    mv "$file.new" "$file"
    CONFIG_CHANGED=1
}

# Holds a lock until this (sub)shell ends. Servers do not inherit it: `spawn` closes descriptors.
lock() {
    local name=$1 descriptor
    exec {descriptor}>"$LAB_DIR/run/$name.lock"
    flock -w 180 "$descriptor" || die "another lab command holds $LAB_DIR/run/$name.lock"
}

wipe() {
    [[ -d $LAB_DIR ]] || return 0
    [[ -e $LAB_DIR/$MARK ]] || die "$LAB_DIR is not a lab; not deleting it"
    servers_down
    rm -rf "${LAB_DIR:?}"
}
