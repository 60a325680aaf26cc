# shellcheck shell=bash
# What a caller may choose, and what follows from it. Every setting comes from the environment
# and has a default; nothing is read from a file, so that two labs differ by their environment only.

SERVERS=(ngircd inspircd prosody synapse knot)

LAB_IP=${COMITY_LAB_IP:-127.0.0.1}
CACHE_DIR=${COMITY_LAB_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/comity}

# A lab on another address has other state, unless the caller says where.
if [[ $LAB_IP == 127.0.0.1 ]]; then
    LAB_DIR=${COMITY_LAB_DIR:-$CACHE_DIR/lab}
else
    LAB_DIR=${COMITY_LAB_DIR:-$CACHE_DIR/lab-$LAB_IP}
fi

NGIRCD_PORT=${COMITY_LAB_PORT_NGIRCD:-16667}
NGIRCD_TLS_PORT=${COMITY_LAB_PORT_NGIRCD_TLS:-16697}
INSPIRCD_PORT=${COMITY_LAB_PORT_INSPIRCD:-16668}
INSPIRCD_TLS_PORT=${COMITY_LAB_PORT_INSPIRCD_TLS:-16698}
XMPP_C2S_PORT=${COMITY_LAB_PORT_XMPP_C2S:-15222}
XMPP_COMPONENT_PORT=${COMITY_LAB_PORT_XMPP_COMPONENT:-15347}
XMPP_HTTP_PORT=${COMITY_LAB_PORT_XMPP_HTTP:-15280}
MATRIX_PORT=${COMITY_LAB_PORT_MATRIX:-18008}
DNS_PORT=${COMITY_LAB_PORT_DNS:-15353}

# Nothing below is a setting: tests may rely on it.
IRC_NAME=irc.test
IRC_OPER=operator
IRC_OPER_PASSWORD=lab-oper
XMPP_DOMAIN=xmpp.test
XMPP_MUC=conference.$XMPP_DOMAIN
XMPP_UPLOAD=upload.$XMPP_DOMAIN
XMPP_COMPONENTS=(bridge{1..8}."$XMPP_DOMAIN")
XMPP_SECRET=lab-secret
XMPP_USERS=(alice bob carol dave erin)
XMPP_PASSWORD=lab-password
MATRIX_SERVER_NAME=hs.test
MATRIX_URL=http://$LAB_IP:$MATRIX_PORT
MATRIX_USERS=(alice bob carol dave erin)
MATRIX_PASSWORD=lab-password
MATRIX_ADMIN=admin
MATRIX_REGISTRATION_SECRET=lab-registration
SYNAPSE_VERSION=${COMITY_LAB_SYNAPSE:-1.163.2}
SYNAPSE_VENV=$CACHE_DIR/synapse-$SYNAPSE_VERSION

check_settings() {
    [[ $LAB_IP =~ ^127\.[0-9]+\.[0-9]+\.[0-9]+$ ]] || die "COMITY_LAB_IP must be a loopback address, 127.x.x.x: $LAB_IP"
    [[ $LAB_DIR == /* ]] || die "COMITY_LAB_DIR must be an absolute path: $LAB_DIR"
    [[ $LAB_DIR != *[[:space:]\'\"\$\\]* ]] || die "COMITY_LAB_DIR must not contain spaces, quotes, \$ or \\: $LAB_DIR"
    # A Unix socket's path holds 107 bytes.
    ((${#LAB_DIR} <= 80)) || die "COMITY_LAB_DIR is too long for a socket in it (more than 80 bytes): $LAB_DIR"
    local name
    for name in NGIRCD NGIRCD_TLS INSPIRCD INSPIRCD_TLS XMPP_C2S XMPP_COMPONENT XMPP_HTTP MATRIX DNS; do
        local setting=COMITY_LAB_PORT_$name
        [[ ${!setting:-1} =~ ^[0-9]+$ ]] || die "$setting must be a port number: ${!setting}"
    done
}

print_env() {
    local key
    emit() { printf "%s='%s'\n" "$1" "$2"; }
    for key in LAB_DIR LAB_IP; do emit "$key" "${!key}"; done
    emit LAB_CA "$LAB_DIR/ca.pem"
    emit LAB_CERTS "$LAB_DIR/certs"
    for key in IRC_NAME IRC_OPER IRC_OPER_PASSWORD \
        NGIRCD_PORT NGIRCD_TLS_PORT INSPIRCD_PORT INSPIRCD_TLS_PORT \
        XMPP_DOMAIN XMPP_MUC XMPP_UPLOAD XMPP_C2S_PORT XMPP_COMPONENT_PORT XMPP_HTTP_PORT \
        XMPP_SECRET XMPP_PASSWORD \
        MATRIX_SERVER_NAME MATRIX_URL MATRIX_PORT MATRIX_PASSWORD MATRIX_ADMIN MATRIX_REGISTRATION_SECRET; do
        emit "$key" "${!key}"
    done
    emit XMPP_COMPONENTS "${XMPP_COMPONENTS[*]}"
    emit XMPP_USERS "${XMPP_USERS[*]}"
    emit MATRIX_USERS "${MATRIX_USERS[*]}"
    emit DNS_ADDR "$LAB_IP:$DNS_PORT"
    emit DNS_ZONE test
}
