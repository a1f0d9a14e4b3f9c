//! The operations of this folder.

mod change;
mod give;
mod rotate;

pub use change::{delete, disable, put, restore};
pub use give::{end_lease, get, grant, leases, list, revoke, versions};
pub use rotate::{plan, rotate, rotate_master_key};

use opsroom_core::{Error, Result};

const DAY: i64 = 24 * 60 * 60;

/// A text without control characters, of at most `most` bytes.
fn plain(field: &str, text: String, most: usize) -> Result<String> {
    if text.len() > most || text.chars().any(char::is_control) {
        return Err(Error::invalid(format!(
            "{field} has more than {most} bytes or control characters; use plain text"
        )));
    }
    Ok(text)
}
