//! Networks: which ranges of addresses are given out, and to whom.

use opsroom_core::clock::Time;
use opsroom_core::db::{Row, Step};
use opsroom_core::{Error, Result};
use schemars::JsonSchema;
use sea_query::{ColumnDef, Expr, ExprTrait, Iden, Index, Order, Query, SelectStatement, Table};
use serde::{Deserialize, Serialize};

use super::Store;
use crate::services::addresses::Subnet;

#[derive(Clone, Copy, Iden)]
enum ServicesNetwork {
    Table,
    Name,
    TeamId,
    CreatedBy,
    VlanId,
    Driver,
    Parent,
    Subnet,
    ServiceId,
    CreatedAt,
}

pub(super) fn tables() -> Vec<Step> {
    let text = |column, length| ColumnDef::new(column).string_len(length).not_null().take();
    let unique = |name: &str, column| {
        Step::Index(Index::create().name(name).table(ServicesNetwork::Table).col(column).unique().to_owned())
    };
    vec![
        Step::Create(
            Table::create()
                .table(ServicesNetwork::Table)
                .col(text(ServicesNetwork::Name, 64).primary_key())
                .col(text(ServicesNetwork::TeamId, 64))
                .col(text(ServicesNetwork::CreatedBy, 128))
                .col(ColumnDef::new(ServicesNetwork::VlanId).big_integer().null())
                .col(text(ServicesNetwork::Driver, 16))
                .col(text(ServicesNetwork::Parent, 32))
                .col(text(ServicesNetwork::Subnet, 18))
                .col(ColumnDef::new(ServicesNetwork::ServiceId).big_integer().null())
                .col(ColumnDef::new(ServicesNetwork::CreatedAt).big_integer().not_null())
                .to_owned(),
        ),
        unique("services_network_vlan", ServicesNetwork::VlanId),
        unique("services_network_subnet", ServicesNetwork::Subnet),
        unique("services_network_service", ServicesNetwork::ServiceId),
    ]
}

/// How a network joins its services.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Driver {
    /// A bridge of this machine, without a way out.
    #[default]
    Bridge,
    /// A VLAN of the wire (802.1Q): each service has a hardware address of its own there.
    Macvlan,
    /// A VLAN of the wire (802.1Q): services share the machine's hardware address.
    Ipvlan,
}

impl Driver {
    /// The engine's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Driver::Bridge => "bridge",
            Driver::Macvlan => "macvlan",
            Driver::Ipvlan => "ipvlan",
        }
    }

    fn parse(word: &str) -> Option<Driver> {
        [Driver::Bridge, Driver::Macvlan, Driver::Ipvlan].into_iter().find(|driver| driver.as_str() == word)
    }
}

/// A network.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// Its name, unique.
    pub name: String,
    /// Its team.
    pub team: String,
    /// Who made it.
    pub created_by: String,
    /// Its VLAN, from 1 to 4094; `None` is a network of one service alone.
    pub vlan_id: Option<u16>,
    /// How it joins its services.
    pub driver: Driver,
    /// The interface of the machine that it is on, such as `eth0.100`; empty for a bridge.
    pub parent: String,
    /// Its addresses.
    pub subnet: Subnet,
    /// The one service that it is for, when it is for one alone.
    pub service: Option<i64>,
    /// When it was made.
    pub created_at: Time,
}

impl Store {
    /// Makes a network.
    ///
    /// # Errors
    /// `Conflict` when its name, VLAN or addresses are taken.
    pub async fn insert_network(&self, network: &Network) -> Result<()> {
        let insert = Query::insert()
            .into_table(ServicesNetwork::Table)
            .columns([
                ServicesNetwork::Name,
                ServicesNetwork::TeamId,
                ServicesNetwork::CreatedBy,
                ServicesNetwork::VlanId,
                ServicesNetwork::Driver,
                ServicesNetwork::Parent,
                ServicesNetwork::Subnet,
                ServicesNetwork::ServiceId,
                ServicesNetwork::CreatedAt,
            ])
            .values_panic([
                network.name.as_str().into(),
                network.team.as_str().into(),
                network.created_by.as_str().into(),
                network.vlan_id.map(i64::from).into(),
                network.driver.as_str().into(),
                network.parent.as_str().into(),
                network.subnet.to_string().into(),
                network.service.into(),
                network.created_at.0.into(),
            ])
            .to_owned();
        self.db.run(&insert).await.map(drop).map_err(|error| match error.kind {
            opsroom_core::Kind::Conflict => Error::conflict(format!(
                "the name `{}`, the VLAN or the addresses {} of the network are taken; `list_networks` shows by whom",
                network.name, network.subnet
            )),
            _ => error,
        })
    }

    /// Every network, whoever owns it: for the addresses and for the engine.
    pub async fn networks(&self) -> Result<Vec<Network>> {
        let query = select().order_by(ServicesNetwork::CreatedAt, Order::Asc).to_owned();
        self.db.all(&query).await?.iter().map(network).collect()
    }

    /// The network of that name.
    pub async fn network(&self, name: &str) -> Result<Option<Network>> {
        let query = select().and_where(Expr::col(ServicesNetwork::Name).eq(name)).to_owned();
        self.db.first(&query).await?.as_ref().map(network).transpose()
    }

    /// Removes a network from the list; its addresses are free again.
    pub async fn remove_network(&self, name: &str) -> Result<()> {
        let delete = Query::delete()
            .from_table(ServicesNetwork::Table)
            .and_where(Expr::col(ServicesNetwork::Name).eq(name))
            .to_owned();
        self.db.run(&delete).await.map(drop)
    }
}

fn select() -> SelectStatement {
    Query::select()
        .columns([
            ServicesNetwork::Name,
            ServicesNetwork::TeamId,
            ServicesNetwork::CreatedBy,
            ServicesNetwork::VlanId,
            ServicesNetwork::Driver,
            ServicesNetwork::Parent,
            ServicesNetwork::Subnet,
            ServicesNetwork::ServiceId,
            ServicesNetwork::CreatedAt,
        ])
        .from(ServicesNetwork::Table)
        .to_owned()
}

fn network(row: &Row) -> Result<Network> {
    let driver: String = row.get("driver")?;
    let vlan: Option<i64> = row.get("vlan_id")?;
    let subnet: String = row.get("subnet")?;
    Ok(Network {
        name: row.get("name")?,
        team: row.get("team_id")?,
        created_by: row.get("created_by")?,
        vlan_id: vlan.and_then(|vlan| u16::try_from(vlan).ok()),
        driver: Driver::parse(&driver).ok_or_else(|| Error::internal("a network has an unknown driver"))?,
        parent: row.get("parent")?,
        subnet: subnet.parse()?,
        service: row.get("service_id")?,
        created_at: row.time("created_at")?,
    })
}
