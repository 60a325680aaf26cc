//! The command line. One file per command; what a command needs of a running daemon it asks through the admin API.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong configuration or usage.

mod check;
mod daemon;
mod dead;
mod queue;
mod rooms;
mod table;
mod trace;
mod verb;
mod version;

use std::ffi::OsString;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use comity_bridge::ConfigProblem;

use crate::config::{self, DEFAULT_FILE};
use crate::registry;

pub use dead::{Dead, Which};

/// Failed while it ran.
pub const FAILED: u8 = 1;

/// Wrong configuration or usage.
pub const WRONG: u8 = 2;

/// Commands of the design that are yet to come.
const NOT_BUILT: &[&str] = &["init", "status", "tail", "peer", "import", "completions"];

/// What was asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Invocation {
    /// The main configuration file.
    pub config: PathBuf,
    /// The command.
    pub command: Task,
}

/// A command.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Task {
    /// Run the daemon.
    Run,
    /// Check the configuration.
    Check,
    /// Show the rooms of the running daemon.
    Rooms,
    /// End the loop breaker's pause of a channel.
    Resume {
        /// The channel.
        channel: String,
    },
    /// Show what waits.
    Queue {
        /// Only for this network, by channel.
        network: Option<String>,
        /// As JSON.
        json: bool,
    },
    /// Show what was given up, and decide about it.
    Dead {
        /// What to do.
        dead: Dead,
        /// As JSON.
        json: bool,
    },
    /// Show what became of one event.
    Trace {
        /// Its id.
        event: String,
        /// As JSON.
        json: bool,
    },
    /// Print the version.
    Version,
    /// A verb of some protocol.
    Verb {
        /// Its name.
        verb: String,
        /// The network that it is about.
        network: String,
    },
}

/// Reads the arguments. The error prints itself, and knows its exit code.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Invocation, clap::Error> {
    let mut command = command();
    let matches = command
        .try_get_matches_from_mut(arguments)
        .map_err(|error| say_what_is_not_built(&mut command, error))?;
    let config = matches
        .get_one::<PathBuf>("config")
        .cloned()
        .unwrap_or_else(|| PathBuf::from(DEFAULT_FILE));
    let (name, inner) = matches
        .subcommand()
        .expect("clap asks for a subcommand when there is none");
    Ok(Invocation {
        config,
        command: task(name, inner),
    })
}

/// Carries out a command other than `run`.
pub fn execute(invocation: &Invocation) -> ExitCode {
    let config = invocation.config.as_path();
    match &invocation.command {
        Task::Run => unreachable!("the daemon needs more than a command's surroundings"),
        Task::Check => check::check(config),
        Task::Rooms => rooms::rooms(config),
        Task::Resume { channel } => rooms::resume(config, channel),
        Task::Queue { network, json } => queue::queue(config, network.as_deref(), *json),
        Task::Dead { dead, json } => dead::dead(config, dead, *json),
        Task::Trace { event, json } => trace::trace(config, event, *json),
        Task::Version => version::version(),
        Task::Verb { verb, network } => verb::verb(config, verb, network),
    }
}

/// Prints what is wrong with a configuration, a line each.
pub fn print_problems(problems: &[ConfigProblem]) -> ExitCode {
    let mut text = String::new();
    for problem in problems {
        text.push_str(&printable(&problem.to_string()));
        text.push('\n');
    }
    complain(&text);
    ExitCode::from(WRONG)
}

/// Prints the answer to a command.
fn answer(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("cannot write: {error}\n"));
            ExitCode::from(FAILED)
        }
    }
}

/// Prints what the running daemon has to say, or why it says nothing.
fn with_daemon(
    path: &Path,
    ask: impl FnOnce(SocketAddr) -> Result<String, daemon::AskError>,
) -> ExitCode {
    let address = match config::admin_address(path) {
        Ok(address) => address,
        Err(problems) => return print_problems(&problems),
    };
    match ask(address) {
        Ok(text) => answer(&text),
        Err(error) => {
            complain(&format!("{}\n", printable(&error.to_string())));
            ExitCode::from(FAILED)
        }
    }
}

/// Prints to the standard error; there is nowhere to say that it cannot be written to.
fn complain(text: &str) {
    drop(std::io::stderr().write_all(text.as_bytes()));
}

/// Text that does nothing to a terminal. Servers and peers have a say in some of it.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

