"""Speaks to every server of a running lab as a client would; `lab check` runs it.

Uses the standard library only. Reads the lab's settings from the environment (`lab env`).
Each check is a function whose name is the promise it tests.
"""

import base64
import hashlib
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request

ENV = os.environ
IP = ENV["LAB_IP"]
LAB = os.path.join(os.path.dirname(os.path.abspath(__file__)), "lab")
RUN = f"{os.getpid():x}{time.time_ns() // 1000000 % 100000:x}"


class Wire:
    """A TCP or TLS connection read up to a pattern."""

    def __init__(self, port, tls_name=None):
        self.socket = socket.create_connection((IP, int(port)), timeout=10)
        self.seen = ""
        if tls_name:
            self.start_tls(tls_name)

    def start_tls(self, name):
        context = ssl.create_default_context(cafile=ENV["LAB_CA"])
        self.socket = context.wrap_socket(self.socket, server_hostname=name)

    def send(self, text):
        self.socket.sendall(text.encode())

    def until(self, pattern):
        while not (match := re.search(pattern, self.seen, re.S | re.M)):
            data = self.socket.recv(65536)
            if not data:
                raise AssertionError(f"closed while waiting for {pattern}; seen {self.seen[-500:]!r}")
            self.seen += data.decode(errors="replace")
        self.seen = self.seen[match.end() :]
        return match


def irc(port, nick, tls):
    wire = Wire(port, "irc.test" if tls else None)
    wire.send(f"NICK {nick}\r\nUSER {nick} 0 * :{nick}\r\n")
    wire.until(rf" 001 {nick} ")
    return wire


def irc_burst(plain, tls):
    """500 lines at once from the TLS client to the plain one: no flood limit, nothing lost."""
    channel = f"#check{RUN}"
    one, two = irc(plain, f"one{RUN}"[:30], False), irc(tls, f"two{RUN}"[:30], True)
    for wire in (one, two):
        wire.send(f"JOIN {channel}\r\n")
        wire.until(" 366 ")
    two.send("".join(f"PRIVMSG {channel} :line {n}.\r\n" for n in range(500)))
    for n in range(500):
        one.until(rf"PRIVMSG {channel} :line {n}\.")


def ngircd_relays_a_burst_from_tls_to_plain():
    irc_burst(ENV["NGIRCD_PORT"], ENV["NGIRCD_TLS_PORT"])


def inspircd_relays_a_burst_from_tls_to_plain():
    irc_burst(ENV["INSPIRCD_PORT"], ENV["INSPIRCD_TLS_PORT"])


def inspircd_echoes_with_msgid_time_and_label():
    wire = Wire(ENV["INSPIRCD_PORT"])
    wire.send("CAP LS 302\r\n")
    offered = wire.until(r"CAP \S+ LS :(.*?)\r\n")[1]
    wanted = "message-tags server-time echo-message batch labeled-response account-tag"
    for cap in wanted.split():
        assert cap in offered, f"no {cap} in {offered}"
    wire.send(f"CAP REQ :{wanted}\r\nCAP END\r\nNICK cap{RUN}\r\nUSER u 0 * :u\r\n")
    wire.until(" 001 ")
    wire.send(f"JOIN #check{RUN}\r\n@label=L1 PRIVMSG #check{RUN} :hello\r\n")
    tags = wire.until(r"^@(\S+) \S+ PRIVMSG \S+ :hello")[1]
    assert "label=L1" in tags and "msgid=" in tags and "time=" in tags, tags


