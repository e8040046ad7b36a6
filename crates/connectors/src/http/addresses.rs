//! Where requests may go: public addresses, and what `http.addresses.allow` names.
//!
//! Invariant: what is checked is the address that is connected to, after DNS, at every connection.
//! A name that resolves to a private address today was public yesterday: checking the name once
//! would let whoever owns it reach the inside (DNS rebinding).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Addresses of one name that are tried at the most.
const ADDRESSES_MAX: usize = 16;

/// The networks that are allowed beside the public ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowed(Arc<[IpNet]>);

/// An address that isn't allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0} is a private, local or reserved address; if requests shall go there, add it to http.addresses.allow"
)]
pub struct Refused(pub IpAddr);

impl Allowed {
    /// CIDRs or addresses, separated by commas or spaces.
    pub fn parse(text: &str) -> Result<Self, String> {
        let networks: Result<Vec<IpNet>, String> = text
            .split([',', ' '])
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(|part| {
                part.parse::<IpNet>()
                    .or_else(|_| part.parse::<IpAddr>().map(IpNet::from))
                    .map_err(|_| format!("{part:?} isn't a network such as 10.1.0.0/16 or an address"))
            })
            .collect();
        Ok(Self(networks?.into()))
    }

    /// Whether a connection to it may be opened.
    pub fn allows(&self, address: IpAddr) -> bool {
        let address = inner(address);
        is_public(address) || self.0.iter().any(|network| network.contains(&address))
    }
}

/// The address in a URL that has one instead of a name. (Such a URL never asks the resolver.)
pub fn literal(url: &Url) -> Option<IpAddr> {
    let host = url.host_str()?;
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// IPv4 addresses that are written as IPv6 ones (mapped, NAT64, 6to4) reach the IPv4 host.
fn inner(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let s = v6.segments();
    let v4 = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    };
    match s {
        [0, 0, 0, 0, 0, 0xffff, high, low] => v4(high, low),
        // NAT64 (RFC 6052) and 6to4 (RFC 3056).
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => v4(high, low),
        // IPv4-compatible, deprecated; `::` and `::1` are themselves.
        [0, 0, 0, 0, 0, 0, high, low] if v6 != Ipv6Addr::UNSPECIFIED && v6 != Ipv6Addr::LOCALHOST => {
            v4(high, low)
        }
        _ => address,
    }
}

/// Neither private nor local nor reserved, by the IANA special-purpose registries (RFC 6890).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            !(v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local() // 169.254.169.254: metadata of clouds
                || v4.is_documentation()
                || a == 0
                || (a == 100 && (64..128).contains(&b)) // shared, RFC 6598; Alibaba's metadata
                || (a == 192 && b == 0 && c == 0) // IETF assignments; Oracle's metadata
                || (a == 198 && (b == 18 || b == 19)) // benchmarking, RFC 2544
                || a >= 224) // multicast, reserved, broadcast
        }
        IpAddr::V6(v6) => {
            let s = v6.segments();
            // Global unicast is 2000::/3, less documentation (RFC 3849, RFC 9637), Teredo and the like (2001::/23).
            (s[0] & 0xe000) == 0x2000
                && !(s[0] == 0x2001 && (s[1] == 0x0db8 || s[1] < 0x0200))
                && !(s[0] == 0x3fff && s[1] < 0x1000)
        }
    }
}

/// Resolves by the system and keeps the addresses that are allowed.
#[derive(Debug)]
pub(super) struct GuardedResolver {
    allowed: Allowed,
}

impl GuardedResolver {
    pub(super) fn new(allowed: Allowed) -> Self {
        Self { allowed }
    }
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let allowed = self.allowed.clone();
        Box::pin(async move {
            let found: Vec<SocketAddr> =
                tokio::net::lookup_host((name.as_str(), 0)).await?.take(ADDRESSES_MAX).collect();
            let usable: Vec<SocketAddr> = found.iter().copied().filter(|a| allowed.allows(a.ip())).collect();
            if let (true, Some(first)) = (usable.is_empty(), found.first()) {
                return Err(Refused(first.ip()).into());
            }
            Ok(Box::new(usable.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inside_addresses_are_refused_however_they_are_written() {
        let nothing = Allowed::default();
        for refused in [
            "127.0.0.1",
            "127.9.9.9",
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.100.100.200",
            "192.0.0.192",
            "0.0.0.0",
            "0.1.2.3",
            "198.18.0.1",
            "203.0.113.9",
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "2002:7f00:1::",
            "::7f00:1",
            "2001:db8::1",
            "2001::1",
            "100::1",
            "3fff::1",
        ] {
            assert!(!nothing.allows(refused.parse().unwrap()), "{refused}");
        }
        for allowed in [
            "8.8.8.8",
            "100.63.0.1",
            "100.128.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "2606:4700::1111",
            "::ffff:8.8.8.8",
        ] {
            assert!(nothing.allows(allowed.parse().unwrap()), "{allowed}");
        }
    }

    #[test]
    fn the_list_allows_what_it_names_and_no_more() {
        let some = Allowed::parse("127.0.0.1/32, 10.1.0.0/16 fd00::/8,::1").unwrap();
        for (address, allowed) in [
            ("127.0.0.1", true),
            ("127.0.0.2", false),
            ("10.1.200.3", true),
            ("10.2.0.1", false),
            ("fd12::1", true),
            ("fc12::1", false),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
        ] {
            assert_eq!(some.allows(address.parse().unwrap()), allowed, "{address}");
        }
        assert!(Allowed::parse("10.0.0.0/33").unwrap_err().contains("10.0.0.0/33"));
    }

    #[test]
    fn addresses_in_urls_are_seen_in_every_notation() {
        for url in [
            "http://127.0.0.1/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://0177.0.0.1/",
            "http://127.1/",
        ] {
            assert_eq!(literal(&Url::parse(url).unwrap()), Some("127.0.0.1".parse().unwrap()), "{url}");
        }
        assert_eq!(literal(&Url::parse("http://[::1]:8080/").unwrap()), Some("::1".parse().unwrap()));
        assert_eq!(literal(&Url::parse("http://example.com/").unwrap()), None);
    }
}
