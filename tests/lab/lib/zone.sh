# shellcheck shell=bash
# Changing the zone while the server runs. Each verb is one transaction: a question is answered from
# before it or from after it, and once the verb returns, from after it.

TTL=1

zone_verb_srv() {
    (($# == 3)) || die "usage: lab srv NAME TARGET PORT"
    local name target=$2 port=$3
    name=$(absolute "$1")
    [[ $port =~ ^[0-9]+$ ]] || die "not a port: $port"
    if [[ $target =~ ^[0-9.]+$ ]]; then
        zone_change \
            "unset $name A" "unset $name AAAA" "unset _chat._tcp.$name SRV" \
            "set $name $TTL A $target" "set _chat._tcp.$name $TTL SRV 10 60 $port $name"
    else
        zone_change \
            "unset _chat._tcp.$name SRV" \
            "set _chat._tcp.$name $TTL SRV 10 60 $port ${target%.}."
    fi
}

zone_verb_unsrv() {
    (($# == 1)) || die "usage: lab unsrv NAME"
    local name
    name=$(absolute "$1")
    zone_change "unset $name A" "unset $name AAAA" "unset _chat._tcp.$name SRV"
}

zone_verb_txt() {
    (($# == 2)) || die "usage: lab txt NAME TEXT"
    zone_verb_zone set "$1" TXT "$(quoted "$2")"
}

zone_verb_untxt() {
    (($# == 1)) || die "usage: lab untxt NAME"
    zone_verb_zone unset "$1" TXT
}

zone_verb_zone() {
    local verb=${1:-} name type
    case $verb:$# in
    set:4 | add:4)
        name=$(absolute "$2")
        type=${3^^}
        if [[ $verb == set ]]; then
            zone_change "unset $name $type" "set $name $TTL $type $4"
        else
            zone_change "set $name $TTL $type $4"
        fi
        ;;
    unset:2 | unset:3) zone_change "unset $(absolute "$2") ${3:-}" ;;
    show:1) knot_control zone-read test. ;;
    reset:1) zone_reset ;;
    *) die "usage: lab zone set|add NAME TYPE DATA | unset NAME [TYPE] | show | reset" ;;
    esac
}

# Only names of the lab's own zone, in the form with a dot at the end.
absolute() {
    local name=${1%.}
    [[ $name =~ ^[A-Za-z0-9._*-]+$ ]] || die "not a name: $1"
    [[ $name == test || $name == *.test ]] || die "$1 is not in the zone test."
    echo "$name."
}

# A TXT record is made of strings of at most 255 bytes.
quoted() {
    local LC_ALL=C text=$1 part
    [[ -n $text ]] || printf '""'
    while [[ -n $text ]]; do
        part=${text:0:255}
        text=${text:255}
        part=${part//\\/\\\\}
        printf '"%s" ' "${part//\"/\\\"}"
    done
}

knot_control() {
    knotc -s "$LAB_DIR/knot/knot.sock" "$@"
}

# zone_change LINE..: "set OWNER TTL TYPE DATA" or "unset OWNER [TYPE]", all or none.
zone_change() (
    running knot >/dev/null || die "knot is not running"
    lock zone
    begin_zone_change
    for line in "$@"; do
        if ! message=$(zone_step "$line" 2>&1); then
            # What is to be absent may be absent already.
            [[ $line == unset* && $message =~ "no such"|"not exists" ]] && continue
            knot_control zone-abort test. >/dev/null
            die "zone $line: $message"
        fi
    done
    message=$(knot_control zone-commit test. 2>&1) || die "zone: $message"
)

zone_step() {
    local verb owner ttl type data # an unset has the type where a set has its TTL
    read -r verb owner ttl type data <<<"$1"
    if [[ $verb == set ]]; then
        knot_control zone-set test. "$owner" "$ttl" "$type" "$data"
    else
        knot_control zone-unset test. "$owner" ${ttl:+"$ttl"}
    fi
}

begin_zone_change() {
    if ! knot_control zone-begin test. >/dev/null 2>&1; then
        # Left open by a command that was killed; nobody else is at it, since we hold the lock.
        knot_control zone-abort test. >/dev/null 2>&1 || true
        knot_control zone-begin test. >/dev/null
    fi
}

zone_reset() (
    lock zone
    cp "$LAB_DIR/knot/initial.zone" "$LAB_DIR/knot/test.zone"
    knot_control -b zone-reload test. >/dev/null
)