def xmpp(user, tls=False):
    wire = Wire(ENV["XMPP_C2S_PORT"])
    domain = ENV["XMPP_DOMAIN"]
    opening = (
        f"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='{domain}' version='1.0'>"
    )

    def open_stream():
        wire.send(opening)
        wire.until("</stream:features>")

    open_stream()
    if tls:
        wire.send("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
        wire.until("<proceed")
        wire.start_tls(domain)
        wire.seen = ""
        open_stream()
    secret = base64.b64encode(f"\0{user}\0{ENV['XMPP_PASSWORD']}".encode()).decode()
    wire.send(f"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{secret}</auth>")
    wire.until("<success")
    open_stream()
    wire.send("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>")
    jid = wire.until("<jid>(.*?)</jid>")[1]
    wire.send("<presence/>")
    return wire, jid


def component(name):
    wire = Wire(ENV["XMPP_COMPONENT_PORT"])
    wire.send(
        "<stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams'" f" to='{name}'>"
    )
    stream = wire.until("<stream:stream[^>]*? id=['\"](.*?)['\"]")[1]
    digest = hashlib.sha1((stream + ENV["XMPP_SECRET"]).encode()).hexdigest()
    wire.send(f"<handshake>{digest}</handshake>")
    wire.until("<handshake ?/>")
    return wire


def join_muc(room, nick, source=""):
    return f"<presence {source} to='{room}/{nick}'><x xmlns='http://jabber.org/protocol/muc'><history maxstanzas='0'/></x></presence>"


def xmpp_accounts_log_in_plain_and_with_tls():
    for user in ENV["XMPP_USERS"].split():
        xmpp(user)
    xmpp(ENV["XMPP_USERS"].split()[0], tls=True)


def a_user_and_every_component_talk_in_a_new_muc_with_archive():
    room = f"check{RUN}@{ENV['XMPP_MUC']}"
    user, _ = xmpp("alice")
    user.send(join_muc(room, "alice"))
    user.until(f"<presence[^>]*{room}/alice.*?code='110'")
    for number, name in enumerate(ENV["XMPP_COMPONENTS"].split()):
        ghost = component(name)
        ghost.send(join_muc(room, f"ghost{number}", f"from='ghost@{name}/x'"))
        ghost.until("code='110'")
        ghost.send(f"<message from='ghost@{name}/x' to='{room}' type='groupchat' id='m{number}'><body>hi {number}</body></message>")
        user.until(f"<body>hi {number}</body>.*?<stanza-id.*?</message>")
    user.send(f"<iq type='set' to='{room}' id='q'><query xmlns='urn:xmpp:mam:2'/></iq>")
    user.until("<body>hi 0</body>.*?<fin ")


def users_and_components_may_upload():
    for wire, source in ((xmpp("alice")[0], ""), (component("bridge1.xmpp.test"), "from='bot@bridge1.xmpp.test'")):
        wire.send(
            f"<iq type='get' {source} to='{ENV['XMPP_UPLOAD']}' id='u'><request xmlns='urn:xmpp:http:upload:0'"
            " filename='a.txt' size='5' content-type='text/plain'/></iq>"
        )
        slot = wire.until("<iq[^>]*id='u'.*?</iq>")[0]
        assert "<put" in slot, slot
        put = re.search(r"<put url='(.*?)'", slot)[1]
        get = re.search(r"<get url='(.*?)'", slot)[1]
        token = re.search(r"<header name='Authorization'>(.*?)<", slot)[1]
        request = urllib.request.Request(
            put, b"hello", {"Authorization": token, "Content-Type": "text/plain"}, method="PUT"
        )
        assert urllib.request.urlopen(request, timeout=5).status == 201
        assert urllib.request.urlopen(get, timeout=5).read() == b"hello"


def matrix(method, path, body=None, token=None):
    request = urllib.request.Request(
        ENV["MATRIX_URL"] + path,
        json.dumps(body).encode() if body is not None else None,
        {"Authorization": f"Bearer {token}"} if token else {},
        method=method,
    )
    try:
        return json.load(urllib.request.urlopen(request, timeout=20))
    except urllib.error.HTTPError as error:
        raise AssertionError(f"{method} {path}: {error.code} {error.read()!r}") from error


def matrix_login(user):
    identifier = {"type": "m.id.user", "user": user}
    return matrix(
        "POST",
        "/_matrix/client/v3/login",
        {"type": "m.login.password", "identifier": identifier, "password": ENV["MATRIX_PASSWORD"]},
    )["access_token"]


def matrix_users_log_in_and_talk_without_rate_limit():
    tokens = [matrix_login(user) for user in [*ENV["MATRIX_USERS"].split(), ENV["MATRIX_ADMIN"]]]
    room = matrix("POST", "/_matrix/client/v3/createRoom", {"preset": "public_chat"}, tokens[0])["room_id"]
    matrix("POST", f"/_matrix/client/v3/join/{room}", {}, tokens[1])
    for n in range(30):
        path = f"/_matrix/client/v3/rooms/{room}/send/m.room.message/{RUN}{n}"
        matrix("PUT", path, {"msgtype": "m.text", "body": f"line {n}"}, tokens[0])
    sync = matrix("GET", "/_matrix/client/v3/sync?timeout=0", token=tokens[1])
    assert room in sync["rooms"]["join"]
    assert matrix("GET", "/_synapse/admin/v1/rooms?limit=1", token=tokens[-1])["total_rooms"] >= 1


def lab(*arguments):
    return subprocess.run([LAB, *arguments], check=True, capture_output=True, text=True).stdout


def ask(name, kind, *options):
    ip, port = ENV["DNS_ADDR"].split(":")
    command = ["kdig", f"@{ip}", "-p", port, "+short", *options, name, kind]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\n")[:-1]


def dns_follows_changes_at_once_on_udp_and_tcp():
    name = f"gw{RUN}.test"
    for port in ("18443", "18444"):
        lab("srv", name, IP, port)
        for options in (["+notcp"], ["+tcp"]):
            assert ask(f"_chat._tcp.{name}", "SRV", *options) == [f"10 60 {port} {name}."]
            assert ask(name, "A", *options) == [IP]
    text = 'k="v" \\ ' + "x" * 300
    lab("txt", f"_x.{name}", text)
    parts = re.findall(r'"((?:[^"\\]|\\.)*)"', ask(f"_x.{name}", "TXT")[0])
    assert re.sub(r"\\(.)", r"\1", "".join(parts)) == text, parts
    lab("untxt", f"_x.{name}")
    lab("unsrv", name)
    assert ask(f"_chat._tcp.{name}", "SRV") == [] and ask(name, "A") == [] and ask(f"_x.{name}", "TXT") == []


def a_certificate_is_accepted_for_its_name_only():
    name = f"cert{RUN}.test"
    pem = lab("cert", name).strip()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem, pem[: -len(".pem")] + ".key")
    client = ssl.create_default_context(cafile=ENV["LAB_CA"])
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    assert handshake(client, server, name)
    assert not handshake(client, server, "other.test")


def handshake(client_context, server_context, name):
    """A TLS handshake in memory; tells whether the client accepts the certificate for `name`."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server, server_hostname=name)
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLCertVerificationError:
                return False
            except ssl.SSLError:
                pass
    return client.version() is not None


CHECKS = [
    ngircd_relays_a_burst_from_tls_to_plain,
    inspircd_relays_a_burst_from_tls_to_plain,
    inspircd_echoes_with_msgid_time_and_label,
    xmpp_accounts_log_in_plain_and_with_tls,
    a_user_and_every_component_talk_in_a_new_muc_with_archive,
    users_and_components_may_upload,
    matrix_users_log_in_and_talk_without_rate_limit,
    dns_follows_changes_at_once_on_udp_and_tcp,
    a_certificate_is_accepted_for_its_name_only,
]


def main():
    failed = 0
    for check in CHECKS:
        began = time.monotonic()
        try:
            check()
            verdict = "ok"
        except Exception as error:  # one failing server must not hide the next
            failed += 1
            verdict = f"FAILED: {type(error).__name__}: {error}"
        print(f"{check.__name__.replace('_', ' ')}: {verdict} ({time.monotonic() - began:.2f} s)", flush=True)
    sys.exit(failed > 0)


main()
