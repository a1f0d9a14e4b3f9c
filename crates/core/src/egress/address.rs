//! Which addresses may be reached.
//!
//! An address that is not out on the public internet is refused unless the configuration allows it; the
//! addresses where clouds hand out credentials are refused unless they are allowed one by one. IPv4
//! inside IPv6 (mapped, NAT64) is judged as the IPv4 address that is reached. The ranges are those of
//! IANA's special-purpose registries (RFC 6890 and its updates).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Addresses with the same first bits, such as `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    base: IpAddr,
    bits: u32,
}

impl Range {
    fn has(&self, address: IpAddr) -> bool {
        match (self.base, address) {
            (IpAddr::V4(base), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32 - self.bits).unwrap_or(0);
                base.to_bits() & mask == address.to_bits() & mask
            }
            (IpAddr::V6(base), IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(128 - self.bits).unwrap_or(0);
                base.to_bits() & mask == address.to_bits() & mask
            }
            _ => false,
        }
    }

    fn is_one(&self) -> bool {
        self.bits == if self.base.is_ipv4() { 32 } else { 128 }
    }
}

impl FromStr for Range {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (base, bits) = match text.split_once('/') {
            Some((base, bits)) => (base, Some(bits)),
            None => (text, None),
        };
        let base: IpAddr = base.parse().map_err(|_| ())?;
        let most = if base.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(most), |bits| bits.parse().map_err(|_| ()))?;
        if bits > most { Err(()) } else { Ok(Self { base, bits }) }
    }
}

/// Where the clouds' metadata services answer, with credentials for whoever asks.
const METADATA: [IpAddr; 8] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    // Amazon's for containers.
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),
    // Tencent's.
    IpAddr::V4(Ipv4Addr::new(169, 254, 0, 23)),
    // Alibaba's.
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    // Azure's wire server has a public address.
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    // Oracle's.
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    // Amazon's over IPv6.
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];

const PRIVATE_V4: [([u8; 4], u32); 15] = [
    ([0, 0, 0, 0], 8),
    ([10, 0, 0, 0], 8),
    ([100, 64, 0, 0], 10),
    ([127, 0, 0, 0], 8),
    ([169, 254, 0, 0], 16),
    ([172, 16, 0, 0], 12),
    ([192, 0, 0, 0], 24),
    ([192, 0, 2, 0], 24),
    ([192, 88, 99, 0], 24),
    ([192, 168, 0, 0], 16),
    ([198, 18, 0, 0], 15),
    ([198, 51, 100, 0], 24),
    ([203, 0, 113, 0], 24),
    ([224, 0, 0, 0], 4),
    ([240, 0, 0, 0], 4),
];

/// Inside 2000::/3, outside of which nothing is public: tunnels (Teredo, 6to4), documentation.
const PRIVATE_V6: [([u16; 2], u32); 4] =
    [([0x2001, 0], 23), ([0x2001, 0xdb8], 32), ([0x2002, 0], 16), ([0x3fff, 0], 20)];

/// Whether an address may be reached. `name_allowed`: it was reached by a name whose private addresses
/// are allowed.
pub(super) fn may_reach(address: IpAddr, allowed: &[Range], name_allowed: bool) -> bool {
    let real = reached(address);
    let listed = |range: &&Range| range.has(real) || range.has(address);
    if METADATA.contains(&real) {
        // A wide range is not meant to open these.
        return allowed.iter().filter(|range| range.is_one()).any(|range| listed(&range));
    }
    is_public(real) || name_allowed || allowed.iter().any(|range| listed(&range))
}

/// The address that answers when this one is dialled.
fn reached(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    if let Some(v4) = v6.to_ipv4_mapped() {
        return IpAddr::V4(v4);
    }
    match v6.segments() {
        // NAT64 (RFC 6052).
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            IpAddr::V4(Ipv4Addr::from_bits((u32::from(high) << 16) | u32::from(low)))
        }
        _ => address,
    }
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => !PRIVATE_V4
            .iter()
            .any(|(base, bits)| Range { base: IpAddr::V4(Ipv4Addr::from(*base)), bits: *bits }.has(address)),
        IpAddr::V6(v6) => {
            let special = PRIVATE_V6.iter().any(|([first, second], bits)| {
                let base = Ipv6Addr::new(*first, *second, 0, 0, 0, 0, 0, 0);
                Range { base: IpAddr::V6(base), bits: *bits }.has(address)
            });
            v6.segments()[0] >> 13 == 1 && !special
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn may(address: &str, allowed: &[&str]) -> bool {
        let allowed: Vec<Range> = allowed.iter().map(|text| text.parse().unwrap()).collect();
        may_reach(address.parse().unwrap(), &allowed, false)
    }

    #[test]
    fn public_addresses_may_be_reached_and_all_others_may_not() {
        for public in
            ["1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00::1", "64:ff9b::101:101"]
        {
            assert!(may(public, &[]), "{public}");
        }
        let private = [
            "0.0.0.0",
            "10.1.2.3",
            "127.0.0.1",
            "127.8.8.8",
            "100.64.0.1",
            "169.254.1.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "192.0.0.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "fec0::1",
            "2001:db8::1",
            "2001::1",
        ];
        for private in private {
            assert!(!may(private, &[]), "{private}");
        }
    }

    #[test]
    fn ipv4_inside_ipv6_is_judged_as_what_is_reached() {
        for hidden in [
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "2002:7f00:1::",
            "2002:a9fe:a9fe::1",
            "64:ff9b:1::1",
            "2001:0:7f00:1::",
        ] {
            assert!(!may(hidden, &[]), "{hidden}");
        }
        assert!(may("::ffff:1.1.1.1", &[]));
        assert!(may("::ffff:127.0.0.1", &["127.0.0.0/8"]));
    }

    #[test]
    fn a_range_opens_private_addresses_and_metadata_only_one_by_one() {
        assert!(may("10.1.2.3", &["10.0.0.0/8"]));
        assert!(!may("10.200.0.1", &["10.0.0.0/9"]));
        assert!(may("fd00::5", &["fd00::/8"]) && may("::1", &["::1"]));
        for metadata in
            ["169.254.169.254", "100.100.100.200", "168.63.129.16", "fd00:ec2::254", "::ffff:169.254.169.254"]
        {
            assert!(!may(metadata, &["0.0.0.0/0", "::/0"]), "{metadata}");
            assert!(!may_reach(metadata.parse().unwrap(), &[], true), "{metadata}");
        }
        assert!(may("169.254.169.254", &["169.254.169.254"]));
        for wrong in ["", "10.0.0.0/33", "10.0.0/8", "::/129", "localhost", "10.0.0.0/-1"] {
            assert!(wrong.parse::<Range>().is_err(), "{wrong}");
        }
    }
}
