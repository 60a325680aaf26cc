//! The demo: two gateways between four networks, and what four people saw of each other.
//!
//! Runs against the lab's real servers and stays up, so that the reader can join with a client of
//! their own. Everything it prints about messages comes from independent clients.

use std::{io::Write as _, process::ExitCode, time::Duration};

use anyhow::{Context, Result, bail};
use comity_people::{
    Lab, Person, World, WorldPlan, gateway::binary_beside, transcript::Heard, world::Links,
};
use tokio::signal::unix::{SignalKind, signal};

const ROOM: &str = "comity";
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::main]
async fn main() -> ExitCode {
    let once = match std::env::args().nth(1).as_deref() {
        None => false,
        Some("--once") => true,
        Some(other) => {
            eprintln!(
                "demo: {other:?} is not an option; there is --once: end after the transcripts"
            );
            return ExitCode::from(2);
        }
    };
    match demo(once).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn demo(once: bool) -> Result<()> {
    say("asking the lab for its servers");
    let lab = Lab::up().await?;
    let Some(_lock) = lab.try_lock("demo")? else {
        bail!("another demo is running in this lab");
    };
    let links = Links::direct(&lab);
    let plan = WorldPlan {
        binary: binary_beside(&std::env::current_exe()?),
        room: ROOM.to_owned(),
        second_domain: "gw2.test".to_owned(),
        nicks: ["comity".to_owned(), "comity".to_owned()],
        people: ["alice".to_owned(), "bob".to_owned(), "dave".to_owned()],
        matrix_user: "carol".to_owned(),
        links,
    };
    say("starting two gateways and bringing four people into their rooms");
    let mut world = World::start(lab, plan).await?;
    let shown = talk(&world).await;
    if shown.is_ok() && !once {
        print!("{}", how_to_join(&world));
        follow(&world).await?;
    }
    say("stopping the gateways");
    for gateway in [&mut world.first, &mut world.second] {
        let status = gateway.stop("TERM").await?;
        if !status.success() {
            bail!(
                "{} ended with {status}:\n{}",
                gateway.domain(),
                gateway.log()
            );
        }
    }
    if !once {
        let lab = std::env::var("COMITY_LAB_IP").map(|ip| format!("COMITY_LAB_IP={ip} "));
        let lab = lab.unwrap_or_default();
        say(&format!(
            "the servers still run; stop them with: {lab}tests/lab/lab down"
        ));
    }
    shown
}

/// One line from each, and what everyone saw of it.
async fn talk(world: &World) -> Result<()> {
    let lines = [
        "hello from an IRC channel",
        "hello from an XMPP room",
        "hello from Matrix",
        "hello from the other gateway",
    ];
    let people = world.people();
    let marks = people.map(|person| person.transcript().len());
    for (speaker, line) in people.into_iter().zip(lines) {
        speaker
            .say(line)
            .await
            .with_context(|| format!("{} on {}", speaker.name(), speaker.network()))?;
        for listener in people
            .into_iter()
            .filter(|other| other.network() != speaker.network())
        {
            let heard = listener.hears(line, PATIENCE).await?;
            if !heard.names(speaker.name(), line) {
                bail!("{} does not learn who said it: {heard}", listener.name());
            }
        }
    }
    let columns: Vec<Vec<String>> = people
        .into_iter()
        .zip(marks)
        .map(|(person, mark)| {
            let mut column = vec![
                format!("{}, as {} saw it", person.network(), person.name()),
                String::new(),
            ];
            column.extend(person.heard().iter().skip(mark).map(Heard::to_string));
            column
        })
        .collect();
    println!("\n{}", side_by_side(&columns, terminal_width()));
    for (person, mark) in people.into_iter().zip(marks) {
        let seen = person.heard().len() - mark;
        if seen != lines.len() {
            bail!(
                "{} saw {seen} lines instead of {}",
                person.name(),
                lines.len()
            );
        }
    }
    Ok(())
}

fn how_to_join(world: &World) -> String {
    let lab = &world.lab;
    let ip = lab.ip();
    format!(
        "\nIt stays up. Join with a client of your own (everything listens on {ip} only):\n\
         \n  IRC     {ip} port {}, no TLS, any nick, no password:          /join #{ROOM}\
         \n  IRC     {ip} port {}, the second gateway's, the same:         /join #{ROOM}\
         \n  XMPP    {xmpp_user}@{}, password {}, server {ip} port {}, TLS not needed:\
         \n          room {ROOM}@{}\
         \n  Matrix  homeserver {}, user {matrix_user}, password {}:\
         \n          room #{ROOM}:{}\n\
         \n  The gateways' configurations, and their health and metrics pages:\
         \n          {}  {}/metrics\
         \n          {}  {}/metrics\n\
         \nWhat is said appears here as the four see it. Ctrl-C ends the gateways.\n\n",
        lab.value("NGIRCD_PORT"),
        lab.value("INSPIRCD_PORT"),
        lab.value("XMPP_DOMAIN"),
        lab.value("XMPP_PASSWORD"),
        lab.value("XMPP_C2S_PORT"),
        lab.value("XMPP_MUC"),
        lab.value("MATRIX_URL"),
        lab.value("MATRIX_PASSWORD"),
        lab.value("MATRIX_SERVER_NAME"),
        world.first.config().display(),
        world.first.admin_url(),
        world.second.config().display(),
        world.second.admin_url(),
        xmpp_user = "erin",
        matrix_user = "erin",
    )
}

/// Prints what arrives until Ctrl-C or SIGTERM.
async fn follow(world: &World) -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let [a, b, c, d] = world.people().map(tail);
    tokio::select! {
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
        error = a => error,
        error = b => error,
        error = c => error,
        error = d => error,
    }
}

