//! Whole configurations, with bridges that know one key or two.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use comity_bridge::{
    Access, Bridge, BridgeError, BridgeKind, ConfigProblem, ConfigTable, Endpoint, GatewayInfo,
    Link, Listener, NetworkName,
};
use tempfile::TempDir;

use super::{Config, load_from};

const MAIN: &str = r##"
[gateway]
domain = "gw1.example"
data_dir = "state"

[http]
public = "127.0.0.1:8421"
public_url = "https://gw1.example"

[[room]]
name = "rust"
channels = ["libera/#rust", "oftc/#rust"]
federation = "open"

[[room]]
name = "go"
channels = ["libera/#go", "peers/#go@gw2.example"]
"##;

#[test]
fn a_whole_configuration_is_read() {
    let dir = three_networks(MAIN);
    let config = dir.load(&[]).expect("no problems");
    assert_eq!(config.gateway.domain, "gw1.example");
    assert_eq!(config.gateway.data_dir, dir.path("state"));
    assert_eq!(
        config.gateway.public_url.as_deref(),
        Some("https://gw1.example")
    );
    assert_eq!(config.http.admin.to_string(), "127.0.0.1:8420");
    let networks: Vec<(&str, &str)> = config
        .networks
        .iter()
        .map(|network| (network.name.as_str(), network.kind.protocol()))
        .collect();
    assert_eq!(
        networks,
        [("libera", "plain"), ("oftc", "plain"), ("peers", "hosting")]
    );
    assert_eq!(config.bridges().expect("bridges").len(), 3);
}

#[test]
fn a_room_open_to_peers_gets_a_channel_for_them() {
    let dir = three_networks(MAIN);
    let config = dir.load(&[]).expect("no problems");
    let [rust, go] = config.rooms.as_slice() else {
        panic!("{:?}", config.rooms);
    };
    assert_eq!(rust.address.to_string(), "#rust@gw1.example");
    assert_eq!(rust.access, Access::Open);
    let channels: Vec<String> = rust.channels.iter().map(ToString::to_string).collect();
    assert_eq!(
        channels,
        ["libera/#rust", "oftc/#rust", "peers/#rust@gw1.example"]
    );
    assert!(rust.is_hosted(&rust.channels[2]));
    assert!(!rust.is_hosted(&rust.channels[0]));
    assert_eq!(go.access, Access::Off);
    assert_eq!(go.hosted, []);
    assert_eq!(go.channels.len(), 2);
}

#[test]
fn the_data_directory_has_a_default() {
    let dir = Dir::new("[gateway]\ndomain = \"gw1.example\"\n");
    let config = dir.load(&[]).expect("no problems");
    assert_eq!(config.gateway.data_dir, Path::new("/var/lib/comity"));
}

#[test]
fn the_environment_wins_over_the_files() {
    let dir = three_networks(MAIN);
    dir.write(
        "bridges.d/my-net.toml",
        "protocol = \"plain\"\nserver = \"a\"\n",
    );
    let config = dir
        .load(&[
            ("COMITY_GATEWAY__DATA_DIR", "/srv/comity"),
            ("COMITY_HTTP__ADMIN", "[::1]:9000"),
            ("COMITY_BRIDGES__MY_NET__SERVER", "b"),
            ("COMITY_BRIDGES__PEERS__ALLOW", "[\"x\", \"y\"]"),
            ("COMITY_LOG", "debug"),
        ])
        .expect("no problems");
    assert_eq!(config.gateway.data_dir, Path::new("/srv/comity"));
    assert_eq!(config.http.admin.to_string(), "[::1]:9000");
    let table = |name: &str| {
        let found = config.networks.iter().find(|n| n.name.as_str() == name);
        found.expect("the network").table.clone()
    };
    assert_eq!(table("my-net").string("server").as_deref(), Some("b"));
    assert_eq!(
        table("peers").strings("allow"),
        Some(vec!["x".to_owned(), "y".to_owned()])
    );
}

