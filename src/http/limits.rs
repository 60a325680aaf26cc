//! How many connections one listener has, and how many of one address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// Counts the connections of one listener.
pub(super) struct Limits {
    all: usize,
    of_one: usize,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    all: usize,
    of_one: HashMap<IpAddr, usize>,
}

/// The right to one connection, until dropped.
pub(super) struct Slot {
    limits: Arc<Limits>,
    whose: Option<IpAddr>,
}

impl Limits {
    pub(super) fn new(all: usize, of_one: usize) -> Arc<Self> {
        Arc::new(Limits {
            all,
            of_one,
            open: Mutex::default(),
        })
    }

    /// Admits a connection of this address, unless there are too many.
    pub(super) fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Slot> {
        let whose = whose(address);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.all >= self.all {
            return None;
        }
        if let Some(whose) = whose {
            let count = open.of_one.entry(whose).or_default();
            if *count >= self.of_one {
                return None;
            }
            *count += 1;
        }
        open.all += 1;
        Some(Slot {
            limits: Arc::clone(self),
            whose,
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut open = self
            .limits
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        open.all -= 1;
        let Some(whose) = self.whose else {
            return;
        };
        if let Some(count) = open.of_one.get_mut(&whose) {
            *count -= 1;
            if *count == 0 {
                open.of_one.remove(&whose);
            }
        }
    }
}

/// Whom a connection is counted for. Nobody for this machine: a reverse proxy brings everybody's.
fn whose(address: IpAddr) -> Option<IpAddr> {
    match address.to_canonical() {
        address if address.is_loopback() => None,
        IpAddr::V4(address) => Some(IpAddr::V4(address)),
        IpAddr::V6(address) => {
            // One customer has at least a /64.
            let [a, b, c, d, ..] = address.segments();
            Some(IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn f25_one_address_cannot_take_all_connections() {
        let limits = Limits::new(3, 2);
        let first = limits.admit(ip("192.0.2.1")).expect("a slot");
        let _second = limits.admit(ip("::ffff:192.0.2.1")).expect("a slot");
        assert!(limits.admit(ip("192.0.2.1")).is_none());
        drop(first);
        let _again = limits.admit(ip("192.0.2.1")).expect("a slot");
        let _other = limits.admit(ip("192.0.2.2")).expect("a slot");
        assert!(limits.admit(ip("192.0.2.3")).is_none(), "all are taken");
    }

    #[test]
    fn a_subnet_of_ipv6_counts_as_one_and_a_proxy_on_this_machine_does_not_count() {
        let limits = Limits::new(10, 1);
        let _first = limits.admit(ip("2001:db8::1")).expect("a slot");
        assert!(limits.admit(ip("2001:db8::2")).is_none());
        assert!(limits.admit(ip("2001:db8:0:1::1")).is_some());
        let _here = limits.admit(ip("127.0.0.1")).expect("a slot");
        let _there = limits.admit(ip("127.0.0.1")).expect("a slot");
    }
}
