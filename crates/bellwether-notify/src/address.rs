//! Which addresses a sink may have (a guard against server-side request forgery): by default those of the public internet only.
//!
//! # Invariants
//! - The address that was checked is the one that is connected to: the check is the resolver of the client, and addresses that stand in a URL are
//!   checked before it is used. A name is refused where any of its addresses is.
//! - Redirects are never followed.
//! - Services that hand out the credentials of a cloud machine are never called, whatever a sink says, nor by the ways around that lead
//!   to them: addresses of version 6 are judged by the ones of version 4 that stand in them, too.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// An address that a sink may not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{host} is {address}, which {}", why(.never))]
pub struct Forbidden {
    /// The name that was looked up.
    pub host: String,
    /// What it is.
    pub address: IpAddr,
    /// Whether `allow_private` would not help.
    pub never: bool,
}

fn why(never: &bool) -> &'static str {
    if *never {
        "no sink may have: it is nobody's, everybody's, or hands out the credentials of a cloud machine"
    } else {
        "is in a private or reserved range; where that is meant, the sink says allow_private = true"
    }
}

/// Whether an address may be called.
///
/// # Errors
/// It may not.
pub fn check(host: &str, address: IpAddr, allow_private: bool) -> Result<(), Forbidden> {
    let never = is_never(address);
    if !never && (allow_private || is_public(address)) {
        return Ok(());
    }
    Err(Forbidden { host: host.to_owned(), address, never })
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

/// Services that hand out the credentials of a cloud machine or tell its secrets, as their vendors document them.
const METADATA: [Ipv4Addr; 8] = [
    // AWS, Azure, Google, OpenStack and most others.
    Ipv4Addr::new(169, 254, 169, 254),
    // AWS: tasks of ECS, pods of EKS.
    Ipv4Addr::new(169, 254, 170, 2),
    Ipv4Addr::new(169, 254, 170, 23),
    // Tencent.
    Ipv4Addr::new(169, 254, 0, 23),
    // Scaleway.
    Ipv4Addr::new(169, 254, 42, 42),
    // Alibaba, in the range that carriers share.
    Ipv4Addr::new(100, 100, 100, 200),
    // The host below an Azure machine, in a public range.
    Ipv4Addr::new(168, 63, 129, 16),
    // Oracle.
    Ipv4Addr::new(192, 0, 0, 192),
];
const METADATA_V6: [Ipv6Addr; 6] = [
    // AWS: machines, pods of EKS.
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),
    // Google.
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
    // Oracle.
    Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe),
    // Scaleway.
    Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42),
    // OpenStack.
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0xa9fe, 0xa9fe),
];

/// What no sink may have: nobody, everybody, and [`METADATA`].
fn is_never(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            v4.octets()[0] == 0 || v4.is_multicast() || v4.is_broadcast() || METADATA.contains(&v4)
        }
        IpAddr::V6(v6) => {
            v6.is_unspecified()
                || v6.is_multicast()
                || METADATA_V6.contains(&v6)
                || embedded(v6).into_iter().any(|v4| is_never(IpAddr::V4(v4)))
        }
    }
}

/// Whether it is of the public internet: neither private nor reserved (IANA's special-purpose address registries).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => {
            (is_public_v6(v6) || is_only_another_form(v6))
                && embedded(v6).into_iter().all(is_public_v4)
        }
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

/// Forms of an address of version 4 as one of version 6: mapped, compatible, and the well-known prefix of NAT64, by which a network of
/// version 6 alone reaches the public internet. `::` and `::1` are what they are.
fn is_only_another_form(address: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f, g, _] = address.segments();
    match [a, b, c, d, e, f] {
        [0, 0, 0, 0, 0, 0xffff] | [0x64, 0xff9b, 0, 0, 0, 0] => true,
        [0, 0, 0, 0, 0, 0] => g != 0,
        _ => false,
    }
}

