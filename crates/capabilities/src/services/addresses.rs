//! Addresses for networks: the lowest free range of a configured pool that overlaps nothing that is known.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use opsroom_core::{Error, Result};

/// A range of IPv4 addresses, such as `172.30.4.0/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subnet {
    base: u32,
    prefix: u8,
}

impl Subnet {
    /// The range of this length that holds this address.
    ///
    /// # Errors
    /// `Invalid` for a length that is not from 0 to 32.
    pub fn new(address: Ipv4Addr, prefix: u8) -> Result<Self> {
        if prefix > 32 {
            return Err(Error::invalid(format!("/{prefix} is not from /0 to /32")));
        }
        Ok(Self { base: u32::from(address) & mask(prefix), prefix })
    }

    /// The first address that can be used: the network's gateway.
    pub fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::from(self.base + 1)
    }

    /// Whether an address can be a container's: in the range, and neither its ends nor the gateway.
    pub fn usable(self, address: Ipv4Addr) -> bool {
        let at = u32::from(address);
        at & mask(self.prefix) == self.base && at > self.base + 1 && at < self.last()
    }

    /// Whether the two share an address.
    pub fn overlaps(self, other: Subnet) -> bool {
        let wider = mask(self.prefix.min(other.prefix));
        self.base & wider == other.base & wider
    }

    /// Whether every address of the other is in this one.
    pub fn holds(self, other: Subnet) -> bool {
        self.prefix <= other.prefix && other.base & mask(self.prefix) == self.base
    }

    /// Whether all of it is set aside for private use (RFC 1918, and RFC 6598's shared space).
    pub fn is_private(self) -> bool {
        const PRIVATE: [(u32, u8); 4] =
            [(0x0a00_0000, 8), (0xac10_0000, 12), (0xc0a8_0000, 16), (0x6440_0000, 10)];
        PRIVATE.iter().any(|(base, prefix)| Subnet { base: *base, prefix: *prefix }.holds(self))
    }

    /// How many addresses it has, as a power of two.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    fn last(self) -> u32 {
        self.base | !mask(self.prefix)
    }
}

fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

impl FromStr for Subnet {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            Error::invalid(format!(
                "`{}` is no range of IPv4 addresses such as `172.30.4.0/24`",
                text.escape_debug()
            ))
        };
        let (address, prefix) = text.trim().split_once('/').ok_or_else(wrong)?;
        let address: Ipv4Addr = address.parse().map_err(|_| wrong())?;
        let subnet = Subnet::new(address, prefix.parse().map_err(|_| wrong())?).map_err(|_| wrong())?;
        if subnet.base != u32::from(address) {
            return Err(Error::invalid(format!(
                "`{}` is inside {subnet}; name the range itself",
                text.trim()
            )));
        }
        Ok(subnet)
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.base), self.prefix)
    }
}

/// The lowest range of this length in the pool that overlaps none of those that are taken.
///
/// # Errors
/// `Conflict` when the pool is used up.
pub fn lowest_free(pool: Subnet, prefix: u8, taken: &[Subnet]) -> Result<Subnet> {
    let step = 1u64 << (32 - u32::from(prefix));
    let mut at = u64::from(pool.base);
    while at <= u64::from(pool.last()) {
        // In the pool, so it fits.
        let candidate = Subnet { base: at as u32, prefix };
        match taken.iter().filter(|other| other.overlaps(candidate)).map(|other| other.last()).max() {
            None => return Ok(candidate),
            // Past the end of what is in the way, on a border of the step.
            Some(last) => at = (u64::from(last) + 1).next_multiple_of(step).max(at + step),
        }
    }
    Err(Error::conflict(format!(
        "no free /{prefix} is left in the pool {pool} (`services.network_pool`); delete a network or widen the pool"
    )))
}

/// The ranges to which this machine has routes, from the text of `/proc/net/route`. The default route is
/// not one of them.
pub fn routed(table: &str) -> Vec<Subnet> {
    let route = |line: &str| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let destination = u32::from_str_radix(fields.next()?, 16).ok()?.swap_bytes();
        let mask = u32::from_str_radix(fields.nth(5)?, 16).ok()?.swap_bytes();
        let prefix = u8::try_from(mask.leading_ones()).ok()?;
        (prefix > 0).then_some(Subnet { base: destination, prefix })
    };
    table.lines().skip(1).filter_map(route).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        text.parse().unwrap()
    }

    #[test]
    fn the_lowest_free_range_overlaps_nothing_that_is_taken() {
        let pool = subnet("172.30.0.0/16");
        let free = |taken: &[&str]| {
            let taken: Vec<Subnet> = taken.iter().map(|text| subnet(text)).collect();
            lowest_free(pool, 24, &taken).map(|free| free.to_string())
        };
        assert_eq!(free(&[]).unwrap(), "172.30.0.0/24");
        assert_eq!(free(&["172.30.0.0/24", "172.30.2.0/24"]).unwrap(), "172.30.1.0/24");
        assert_eq!(free(&["172.30.0.0/17"]).unwrap(), "172.30.128.0/24");
        assert_eq!(free(&["172.30.0.128/25"]).unwrap(), "172.30.1.0/24");
        assert!(free(&["172.16.0.0/12"]).unwrap_err().message.contains("no free /24"));
    }

    #[test]
    fn a_vlan_of_any_number_gets_a_private_range() {
        let pool = subnet("172.30.0.0/16");
        let mut taken = Vec::new();
        for _ in 0..256 {
            let next = lowest_free(pool, 24, &taken).unwrap();
            assert!(next.is_private() && pool.holds(next));
            taken.push(next);
        }
        assert!(lowest_free(pool, 24, &taken).is_err());
    }

    #[test]
    fn ranges_are_read_and_wrong_ones_refused() {
        for text in ["172.30.4.1/24", "172.30.4.0", "172.30.4.0/33", "::/0", "a/8", "172.30.4.0/-1"] {
            assert!(text.parse::<Subnet>().is_err(), "{text}");
        }
        assert!(!subnet("8.8.8.0/24").is_private() && !subnet("172.0.0.0/8").is_private());
        let net = subnet("10.1.2.0/24");
        assert_eq!(net.gateway().to_string(), "10.1.2.1");
        assert!(net.usable("10.1.2.2".parse().unwrap()) && !net.usable("10.1.2.1".parse().unwrap()));
        assert!(!net.usable("10.1.2.255".parse().unwrap()) && !net.usable("10.1.3.2".parse().unwrap()));
    }

    #[test]
    fn routes_of_the_machine_are_read() {
        let table = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\n\
                     eth0\t00000000\t0100A8C0\t0003\t0\t0\t0\t00000000\n\
                     br0\t00041EAC\t00000000\t0001\t0\t0\t0\t00FFFFFF\n";
        assert_eq!(routed(table), [subnet("172.30.4.0/24")]);
    }
}