fn command() -> Command {
    let config = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .global(true)
        .help(format!("The configuration [default: {DEFAULT_FILE}]"));
    let network = Arg::new("network").value_name("NETWORK").required(true);
    let mut command = Command::new("comity")
        .about("Joins IRC channels, XMPP rooms, Matrix rooms and the rooms of other gateways")
        .version(env!("CARGO_PKG_VERSION"))
        .arg(config)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(Command::new("run").about("Run the daemon"))
        .subcommand(Command::new("check").about("Check the configuration; touches nothing"))
        .subcommand(
            Command::new("rooms")
                .about("Show the rooms of the running daemon")
                .subcommand(
                    Command::new("resume")
                        .about("Show messages again in a channel that the loop breaker has paused")
                        .arg(Arg::new("channel").value_name("CHANNEL").required(true)),
                ),
        )
        .subcommand(
            Command::new("queue")
                .about("Show what waits, by age: for each network, or for each channel of one")
                .arg(optional("network", "NETWORK"))
                .arg(json()),
        )
        .subcommand(dead_command())
        .subcommand(
            Command::new("trace")
                .about("Show what became of one event, step by step")
                .arg(Arg::new("event").value_name("EVENT").required(true))
                .arg(json()),
        )
        .subcommand(Command::new("version").about("Print the version and its protocols"));
    for verb in registry::kinds().iter().flat_map(|kind| kind.verbs()) {
        if command.find_subcommand(verb.name).is_none() {
            let about = Command::new(verb.name).about(verb.about);
            command = command.subcommand(about.arg(network.clone()));
        }
    }
    command
}

fn dead_command() -> Command {
    let event = || Arg::new("event").value_name("EVENT");
    let network = || named("network", "NETWORK", "Only what was for this network");
    let in_channel = || named("channel", "CHANNEL", "Only what was for this channel");
    let all = || {
        Arg::new("all")
            .long("all")
            .action(ArgAction::SetTrue)
            .help("All dead letters, or all of --network or --channel")
    };
    let several = |name: &'static str, about: &'static str| {
        Command::new(name)
            .about(about)
            .arg(event().required_unless_present("all"))
            .arg(optional("in", "CHANNEL").conflicts_with("channel"))
            .arg(all().conflicts_with("event"))
            .arg(network().requires("all"))
            .arg(in_channel().requires("all"))
    };
    Command::new("dead")
        .about("Show deliveries that were given up, try them again or drop them")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            Command::new("list")
                .about("Show what was given up, and why")
                .arg(network())
                .arg(in_channel())
                .arg(
                    named("limit", "NUMBER", "How many [default: 100]")
                        .value_parser(value_parser!(u64).range(1..=1000)),
                )
                .arg(json()),
        )
        .subcommand(
            Command::new("show")
                .about("Show one with all that is known of it")
                .arg(event().required(true))
                .arg(optional("in", "CHANNEL"))
                .arg(json()),
        )
        .subcommand(several("retry", "Try to show it again"))
        .subcommand(several(
            "drop",
            "Take it out of the list; it is never shown",
        ))
}

fn optional(name: &'static str, value: &'static str) -> Arg {
    Arg::new(name).value_name(value)
}

fn named(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).help(help)
}

fn json() -> Arg {
    Arg::new("json")
        .long("json")
        .action(ArgAction::SetTrue)
        .help("As JSON, for programs")
}

fn dead(matches: &ArgMatches) -> Option<Task> {
    let (name, inner) = matches.subcommand()?;
    let maybe = |name: &str| -> Option<String> {
        inner.try_get_one::<String>(name).ok().flatten().cloned()
    };
    let flag = |name: &str| matches!(inner.try_get_one::<bool>(name), Ok(Some(true)));
    let which = Which {
        event: maybe("event"),
        channel: maybe("in").or_else(|| maybe("channel")),
        network: maybe("network"),
        all: flag("all"),
    };
    let dead = match name {
        "list" => {
            let limit = inner.get_one::<u64>("limit").copied();
            Dead::List(which, limit.unwrap_or(100))
        }
        "show" => Dead::Show(which),
        "retry" => Dead::Retry(which),
        _ => Dead::Drop(which),
    };
    Some(Task::Dead {
        dead,
        json: flag("json"),
    })
}

