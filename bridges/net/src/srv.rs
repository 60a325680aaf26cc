//! SRV records in the order in which their targets are to be tried.

use std::time::Instant;

use hickory_resolver::TokioResolver;
use hickory_resolver::net::NetError;
use hickory_resolver::proto::rr::RData;
use rand::Rng;

/// One target of a service.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Target {
    /// Lower ones are tried first.
    pub priority: u16,
    /// Share among targets of equal priority.
    pub weight: u16,
    /// Where it listens.
    pub port: u16,
    /// The host, without a dot at the end.
    pub host: String,
}

/// What DNS says of a service.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Service {
    /// Nothing.
    Unknown,
    /// It is not offered there: the single target `.` (RFC 2782).
    NotOffered,
    /// Targets, in the order to try them, valid until then.
    Targets(Vec<Target>, Instant),
}

/// Looks up `name`, e.g. `_chat._tcp.gw1.example`.
pub async fn lookup(resolver: &TokioResolver, name: &str) -> Result<Service, NetError> {
    // The dot at the end keeps the machine's search list out of it.
    let answer = match resolver
        .srv_lookup(format!("{}.", name.trim_end_matches('.')))
        .await
    {
        Ok(answer) => answer,
        Err(error) if error.is_no_records_found() || error.is_nx_domain() => {
            return Ok(Service::Unknown);
        }
        Err(error) => return Err(error),
    };
    let mut targets = Vec::new();
    for record in answer.answers() {
        if let RData::SRV(srv) = &record.data {
            targets.push(Target {
                priority: srv.priority,
                weight: srv.weight,
                port: srv.port,
                host: srv
                    .target
                    .to_ascii()
                    .trim_end_matches('.')
                    .to_ascii_lowercase(),
            });
        }
    }
    if targets.is_empty() {
        return Ok(Service::Unknown);
    }
    targets.retain(|target| !target.host.is_empty());
    if targets.is_empty() {
        return Ok(Service::NotOffered);
    }
    Ok(Service::Targets(
        order(targets, &mut rand::rng()),
        answer.valid_until(),
    ))
}

/// Orders targets by priority and, within one, by the weighted choice of RFC 2782.
pub fn order(mut targets: Vec<Target>, random: &mut impl Rng) -> Vec<Target> {
    // "Arrange all SRV RRs (that have not been ordered yet) in any order, except that all those
    // with weight 0 are placed at the beginning of the list."
    targets.sort_by_key(|target| (target.priority, target.weight));
    let mut ordered = Vec::with_capacity(targets.len());
    while let Some(first) = targets.first() {
        let priority = first.priority;
        let group = targets
            .iter()
            .take_while(|t| t.priority == priority)
            .count();
        let total: u32 = targets
            .iter()
            .take(group)
            .map(|t| u32::from(t.weight))
            .sum();
        let pick = random.random_range(0..=total);
        let mut sum = 0;
        let chosen = targets
            .iter()
            .take(group)
            .position(|target| {
                sum += u32::from(target.weight);
                sum >= pick
            })
            .unwrap_or(0);
        ordered.push(targets.remove(chosen));
    }
    ordered
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn target(priority: u16, weight: u16, host: &str) -> Target {
        Target {
            priority,
            weight,
            port: 3000,
            host: host.to_owned(),
        }
    }

    #[test]
    fn a_lower_priority_always_comes_first() {
        for seed in 0..100 {
            let ordered = order(
                vec![
                    target(20, 100, "c"),
                    target(10, 0, "a"),
                    target(10, 60, "b"),
                ],
                &mut StdRng::seed_from_u64(seed),
            );
            assert_eq!(ordered.len(), 3);
            assert_eq!(ordered[2].host, "c");
        }
    }

    #[test]
    fn equal_priorities_share_by_weight() {
        let mut firsts = 0;
        for seed in 0..1000 {
            let ordered = order(
                vec![target(10, 60, "a"), target(10, 20, "b")],
                &mut StdRng::seed_from_u64(seed),
            );
            firsts += u32::from(ordered[0].host == "a");
        }
        assert!((680..820).contains(&firsts), "{firsts} of 1000, 750 wanted");
    }
}
