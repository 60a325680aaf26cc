# shellcheck shell=bash
# ngIRCd: plain IRC without tags; penalises quick clients unless told not to.

ngircd_binary() { echo /usr/sbin/ngircd; }
ngircd_ports() { printf '%s\n' "$NGIRCD_PORT" "$NGIRCD_TLS_PORT"; }

ngircd_configure() {
    irc_cert
    dh_parameters
    write_config "$LAB_DIR/ngircd/ngircd.conf" <<END
[Global]
Name = ngircd.test
Info = Comity test lab
AdminInfo1 = Comity test lab
AdminEMail = nobody@irc.test
Network = ngircd
MotdPhrase = "Comity test lab"
Listen = $LAB_IP
Ports = $NGIRCD_PORT

[Limits]
IdleTimeout = 0
MaxConnections = 0
MaxConnectionsIP = 0
MaxJoins = 0
MaxNickLength = 30
MaxPenaltyTime = 0
PingTimeout = 120
PongTimeout = 60

[Options]
DNS = no
Ident = no
PAM = no
OperCanUseMode = yes

[Operator]
Name = $IRC_OPER
Password = $IRC_OPER_PASSWORD

[SSL]
CertFile = $LAB_DIR/certs/$IRC_NAME.pem
KeyFile = $LAB_DIR/certs/$IRC_NAME.key
DHFile = $LAB_DIR/ngircd/dh.pem
Ports = $NGIRCD_TLS_PORT
END
}

# Without these it makes its own at every start, for up to two seconds. The group is RFC 7919's.
dh_parameters() {
    mkdir -p "$LAB_DIR/ngircd"
    [[ -e $LAB_DIR/ngircd/dh.pem ]] && return
    openssl genpkey -genparam -algorithm DH -pkeyopt group:ffdhe2048 -out "$LAB_DIR/ngircd/dh.pem"
}

# Both IRC servers show the same certificate.
irc_cert() {
    make_cert "$IRC_NAME" "$IRC_NAME" ngircd.test inspircd.test localhost "$LAB_IP"
}

ngircd_run() {
    spawn ngircd /usr/sbin/ngircd -n -f "$LAB_DIR/ngircd/ngircd.conf"
}

ngircd_ready() {
    probe_irc "$NGIRCD_PORT" && port_open "$NGIRCD_TLS_PORT"
}
