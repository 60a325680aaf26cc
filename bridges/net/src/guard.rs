//! Which addresses a stranger's name may lead us to.
//!
//! A name that somebody else chose can point anywhere: at this machine, at the private network behind it, at a cloud's
//! metadata service, or at one of those wrapped into an IPv6 address. Addresses are unwrapped first, then judged.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Refuses addresses that are not public, but for those that the operator allows.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    allowed: Vec<IpNet>,
}

impl Guard {
    /// Lets these networks through as well.
    pub fn new(allowed: Vec<IpNet>) -> Self {
        Guard { allowed }
    }

    /// True when we may connect there.
    pub fn allows(&self, address: IpAddr) -> bool {
        let address = unwrap(address);
        self.allowed.iter().any(|net| net.contains(&address)) || is_public(address)
    }
}

/// The IPv4 address within a mapped, compatible, NAT64 or 6to4 one.
fn unwrap(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else {
        return address;
    };
    let s = v6.segments();
    let inner = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    };
    match s {
        [0, 0, 0, 0, 0, 0xffff, high, low] => inner(high, low),
        [0, 0, 0, 0, 0, 0, high, low]
            if v6 != Ipv6Addr::LOCALHOST && v6 != Ipv6Addr::UNSPECIFIED =>
        {
            inner(high, low)
        }
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => inner(high, low),
        [0x2002, high, low, ..] => inner(high, low),
        _ => address,
    }
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            let refused = v4.is_unspecified()
                || v4.is_loopback()
                || v4.is_private()
                || v4.is_link_local()
                || v4.is_multicast()
                || v4.is_broadcast()
                || v4.is_documentation()
                || a == 0
                || (a == 100 && (64..128).contains(&b)) // RFC 6598, carrier NAT
                || (a == 192 && b == 0 && c == 0) // RFC 6890, IETF protocol assignments
                || (a == 198 && (b == 18 || b == 19)) // RFC 2544, benchmarks
                || a >= 240;
            !refused
        }
        IpAddr::V6(v6) => {
            let s = v6.segments();
            // RFC 4291 §2.4 and the IANA registry: only 2000::/3 is global unicast; of it Teredo and the rest
            // of 2001::/23, documentation (2001:db8::/32, 3fff::/20) and 6to4 lead elsewhere.
            let global = s[0] & 0xe000 == 0x2000;
            let refused = (s[0] == 0x2001 && (s[1] < 0x200 || s[1] == 0xdb8))
                || s[0] == 0x2002
                || (s[0] == 0x3fff && s[1] < 0x1000);
            global && !refused
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f8_no_name_leads_to_a_private_address_however_it_is_wrapped() {
        let guard = Guard::default();
        for bad in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "ff02::1",
            "::ffff:10.0.0.1",
            "::10.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2001::1",
            "2001:db8::1",
            "fec0::1",
        ] {
            assert!(!guard.allows(bad.parse().expect("an address")), "{bad}");
        }
        for good in ["9.9.9.9", "2620:fe::fe", "::ffff:9.9.9.9"] {
            assert!(guard.allows(good.parse().expect("an address")), "{good}");
        }
    }

    #[test]
    fn an_operator_may_allow_a_network() {
        let guard = Guard::new(vec!["127.0.0.0/8".parse().expect("a network")]);
        assert!(guard.allows("127.0.0.1".parse().expect("an address")));
        assert!(guard.allows("::ffff:127.0.0.1".parse().expect("an address")));
        assert!(!guard.allows("10.0.0.1".parse().expect("an address")));
    }
}