#[test]
fn a_problem_of_the_environment_names_the_variable() {
    let dir = three_networks(MAIN);
    let problems = dir.problems(&[
        ("COMITY_GATEWAY__DOMAIN", "GW1.example"),
        ("COMITY_BRIDGES__LIBERA__SEVRER", "x"),
        ("COMITY_BRIDGES__OFTC__BURST", "many"),
        ("COMITY_BRIDGES__PEERS", "x"),
        ("COMITY_GATEWAYS__DOMAIN", "x"),
    ]);
    assert_same(
        &problems,
        &[
            "environment (COMITY_BRIDGES__PEERS): bridges.peers: is no network's key (a network is a table); write COMITY_BRIDGES__NETWORK__KEY",
            "environment (COMITY_GATEWAY__DOMAIN): gateway.domain: found \"GW1.example\": it is written in lower case; write a DNS name, e.g. \"gw1.example\"",
            "DIR/comity.toml: room[1].federation: is on, but there is no network over which peers could join; write such a network's file in bridges.d, e.g. with protocol = \"federation\", or leave this out",
            "DIR/comity.toml: room[2].channels: \"peers/#go@gw2.example\" is on a network that does not exist; correct it, or write bridges.d/peers.toml",
            "environment (COMITY_GATEWAYS__DOMAIN): gateways: is not a known key; did you mean \"gateway\"?",
            "environment (COMITY_BRIDGES__LIBERA__SEVRER): bridges.libera.sevrer: is not a known key; did you mean \"server\"?",
            "environment (COMITY_BRIDGES__OFTC__BURST): bridges.oftc.burst: found \"many\"; write a whole number from 1 to 10",
        ],
    );
}

#[test]
fn every_problem_of_every_file_is_reported_at_once() {
    let dir = Dir::new(
        r##"
colour = "red"

[gateway]
data_dri = "x"

[http]
admin = "0.0.0.0:8420"
public = "somewhere"
public_url = "https://gw1.example/"
tls_cert = "cert.pem"

[[room]]
name = "#rust"
channels = ["libera/#rust", "nowhere/#rust", "libera/#rust", "libera"]

[[room]]
name = "go"
channels = ["libera/#rust"]
federation = "everybody"

[[room]]
name = "go"
"##,
    );
    dir.write(
        "bridges.d/libera.toml",
        "protocol = \"plain\"\nburst = 99\n",
    );
    dir.write("bridges.d/nothing.toml", "");
    dir.write("bridges.d/strange.toml", "protocol = \"smoke signals\"\n");
    dir.write(
        "bridges.d/half.toml",
        "protocol = \"plain\"\nserver = \"secret\n",
    );
    dir.write("bridges.d/Big.toml", "protocol = \"plain\"\n");
    dir.write("bridges.d/.hidden.toml", "not TOML");
    dir.write("bridges.d/notes.txt", "not TOML");
    assert_same(
        &dir.problems(&[]),
        &[
            "DIR/bridges.d/Big.toml: -: is named after no network; rename it: a network name is 1 to 32 characters of a-z, 0-9 and \"-\", not \"Big\"",
            "DIR/bridges.d/half.toml: line 2, column 17: is not TOML (invalid basic string, expected `\"`); correct it",
            "DIR/comity.toml: http.admin: found 0.0.0.0:8420, which others can reach; write a loopback address, e.g. \"127.0.0.1:8420\"",
            "DIR/comity.toml: http.public: found \"somewhere\"; write an IP address and a port, \"127.0.0.1:8420\" or \"[::1]:8420\"",
            "DIR/comity.toml: http.public_url: found \"https://gw1.example/\": it has no slash at its end; write e.g. \"https://gw1.example\"",
            "DIR/comity.toml: http.tls_cert: DIR/cert.pem cannot be read: No such file or directory (os error 2); name a file in PEM",
            "DIR/comity.toml: http.tls_key: is missing; tls_cert needs its key",
            "DIR/comity.toml: gateway.domain: is missing; it must be given",
            "DIR/comity.toml: gateway.data_dri: is not a known key; did you mean \"data_dir\"?",
            "DIR/comity.toml: room[1].name: found \"#rust\"; write a name without \"#\", \"@\" and white space",
            "DIR/comity.toml: room[1].channels: \"nowhere/#rust\" is on a network that does not exist; correct it, or write bridges.d/nowhere.toml",
            "DIR/comity.toml: room[1].channels: \"libera/#rust\" is here twice; write it once",
            "DIR/comity.toml: room[1].channels: a channel is written network/native-name, not \"libera\"; write \"network/native name\"",
            "DIR/comity.toml: room[2].federation: found \"everybody\"; write one of \"off\", \"invite\", \"open\"",
            "DIR/comity.toml: room[2].channels: \"libera/#rust\" is in room[1] already; a channel shows one room; make the two rooms one, or remove it from one of them",
            "DIR/comity.toml: room[3].name: \"go\" is the name of room[2] already; give each room a name of its own",
            "DIR/comity.toml: room[3].channels: names no channel, so the room would be shown nowhere; write [\"network/native name\", ...]",
            "DIR/comity.toml: colour: is not a known key; remove it",
            "DIR/bridges.d/libera.toml: server: is missing; it must be given",
            "DIR/bridges.d/libera.toml: burst: found 99; write a whole number from 1 to 10",
            "DIR/bridges.d/nothing.toml: protocol: is missing; write one of \"plain\", \"hosting\"",
            "DIR/bridges.d/strange.toml: protocol: found \"smoke signals\"; write one of \"plain\", \"hosting\"",
        ],
    );
}

