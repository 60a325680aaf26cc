# shellcheck shell=bash
# Matrix appservice registrations. Synapse reads them only when it starts, so it is restarted, but
# only when something changed. A registration is known by its id; one with the same id replaces it.

appservices() {
    make_lab_dir
    case ${1:-} in
    --list) appservice_ids ;;
    --remove)
        shift
        change_appservices remove "$@"
        ;;
    -*) die "usage: lab appservices FILE.. | --list | --remove ID.." ;;
    *) change_appservices add "$@" ;;
    esac
}

appservice_ids() {
    local file
    for file in "$LAB_DIR/synapse/appservices"/*.yaml; do
        [[ ! -e $file ]] || registration_id "$file"
    done
}

registration_id() {
    local id
    id=$(sed -n "s/^\"\\?id\"\\?: *[\"']\\?\\([^\"'# ]*\\).*/\\1/p" "$1" | head -n 1)
    [[ $id =~ ^[A-Za-z0-9._=+-]+$ ]] || die "$1: no usable id: line"
    echo "$id"
}

change_appservices() (
    how=$1
    shift
    lock synapse
    folder=$LAB_DIR/synapse/appservices
    mkdir -p "$folder"
    rm -rf "$folder.before"
    cp -a "$folder" "$folder.before"
    for item in "$@"; do
        if [[ $how == add ]]; then
            id=$(registration_id "$item")
            cmp -s "$item" "$folder/$id.yaml" || cp "$item" "$folder/$id.yaml"
        else
            rm -f "$folder/$item.yaml"
        fi
    done
    synapse_configure
    if running synapse >/dev/null; then
        if diff -rq "$folder.before" "$folder" >/dev/null && ((!CONFIG_CHANGED)); then
            exit
        fi
        terminate synapse
    fi
    if ! (start synapse); then
        # A registration that Synapse refuses must not take the other tests' server away.
        rm -rf "$folder"
        mv "$folder.before" "$folder"
        synapse_configure
        start synapse
        die "Synapse refuses the registrations; the earlier ones are back"
    fi
)
