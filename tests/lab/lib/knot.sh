# shellcheck shell=bash
# Knot DNS: the zone `test.`, changed while it runs (zone.sh), answered on UDP and TCP.

knot_binary() { echo /usr/sbin/knotd; }
knot_ports() { echo "$DNS_PORT"; }

knot_configure() {
    write_config "$LAB_DIR/knot/initial.zone" < <(initial_zone)
    # Knot writes changes back to its zone file, so that they survive a restart.
    if ((CONFIG_CHANGED)) || [[ ! -e $LAB_DIR/knot/test.zone ]]; then
        rm -rf "$LAB_DIR/knot/db"
        cp "$LAB_DIR/knot/initial.zone" "$LAB_DIR/knot/test.zone"
        CONFIG_CHANGED=1
    fi
    mkdir -p "$LAB_DIR/knot/db"
    write_config "$LAB_DIR/knot/knot.conf" <<END
server:
    rundir: $LAB_DIR/knot
    listen: $LAB_IP@$DNS_PORT
    udp-workers: 1
    tcp-workers: 2
    background-workers: 1
database:
    storage: $LAB_DIR/knot/db
    journal-db-mode: asynchronous
    journal-db-max-size: 32M
    kasp-db-max-size: 8M
    timer-db-max-size: 8M
    catalog-db-max-size: 8M
control:
    listen: $LAB_DIR/knot/knot.sock
log:
  - target: stderr
    any: info
zone:
  - domain: test.
    storage: $LAB_DIR/knot
    file: test.zone
    semantic-checks: off
END
}

initial_zone() {
    local name
    echo 'test. 1 SOA ns.test. nobody.test. 1 3600 600 86400 1'
    echo 'test. 1 NS ns.test.'
    for name in ns "${IRC_NAME%.test}" ngircd inspircd "${XMPP_DOMAIN%.test}" "${XMPP_MUC%.test}" "${XMPP_UPLOAD%.test}" "${MATRIX_SERVER_NAME%.test}"; do
        echo "$name.test. 1 A $LAB_IP"
    done
}

knot_run() {
    spawn knot /usr/sbin/knotd -c "$LAB_DIR/knot/knot.conf"
}

knot_ready() {
    probe_dns
}