#[test]
fn a_file_that_is_not_there_is_said_and_the_networks_are_checked_all_the_same() {
    let dir = Dir::new("");
    dir.write("bridges.d/libera.toml", "protocol = \"plain\"\n");
    std::fs::remove_file(dir.path("comity.toml")).expect("remove");
    assert_same(
        &dir.problems(&[]),
        &[
            "DIR/comity.toml: -: cannot be read (No such file or directory (os error 2)); name a readable file of UTF-8 text",
            "DIR/bridges.d/libera.toml: server: is missing; it must be given",
        ],
    );
}

#[test]
fn a_syntax_error_never_quotes_the_line() {
    let dir = Dir::new("[gateway]\npassword = \"hunter2\n");
    let problems = dir.problems(&[]);
    assert!(!problems.concat().contains("hunter2"), "{problems:?}");
    assert!(problems[0].contains("line 2"), "{problems:?}");
}

#[test]
fn networks_are_not_written_into_the_main_file() {
    let dir =
        Dir::new("[gateway]\ndomain = \"gw1.example\"\n[bridges.libera]\nprotocol = \"plain\"\n");
    assert_same(
        &dir.problems(&[]),
        &[
            "DIR/comity.toml: bridges: is not a table of this file; give each network a file of its own, bridges.d/NAME.toml",
        ],
    );
}

#[test]
fn a_key_that_looks_like_a_path_is_only_unknown() {
    let dir = Dir::new("\"room[4000000000].name\" = \"x\"\n[gateway]\ndomain = \"gw1.example\"\n");
    assert_same(
        &dir.problems(&[("COMITY_ROOM[4000000000]__NAME", "x")]),
        &["DIR/comity.toml: room[4000000000].name: is not a known key; remove it"],
    );
}

#[test]
fn a_protocol_that_was_left_out_of_the_build_is_named_with_its_feature() {
    let dir = Dir::new("[gateway]\ndomain = \"gw1.example\"\n");
    dir.write("bridges.d/a.toml", "protocol = \"matrix\"\n");
    assert_same(
        &dir.problems(&[]),
        &[
            "DIR/bridges.d/a.toml: protocol: this build was made without \"matrix\"; build it with the cargo feature \"matrix\", or write one of \"plain\", \"hosting\"",
        ],
    );
}

#[test]
fn rooms_of_other_gateways_are_shown_and_not_offered() {
    let dir = three_networks(
        r##"
[gateway]
domain = "gw1.example"

[http]
public = "127.0.0.1:8421"

[[room]]
name = "a"
channels = ["peers/#go@gw2.example"]
federation = "open"

[[room]]
name = "b"
channels = ["peers/#b@gw1.example", "peers/#a@gw1.example", "peers/go", "peers/#go@GW2.example"]
"##,
    );
    assert_same(
        &dir.problems(&[]),
        &[
            "DIR/comity.toml: room[1].federation: is on, but the room is peers/#go@gw2.example, which its own gateway offers; leave it out",
            "DIR/comity.toml: room[2].channels: \"peers/#b@gw1.example\" is this room itself; remove it, and write federation = \"open\" for peers to join",
            "DIR/comity.toml: room[2].channels: \"peers/#a@gw1.example\" is a room of this gateway; name its channels in that room; a room cannot show another one",
            "DIR/comity.toml: room[2].channels: \"peers/go\" is no room of another gateway; write \"network/#name@domain\"",
            "DIR/comity.toml: room[2].channels: \"peers/#go@GW2.example\" names no gateway: it is written in lower case; write \"network/#name@domain\"",
        ],
    );
}

