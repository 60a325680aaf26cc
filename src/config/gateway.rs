//! `[gateway]`, and what a gateway's DNS name is.

use comity_bridge::{ConfigTable, GatewayInfo};

pub(super) const DEFAULT_DATA_DIR: &str = "/var/lib/comity";

/// Stands for a domain or a URL that could not be read, so that bridges do not report what follows from it.
const NOT_READABLE: &str = "gateway.invalid";
pub(super) const NOT_READABLE_URL: &str = "https://gateway.invalid";

/// Reads the table.
pub(super) fn read(root: &mut ConfigTable, public_url: Option<String>) -> GatewayInfo {
    let mut table = root.table("gateway");
    let mut domain = table.required_string("domain");
    if domain.is_empty() {
        domain = NOT_READABLE.to_owned();
    } else if let Err(fault) = check_domain(&domain) {
        table.problem(
            "domain",
            format!("found {domain:?}: {fault}"),
            "write a DNS name, e.g. \"gw1.example\"",
        );
        domain = NOT_READABLE.to_owned();
    }
    let data_dir = table.path("data_dir").unwrap_or_default();
    root.absorb(table);
    GatewayInfo {
        domain,
        public_url,
        data_dir,
    }
}

/// Says why `domain` cannot be a gateway's name. One spelling per name: names are compared byte by byte.
pub(super) fn check_domain(domain: &str) -> Result<(), &'static str> {
    if !domain.is_ascii() {
        return Err("a name with other letters is written as its A-label, xn--...");
    }
    if domain.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err("it is written in lower case");
    }
    if domain.ends_with('.') {
        return Err("it has no dot at its end");
    }
    if domain.starts_with('[') || domain.parse::<std::net::IpAddr>().is_ok() {
        return Err("it is a name, not an IP address");
    }
    if domain.contains(':') {
        return Err("it has no port");
    }
    if domain.len() > 253 {
        return Err("it has at most 253 characters");
    }
    let labels: Vec<&str> = domain.split('.').collect();
    if labels.len() < 2 {
        return Err("it has at least two labels, as in gw1.example");
    }
    let fits = |label: &&str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    if !labels.iter().all(fits) {
        return Err("each label is 1 to 63 of a-z, 0-9 and \"-\", with no \"-\" at either end");
    }
    // 127.1 and the like: some resolvers take them for addresses.
    if labels
        .last()
        .is_some_and(|label| label.bytes().all(|b| b.is_ascii_digit()))
    {
        return Err("its last label is not a number");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dns_names_are_taken_as_they_are_written_in_dns() {
        for good in [
            "gw1.example",
            "gw1.test",
            "a.b.c.example",
            "xn--bcher-kva.example",
        ] {
            assert_eq!(check_domain(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn f23_names_with_two_spellings_and_addresses_are_refused() {
        let long = format!("{}.example", "a.".repeat(130));
        for bad in [
            "GW1.example",
            "gw1.example.",
            "gw1.example:8421",
            "127.0.0.1",
            "127.1",
            "[::1]",
            "::1",
            "bücher.example",
            "localhost",
            "a..example",
            "-a.example",
            "a_b.example",
            "a b.example",
            long.as_str(),
        ] {
            assert!(check_domain(bad).is_err(), "{bad}");
        }
    }
}
