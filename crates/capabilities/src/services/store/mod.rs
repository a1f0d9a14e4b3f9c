//! The tables of services: the services themselves, their deployments, networks and registrations.

mod deployments;
mod logins;
mod networks;
mod registrations;
mod services;

use opsroom_core::db::{Db, Dialect, Migration, Step};

pub use deployments::Deployment;
pub use networks::{Driver, Network};
pub use registrations::Registration;
pub use services::{Listing, NewService};

/// The tables, oldest first.
pub const MIGRATIONS: [Migration; 2] = [
    Migration { version: 1, name: "services, deployments, networks and registrations", steps: tables },
    Migration { version: 2, name: "logins at services", steps: logins::tables },
];

fn tables(dialect: Dialect) -> Vec<Step> {
    let mut steps = services::tables(dialect);
    steps.extend(deployments::tables(dialect));
    steps.extend(networks::tables());
    steps.extend(registrations::tables(dialect));
    steps
}

/// Services in a database.
#[derive(Clone)]
pub struct Store {
    /// The database.
    pub db: Db,
}