#[test]
fn a_channel_that_its_network_cannot_have_is_refused_and_two_spellings_are_one() {
    let dir = three_networks(
        r##"
[gateway]
domain = "gw1.example"

[http]
public = "127.0.0.1:8421"

[[room]]
name = "a"
channels = ["libera/rust", "libera/#rust", "libera/#Rust", "oftc/#Rust"]

[[room]]
name = "b"
channels = ["libera/#RUST", "peers/#caf\u00e9@gw2.example"]

[[room]]
name = "caf\u00e9"
federation = "open"
"##,
    );
    assert_same(
        &dir.problems(&[]),
        &[
            "DIR/comity.toml: room[1].channels: \"libera/rust\" can be no channel of that network; write \"network/#name\"",
            "DIR/comity.toml: room[1].channels: \"libera/#Rust\" is here twice, as \"libera/#rust\"; write it once",
            "DIR/comity.toml: room[2].channels: \"libera/#RUST\" is in room[1] already, as \"libera/#rust\"; a channel shows one room; make the two rooms one, or remove it from one of them",
            "DIR/comity.toml: room[2].channels: \"peers/#caf\u{e9}@gw2.example\" can be no channel of that network; write it in ASCII",
            "DIR/comity.toml: room[3].name: makes the room peers/#caf\u{e9}@gw1.example, which cannot be offered to peers; write it in ASCII",
        ],
    );
}

#[test]
fn a_room_is_offered_only_over_a_network_that_can() {
    let dir = Dir::new(
        "[gateway]\ndomain = \"gw1.example\"\n[[room]]\nname = \"a\"\nfederation = \"open\"\n",
    );
    assert_same(
        &dir.problems(&[]),
        &[
            "DIR/comity.toml: room[1].federation: is on, but there is no network over which peers could join; write such a network's file in bridges.d, e.g. with protocol = \"federation\", or leave this out",
        ],
    );
}

#[test]
fn two_listeners_on_one_address_are_a_problem() {
    let dir = three_networks(
        "[gateway]\ndomain = \"gw1.example\"\n[http]\nadmin = \"127.0.0.1:8421\"\npublic = \"0.0.0.0:8421\"\n",
    );
    let own =
        |address: &str| format!("protocol = \"plain\"\nserver = \"a\"\nown = \"{address}\"\n");
    dir.write("bridges.d/a.toml", &own("127.0.0.1:8422"));
    dir.write("bridges.d/b.toml", &own("127.0.0.1:8422"));
    dir.write("bridges.d/c.toml", &own("127.0.0.1:8421"));
    assert_same(
        &dir.problems(&[]),
        &[
            "DIR/comity.toml: http.public: 0.0.0.0:8421 is the admin listener's address; give it another port",
            "DIR/bridges.d/b.toml: own: 127.0.0.1:8422 is the address of network \"a\" already; give each listener an address of its own",
            "DIR/bridges.d/c.toml: own: 127.0.0.1:8421 is the address of http.admin already; give each listener an address of its own",
        ],
    );
}

#[test]
fn public_paths_need_a_public_listener_and_one_owner() {
    let dir = three_networks("[gateway]\ndomain = \"gw1.example\"\n");
    dir.write("bridges.d/rivals.toml", "protocol = \"hosting\"\n");
    assert_same(
        &dir.problems(&[]),
        &[
            "DIR/comity.toml: http.public: is missing, but network \"peers\" answers /chat there; give it an address, e.g. \"0.0.0.0:8421\"",
            "DIR/comity.toml: http.public: is missing, but network \"rivals\" answers /chat there; give it an address, e.g. \"0.0.0.0:8421\"",
            "DIR/bridges.d/rivals.toml: protocol: answers /chat on the public listener, as network \"peers\" does; keep one of the two networks",
        ],
    );
}

#[test]
fn a_certificate_that_cannot_be_used_is_found_by_the_check() {
    let dir = three_networks(&MAIN.replace(
        "public_url",
        "tls_cert = \"cert.pem\"\ntls_key = \"key.pem\"\npublic_url",
    ));
    assert_same(
        &dir.problems(&[]),
        &["cert", "key"].map(|file| {
            format!("DIR/comity.toml: http.tls_{file}: DIR/{file}.pem cannot be read: No such file or directory (os error 2); name a file in PEM")
        }).each_ref().map(String::as_str),
    );

    let own = rcgen::generate_simple_self_signed(["gw1.example".to_owned()]).expect("a pair");
    let other = rcgen::generate_simple_self_signed(["gw1.example".to_owned()]).expect("a pair");
    dir.write("cert.pem", &own.cert.pem());
    dir.write("key.pem", &other.signing_key.serialize_pem());
    assert_same(
        &dir.problems(&[]),
        &[
            "DIR/comity.toml: http.tls_key: DIR/key.pem is not the key of the certificate in DIR/cert.pem; give the key that belongs to the certificate",
        ],
    );

    dir.write("key.pem", &own.signing_key.serialize_pem());
    dir.load(&[]).expect("no problems");
}

