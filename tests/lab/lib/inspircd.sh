# shellcheck shell=bash
# InspIRCd 3: the IRCv3 server of the lab.

inspircd_binary() { echo /usr/sbin/inspircd; }
inspircd_ports() { printf '%s\n' "$INSPIRCD_PORT" "$INSPIRCD_TLS_PORT"; }

inspircd_configure() {
    irc_cert
    local module modules=
    for module in cap ircv3 ircv3_accounttag ircv3_batch ircv3_capnotify ircv3_chghost ircv3_ctctags \
        ircv3_echomessage ircv3_invitenotify ircv3_labeledresponse ircv3_msgid ircv3_servertime \
        services_account chanhistory monitor namesx uhnames botmode setname sajoin sapart samode sanick \
        ssl_gnutls sslinfo; do
        modules+="<module name=\"$module\">"$'\n'
    done
    write_config "$LAB_DIR/inspircd/inspircd.conf" <<END
<server name="inspircd.test" description="Comity test lab" network="inspircd">
<admin name="Comity test lab" nick="nobody" email="nobody@irc.test">
<path configdir="$LAB_DIR/inspircd" datadir="$LAB_DIR/inspircd" logdir="$LAB_DIR/log" runtimedir="$LAB_DIR/run">

$modules
<sslprofile name="lab" provider="gnutls" certfile="$LAB_DIR/certs/$IRC_NAME.pem" keyfile="$LAB_DIR/certs/$IRC_NAME.key" requestclientcert="no">
<bind address="$LAB_IP" port="$INSPIRCD_PORT" type="clients">
<bind address="$LAB_IP" port="$INSPIRCD_TLS_PORT" type="clients" sslprofile="lab">

<connect allow="*" timeout="60" pingfreq="120" localmax="100000" globalmax="100000" maxconnwarn="no"
    maxchans="100000" commandrate="1000000000" threshold="1000000" fakelag="no" recvq="1M" softsendq="64M" hardsendq="64M"
    useident="no" resolvehostnames="no" usednsbl="no" modes="">
<class name="operator" commands="*" privs="*" usermodes="*" chanmodes="*" snomasks="*">
<type name="operator" classes="operator" maxchans="100000">
<oper name="$IRC_OPER" password="$IRC_OPER_PASSWORD" host="*@*" type="operator">

# It asks no resolver, but would open a socket on all interfaces for one.
<dns server="$LAB_IP" sourceip="$LAB_IP">
<cidr ipv4clone="32" ipv6clone="128">
<limits maxnick="30" maxchan="64" maxtopic="390" maxkick="300" maxaway="200" maxreal="128">
<options prefixquit="Quit: " syntaxhints="no" allowzerolimit="no" exemptchanops="">
<performance netbuffersize="65536" somaxconn="1024" softlimit="100000" quietbursts="yes" clonesonconnect="no">
<security hideserver="" maxtargets="20" userstats="Pu">
<chanhistory maxlines="500" bots="yes" enableumode="no" prefixmsg="no">
<log method="file" type="* -USERINPUT -USEROUTPUT" level="default" target="$LAB_DIR/log/inspircd.log">
END
}

inspircd_run() {
    # Debian confines the program by its path (AppArmor) to /etc/inspircd; a copy may read the lab's files.
    cp -f /usr/sbin/inspircd "$LAB_DIR/inspircd/inspircd"
    spawn inspircd "$LAB_DIR/inspircd/inspircd" --nofork --nopid --runasroot --config "$LAB_DIR/inspircd/inspircd.conf"
}

inspircd_ready() {
    probe_irc "$INSPIRCD_PORT" && port_open "$INSPIRCD_TLS_PORT"
}