/// Prints what one person hears; returns only when their connection has ended.
async fn tail(person: &dyn Person) -> Result<()> {
    let mut seen = person.transcript().len();
    let day = Duration::from_secs(24 * 3600);
    loop {
        let new = person
            .transcript()
            .wait_from(seen, "line", day, |lines| {
                (!lines.is_empty()).then(|| lines.to_vec())
            })
            .await;
        match new {
            Ok(lines) => {
                for line in &lines {
                    println!("{:9} {line}", person.network());
                }
                std::io::stdout().flush()?;
                seen += lines.len();
            }
            Err(error) if person.transcript().ended().is_some() => return Err(error),
            Err(_) => {}
        }
    }
}

/// Columns of text next to each other, wrapped to fit.
fn side_by_side(columns: &[Vec<String>], width: usize) -> String {
    let each = (width / columns.len()).saturating_sub(3).max(16);
    let wrapped: Vec<Vec<String>> = columns
        .iter()
        .map(|column| column.iter().flat_map(|line| wrap(line, each)).collect())
        .collect();
    let height = wrapped.iter().map(Vec::len).max().unwrap_or_default();
    let mut text = String::new();
    for row in 0..height {
        let cells: Vec<String> = wrapped
            .iter()
            .map(|column| {
                let cell = column.get(row).map_or("", String::as_str);
                format!("{cell:each$}")
            })
            .collect();
        text.push_str(cells.join(" | ").trim_end());
        text.push('\n');
    }
    text
}

fn wrap(line: &str, width: usize) -> Vec<String> {
    let mut rows = vec![String::new()];
    for word in line.split(' ') {
        let row = rows.last_mut().expect("there is always a row");
        if !row.is_empty() && row.chars().count() + 1 + word.chars().count() > width {
            rows.push(format!("  {word}"));
        } else {
            if !row.is_empty() {
                row.push(' ');
            }
            row.push_str(word);
        }
    }
    rows
}

fn terminal_width() -> usize {
    let columns = std::env::var("COLUMNS")
        .ok()
        .and_then(|columns| columns.parse().ok());
    columns.filter(|columns| *columns >= 80).unwrap_or(136)
}

fn say(what: &str) {
    eprintln!("demo: {what}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_side_by_side_and_long_lines_are_wrapped() {
        let columns = [
            vec![
                "one".to_owned(),
                "a line that is too long for it".to_owned(),
            ],
            vec!["two".to_owned()],
        ];
        assert_eq!(
            side_by_side(&columns, 40),
            "one               | two\na line that is    |\n  too long for it |\n"
        );
    }
}
