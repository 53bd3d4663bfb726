//! Which addresses a sink may have (a guard against server-side request forgery): by default those of the public internet only.
//!
//! # Invariants
//! - The address that was checked is the one that is connected to: the check is the resolver of the client, and addresses that stand in a URL are
//!   checked before it is used. A name is refused where any of its addresses is.
//! - Redirects are never followed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// An address that a sink may not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{host} is {address}, which is in a private or reserved range; where that is meant, the sink says allow_private = true"
)]
pub struct Forbidden {
    /// The name that was looked up.
    pub host: String,
    /// What it is.
    pub address: IpAddr,
}

/// Whether an address may be called.
///
/// # Errors
/// It may not.
pub fn check(host: &str, address: IpAddr, allow_private: bool) -> Result<(), Forbidden> {
    let allowed = if allow_private { !is_never(address) } else { is_public(address) };
    if allowed { Ok(()) } else { Err(Forbidden { host: host.to_owned(), address }) }
}

/// Looks a name up and checks every address that it has.
///
/// # Errors
/// The name is not known, or has a forbidden address.
pub async fn resolve(
    host: &str,
    port: u16,
    allow_private: bool,
) -> Result<Vec<SocketAddr>, Box<dyn std::error::Error + Send + Sync>> {
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, port)).await?.collect();
    for address in &addresses {
        check(host, address.ip(), allow_private)?;
    }
    if addresses.is_empty() {
        return Err(format!("{host} has no address").into());
    }
    Ok(addresses)
}

/// What no sink may have: nobody, everybody, and the services that hand out the credentials of a cloud machine.
fn is_never(address: IpAddr) -> bool {
    const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
    const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    match address {
        IpAddr::V4(v4) => {
            v4.is_unspecified() || v4.is_multicast() || v4.is_broadcast() || v4 == METADATA
        }
        IpAddr::V6(v6) => {
            v6.is_unspecified()
                || v6.is_multicast()
                || v6 == METADATA_V6
                || embedded(v6).is_some_and(|v4| is_never(IpAddr::V4(v4)))
        }
    }
}

/// Whether it is of the public internet: neither private nor reserved (IANA's special-purpose address registries).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => match embedded(v6) {
            Some(v4) => is_public_v4(v4),
            None => is_public_v6(v6),
        },
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let reserved = match a {
        0 | 10 | 127 => true,
        100 => (64..128).contains(&b),
        169 => b == 254,
        172 => (16..32).contains(&b),
        192 => b == 168 || (b == 0 && (c == 0 || c == 2)) || (b == 88 && c == 99),
        198 => b == 18 || b == 19 || (b == 51 && c == 100),
        203 => b == 0 && c == 113,
        // Multicast, the future, broadcast.
        224.. => true,
        _ => false,
    };
    !reserved
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, ..] = address.segments();
    // Global unicast, without protocol assignments (Teredo among them), documentation and SRv6.
    (0x2000..0x4000).contains(&a) && !(a == 0x2001 && (b < 0x200 || b == 0xdb8)) && a != 0x3fff
}

/// The address of version 4 that one of version 6 leads to: mapped, compatible, NAT64, 6to4.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match [a, b, c, d, e, f] {
        [0, 0, 0, 0, 0, 0xffff] => Some(v4(g, h)),
        // `::` and `::1` are what they are.
        [0, 0, 0, 0, 0, 0] if g != 0 => Some(v4(g, h)),
        [0x64, 0xff9b, 0, 0, 0, 0] => Some(v4(g, h)),
        [0x2002, high, low, ..] => Some(v4(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(text: &str, allow_private: bool) -> bool {
        check("sink", text.parse().expect("an address"), allow_private).is_ok()
    }

    #[test]
    fn only_the_public_internet_is_called_unless_a_sink_may_be_private() {
        for public in [
            "93.184.216.34",
            "8.8.8.8",
            "172.15.0.1",
            "172.32.0.1",
            "100.63.0.1",
            "2606:4700::1111",
            "2a00:1450::1",
        ] {
            assert!(allowed(public, false), "{public}");
        }
        let private = [
            "127.0.0.1",
            "127.8.9.1",
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.1.1",
            "100.64.0.1",
            "0.1.2.3",
            "192.0.0.8",
            "198.18.0.1",
            "240.0.0.1",
            "::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2002:a00:1::1",
            "::7f00:1",
            "2001:db8::1",
            "2001::1",
            "100::1",
            "64:ff9b:1::1",
            "3fff::1",
            "5f00::1",
        ];
        for private in private {
            assert!(!allowed(private, false), "{private}");
            assert!(allowed(private, true), "{private}");
        }
        for never in [
            "0.0.0.0",
            "255.255.255.255",
            "224.0.0.1",
            "169.254.169.254",
            "::",
            "ff02::1",
            "fd00:ec2::254",
            "::ffff:169.254.169.254",
        ] {
            assert!(!allowed(never, false) && !allowed(never, true), "{never}");
        }
    }
}