/// The addresses of version 4 that one of version 6 may lead to.
fn embedded(address: Ipv6Addr) -> Vec<Ipv4Addr> {
    let segments = address.segments();
    let v4 = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    let [a, b, c, d, e, f, g, h] = segments;
    // Where it stands at one of several places, the others hold nothing.
    let some =
        |found: &[Ipv4Addr]| found.iter().copied().filter(|v4| v4.octets()[0] != 0).collect();
    match segments {
        // Compatible, mapped, translated (RFC 4291, 2.5.5; RFC 2765).
        [0, 0, 0, 0, 0, 0, ..] if g == 0 => Vec::new(),
        [0, 0, 0, 0, 0, 0 | 0xffff, ..] | [0, 0, 0, 0, 0xffff, 0, ..] => vec![v4(g, h)],
        // NAT64 (RFC 6052), and the prefix for use within a network (RFC 8215), where the address may lie at several places.
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => vec![v4(g, h)],
        [0x64, 0xff9b, 1, ..] => {
            // After prefixes of 48, 56 and 64 bits it goes around bits 64 to 71.
            let bytes = address.octets();
            let around = |places: [usize; 4]| Ipv4Addr::from(places.map(|place| bytes[place]));
            some(&[
                v4(g, h),
                around([6, 7, 9, 10]),
                around([7, 9, 10, 11]),
                around([9, 10, 11, 12]),
            ])
        }
        // 6to4 (RFC 3056).
        [0x2002, ..] => vec![v4(b, c)],
        // Teredo (RFC 4380): the server, and the client, inverted.
        [0x2001, 0, ..] => some(&[v4(c, d), v4(!g, !h)]),
        // ISATAP (RFC 5214).
        _ if matches!((e, f), (0 | 0x200, 0x5efe)) && a != 0 => vec![v4(g, h)],
        _ => Vec::new(),
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
            "64:ff9b:1::101:101",
            "2001:0:808:808::f5ff:fffe",
            "2606:4700::5efe:a00:1",
            "::ffff:0:a00:1",
            "3fff::1",
            "5f00::1",
        ];
        for private in private {
            assert!(!allowed(private, false), "{private}");
            assert!(allowed(private, true), "{private}");
        }
        for never in [
            "0.0.0.0",
            "0.1.2.3",
            "255.255.255.255",
            "224.0.0.1",
            "169.254.169.254",
            "169.254.170.2",
            "169.254.170.23",
            "169.254.0.23",
            "169.254.42.42",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "::",
            "ff02::1",
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fd20:ce::254",
            "fd00:c1::a9fe:a9fe",
            "fd00:42::42",
            "fe80::a9fe:a9fe",
        ] {
            assert!(!allowed(never, false) && !allowed(never, true), "{never}");
        }
    }

    /// Every address of version 6 that leads to one of version 4.
    fn ways_to(v4: Ipv4Addr) -> Vec<Ipv6Addr> {
        let [a, b, c, d] = v4.octets();
        let text = |text: String| text.parse::<Ipv6Addr>().expect("an address");
        let hex = format!("{a:02x}{b:02x}:{c:02x}{d:02x}");
        let inverted = format!("{:02x}{:02x}:{:02x}{:02x}", !a, !b, !c, !d);
        vec![
            text(format!("::ffff:{hex}")),
            text(format!("::ffff:0:{hex}")),
            text(format!("64:ff9b::{hex}")),
            text(format!("64:ff9b:1::{hex}")),
            text(format!("64:ff9b:1:{a:02x}{b:02x}:{c:02x}:{d:02x}00::")),
            text(format!("64:ff9b:1:{a:02x}:{b:02x}:{c:02x}{d:02x}::")),
            text(format!("64:ff9b:1::{a:02x}:{b:02x}{c:02x}:{d:02x}00:0")),
            text(format!("2002:{hex}::1")),
            text(format!("2001:0:{hex}::1")),
            text(format!("2001:0:808:808:0:0:{inverted}")),
            text(format!("2606:4700::5efe:{hex}")),
        ]
    }

    #[test]
    fn what_no_sink_may_have_is_not_reached_by_a_way_around() {
        for v4 in METADATA {
            for way in ways_to(v4) {
                let error = check("sink", IpAddr::V6(way), true).expect_err(&way.to_string());
                assert!(error.never && !error.to_string().contains("allow_private"), "{error}");
            }
        }
    }

    proptest::proptest! {
        /// No form of an address of version 6 makes a private one of version 4 public.
        #[test]
        fn no_form_of_a_private_address_is_public(bits in proptest::prelude::any::<u32>(), private in 0_usize..5) {
            let ranges = [(10, 8), (127, 8), (0xac1, 12), (0xc0a8, 16), (0xa9fe, 16)];
            let (prefix, length): (u32, u32) = ranges[private];
            let v4 = Ipv4Addr::from((prefix << (32 - length)) | (bits >> length));
            for way in ways_to(v4) {
                proptest::prop_assert!(check("sink", IpAddr::V6(way), false).is_err(), "{way} of {v4}");
            }
        }
    }
}
