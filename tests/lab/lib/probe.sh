# shellcheck shell=bash
# Questions that only a server which is ready answers.

port_open() {
    (exec 3<>"/dev/tcp/$LAB_IP/$1") 2>/dev/null
}

# An IRC server answers this before registration.
probe_irc() (
    exec 3<>"/dev/tcp/$LAB_IP/$1" || exit 1
    printf 'CAP LS 302\r\n' >&3
    while read -r -t 2 line <&3; do
        [[ $line == *" CAP "* ]] && exit 0
    done
    exit 1
) 2>/dev/null

probe_xmpp() (
    exec 3<>"/dev/tcp/$LAB_IP/$1" || exit 1
    printf "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='%s' version='1.0'>" \
        "$XMPP_DOMAIN" >&3
    while read -r -t 2 -d '>' tag <&3; do
        [[ $tag == *stream:features* ]] && break
    done
    [[ ${tag:-} == *stream:features* ]] || exit 1
    printf '</stream:stream>' >&3
) 2>/dev/null

probe_http() {
    curl -sf -o /dev/null --max-time 2 "$1"
}

probe_dns() {
    [[ -n $(kdig "@$LAB_IP" -p "$DNS_PORT" +tcp +short +time=1 +retry=0 test. SOA 2>/dev/null) ]]
}
