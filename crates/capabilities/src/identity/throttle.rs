//! Failed attempts to authenticate, counted by address, in bounded memory.
//!
//! Only attempts that fail are slowed down. A right key is always let in, so nobody can lock out those
//! who share an address with an attacker (a proxy, an office); a key has 256 random bits, and no number
//! of attempts finds one.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};

use opsroom_core::{Error, Result, Time};

/// Failures that are answered as such before attempts are slowed down.
const FREE: u32 = 5;

/// The longest delay, in seconds.
const LONGEST: i64 = 60;

/// An address that was quiet for so many seconds starts anew.
const FORGET: i64 = 15 * 60;

/// How many addresses are remembered.
const MOST: usize = 4096;

/// Who failed how often.
#[derive(Default)]
pub struct Throttle(Mutex<HashMap<Origin, Failures>>);

/// A sender: an IPv4 address, an IPv6 network of 64 bits (one customer has at least that many
/// addresses), or whoever comes without an address.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Origin {
    V4([u8; 4]),
    V6([u8; 8]),
    Unknown,
}

struct Failures {
    count: u32,
    last: Time,
    until: Time,
}

impl Throttle {
    /// Counts a failure.
    ///
    /// # Errors
    /// `Busy` while the address has failed too often; the delay doubles from 1 to 60 seconds.
    pub fn failed(&self, address: Option<&str>, now: Time) -> Result<()> {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let origin = origin(address);
        if map.len() >= MOST && !map.contains_key(&origin) {
            make_room(&mut map, now);
        }
        let new = Failures { count: 0, last: now, until: now };
        let failures = map.entry(origin).or_insert(new);
        if now.0 < failures.until.0 {
            let seconds = (failures.until.0 - now.0 + 999_999) / 1_000_000;
            return Err(Error::busy(format!(
                "too many failed attempts to authenticate from this address; try again in {seconds} s with a valid key"
            )));
        }
        if now > failures.last.plus_seconds(FORGET) {
            failures.count = 0;
        }
        failures.count = failures.count.saturating_add(1);
        failures.last = now;
        if let Some(beyond) = failures.count.checked_sub(FREE) {
            let delay = 1i64.checked_shl(beyond.min(16)).unwrap_or(LONGEST).min(LONGEST);
            failures.until = now.plus_seconds(delay);
        }
        Ok(())
    }
}

/// Forgets the quiet ones, or else the quarter that failed longest ago.
fn make_room(map: &mut HashMap<Origin, Failures>, now: Time) {
    map.retain(|_, failures| now <= failures.last.plus_seconds(FORGET));
    if map.len() < MOST {
        return;
    }
    let mut times: Vec<i64> = map.values().map(|failures| failures.last.0).collect();
    times.sort_unstable();
    let oldest_kept = times[MOST / 4];
    map.retain(|_, failures| failures.last.0 > oldest_kept);
}

fn origin(address: Option<&str>) -> Origin {
    let parse = |text: &str| {
        let ip = text.parse::<IpAddr>().ok();
        ip.or_else(|| text.parse::<SocketAddr>().ok().map(|socket| socket.ip()))
    };
    match address.and_then(parse).map(|ip| ip.to_canonical()) {
        Some(IpAddr::V4(ip)) => Origin::V4(ip.octets()),
        Some(IpAddr::V6(ip)) => Origin::V6(network(ip)),
        None => Origin::Unknown,
    }
}

fn network(ip: Ipv6Addr) -> [u8; 8] {
    let mut network = [0; 8];
    network.copy_from_slice(&ip.octets()[..8]);
    network
}

#[cfg(test)]
mod tests {
    use opsroom_core::Kind;

    use super::*;

    const START: Time = Time(1_700_000_000_000_000);

    #[test]
    fn failures_are_slowed_down_with_a_growing_delay_and_forgiven_when_quiet() {
        let throttle = Throttle::default();
        let at = |seconds| throttle.failed(Some("192.0.2.1"), START.plus_seconds(seconds));
        for _ in 0..FREE {
            at(0).unwrap();
        }
        let error = at(0).unwrap_err();
        assert_eq!(error.kind, Kind::Busy);
        assert!(error.message.contains("in 1 s"), "{}", error.message);
        at(1).unwrap();
        assert!(at(2).unwrap_err().message.contains("in 1 s"));
        at(3).unwrap();
        assert!(at(4).unwrap_err().message.contains("in 3 s"));
        at(3 + FORGET + 60).unwrap();
        at(3 + FORGET + 60).unwrap();
    }

    #[test]
    fn one_address_does_not_slow_down_another() {
        let throttle = Throttle::default();
        for _ in 0..100 {
            let _result = throttle.failed(Some("192.0.2.1"), START);
        }
        throttle.failed(Some("192.0.2.2:4711"), START).unwrap();
        throttle.failed(None, START).unwrap();
    }

    #[test]
    fn an_ipv6_network_is_one_sender_and_a_mapped_address_is_its_ipv4() {
        assert!(origin(Some("2001:db8::1")) == origin(Some("[2001:db8::ffff:2]:80")));
        assert!(origin(Some("2001:db8:0:1::1")) != origin(Some("2001:db8::1")));
        assert!(origin(Some("::ffff:192.0.2.1")) == origin(Some("192.0.2.1")));
        assert!(origin(Some("not an address")) == Origin::Unknown);
    }

    #[test]
    fn a_flood_of_addresses_does_not_grow_the_memory() {
        let throttle = Throttle::default();
        for n in 0u32..50_000 {
            let address = IpAddr::from(n.to_be_bytes()).to_string();
            throttle.failed(Some(&address), Time(START.0 + i64::from(n))).unwrap();
        }
        assert!(throttle.0.lock().unwrap().len() <= MOST);
    }
}