fn task(name: &str, matches: &ArgMatches) -> Task {
    match name {
        "run" => Task::Run,
        "check" => Task::Check,
        "rooms" => match matches.subcommand() {
            Some((_, inner)) => Task::Resume {
                channel: text(inner, "channel"),
            },
            None => Task::Rooms,
        },
        "queue" => Task::Queue {
            network: matches.get_one::<String>("network").cloned(),
            json: matches.get_flag("json"),
        },
        "dead" => dead(matches).expect("clap asks for a subcommand when there is none"),
        "trace" => Task::Trace {
            event: text(matches, "event"),
            json: matches.get_flag("json"),
        },
        "version" => Task::Version,
        verb => Task::Verb {
            verb: verb.to_owned(),
            network: text(matches, "network"),
        },
    }
}

fn text(matches: &ArgMatches, name: &str) -> String {
    matches.get_one::<String>(name).cloned().unwrap_or_default()
}

fn say_what_is_not_built(command: &mut Command, error: clap::Error) -> clap::Error {
    let asked = error
        .get(clap::error::ContextKind::InvalidSubcommand)
        .map(ToString::to_string);
    match asked {
        Some(asked) if NOT_BUILT.contains(&asked.as_str()) => command.error(
            ErrorKind::InvalidSubcommand,
            format!("\"comity {asked}\" is not built yet"),
        ),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Invocation, clap::Error> {
        let arguments = std::iter::once("comity").chain(arguments.iter().copied());
        super::parse(arguments.map(OsString::from))
    }

    #[test]
    fn the_configuration_goes_before_or_after_the_command() {
        let expected = Invocation {
            config: PathBuf::from("a.toml"),
            command: Task::Check,
        };
        for arguments in [
            ["--config", "a.toml", "check"],
            ["check", "--config", "a.toml"],
        ] {
            assert_eq!(parse(&arguments).expect("arguments"), expected);
        }
        let default = parse(&["run"]).expect("arguments");
        assert_eq!(default.config, PathBuf::from("/etc/comity/comity.toml"));
    }

    #[test]
    fn wrong_usage_ends_with_2_and_help_with_0() {
        for wrong in [&[][..], &["walk"], &["check", "x"], &["check", "--config"]] {
            assert_eq!(parse(wrong).expect_err("wrong").exit_code(), 2, "{wrong:?}");
        }
        assert_eq!(parse(&["--help"]).expect_err("help").exit_code(), 0);
    }

    #[test]
    fn what_is_not_built_says_so() {
        for name in NOT_BUILT {
            let error = parse(&[name]).expect_err("not built");
            assert_eq!(error.exit_code(), 2);
            let text = error.to_string();
            assert!(text.contains("is not built yet"), "{text}");
        }
    }

    #[test]
    #[cfg(feature = "matrix")]
    fn a_verb_of_a_protocol_is_a_command() {
        assert_eq!(
            parse(&["registration", "home"]).expect("arguments").command,
            Task::Verb {
                verb: "registration".to_owned(),
                network: "home".to_owned(),
            }
        );
        assert!(parse(&["registration"]).is_err());
    }

    #[test]
    fn dead_letters_are_named_by_event_or_all_at_once() {
        let dead = |arguments: &[&str]| match parse(arguments).map(|found| found.command) {
            Ok(Task::Dead { dead, .. }) => Some(dead),
            _ => None,
        };
        let event = Some("01JD9V7R0M8Q4Z3W2T6YB5K1NC".to_owned());
        let one = Which {
            event: event.clone(),
            channel: Some("libera/#rust".to_owned()),
            ..Which::default()
        };
        let arguments = [
            "dead",
            "retry",
            "01JD9V7R0M8Q4Z3W2T6YB5K1NC",
            "libera/#rust",
        ];
        assert_eq!(dead(&arguments), Some(Dead::Retry(one)));
        let all = Which {
            network: Some("libera".to_owned()),
            all: true,
            ..Which::default()
        };
        let arguments = ["dead", "drop", "--all", "--network", "libera"];
        assert_eq!(dead(&arguments), Some(Dead::Drop(all)));
        assert_eq!(
            dead(&["dead", "list"]),
            Some(Dead::List(Which::default(), 100))
        );
        for wrong in [
            &["dead", "drop"][..],
            &["dead", "retry", "--network", "libera"],
            &["dead", "drop", "x", "--all"],
            &["dead"],
        ] {
            assert_eq!(dead(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn what_a_server_says_cannot_move_the_cursor() {
        assert_eq!(
            printable("a\u{1b}[2Jb\r\n"),
            "a\u{fffd}[2Jb\u{fffd}\u{fffd}"
        );
    }
}