#[test]
fn checking_touches_nothing() {
    let dir = three_networks(MAIN);
    let before = dir.listing();
    dir.load(&[]).expect("no problems");
    assert_eq!(dir.listing(), before);
}

/// A configuration's directory.
struct Dir(TempDir);

impl Dir {
    fn new(main: &str) -> Self {
        let dir = Dir(tempfile::tempdir().expect("a directory"));
        std::fs::create_dir(dir.path("bridges.d")).expect("a directory");
        dir.write("comity.toml", main);
        dir
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("write");
    }

    fn listing(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.0.path()).expect("list");
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("entry").path()).collect();
        paths.sort();
        paths
    }

    fn load(&self, environment: &[(&str, &str)]) -> Result<Config, Vec<ConfigProblem>> {
        let environment = environment
            .iter()
            .map(|(name, value)| (OsString::from(name), OsString::from(value)))
            .collect();
        load_from(
            &self.path("comity.toml"),
            environment,
            &[&Fake::Plain, &Fake::Hosting],
        )
    }

    /// As they are printed, with the directory as `DIR`.
    fn problems(&self, environment: &[(&str, &str)]) -> Vec<String> {
        let own = self.0.path().display().to_string();
        self.load(environment)
            .expect_err("problems")
            .iter()
            .map(|problem| problem.to_string().replace(&own, "DIR"))
            .collect()
    }
}

fn three_networks(main: &str) -> Dir {
    let dir = Dir::new(main);
    dir.write(
        "bridges.d/libera.toml",
        "protocol = \"plain\"\nserver = \"a\"\n",
    );
    dir.write(
        "bridges.d/oftc.toml",
        "protocol = \"plain\"\nserver = \"b\"\n",
    );
    dir.write("bridges.d/peers.toml", "protocol = \"hosting\"\n");
    dir
}

fn assert_same(found: &[String], expected: &[&str]) {
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
}

/// A protocol with a server, and one that offers rooms to peers.
enum Fake {
    Plain,
    Hosting,
}

struct FakeBridge(Vec<Endpoint>);

impl BridgeKind for Fake {
    fn protocol(&self) -> &'static str {
        match self {
            Fake::Plain => "plain",
            Fake::Hosting => "hosting",
        }
    }

    fn hosts_rooms(&self) -> bool {
        matches!(self, Fake::Hosting)
    }

    fn channel(&self, native: &str) -> Result<String, String> {
        match self {
            Fake::Plain if native.starts_with('#') => Ok(native.to_lowercase()),
            Fake::Plain => Err("write \"network/#name\"".to_owned()),
            Fake::Hosting if native.is_ascii() => Ok(native.to_owned()),
            Fake::Hosting => Err("write it in ASCII".to_owned()),
        }
    }

    fn configure(
        &self,
        _gateway: &GatewayInfo,
        _network: &NetworkName,
        mut table: ConfigTable,
    ) -> Result<Box<dyn Bridge>, Vec<ConfigProblem>> {
        let mut endpoints = Vec::new();
        let listener = match self {
            Fake::Plain => {
                table.required_string("server");
                table.integer("burst", 1..=10);
                table
                    .string("own")
                    .map(|own| Listener::Own(own.parse().expect("an address")))
            }
            Fake::Hosting => {
                table.strings("allow");
                Some(Listener::Public)
            }
        };
        endpoints.extend(listener.map(|listener| Endpoint {
            listener,
            prefix: "/chat".to_owned(),
            max_body: 1024,
            body_needs: &[],
        }));
        table.finish()?;
        Ok(Box::new(FakeBridge(endpoints)))
    }
}

#[async_trait]
impl Bridge for FakeBridge {
    fn endpoints(&self) -> Vec<Endpoint> {
        self.0.clone()
    }

    async fn run(self: Box<Self>, _link: Link) -> Result<(), BridgeError> {
        Ok(())
    }
}
