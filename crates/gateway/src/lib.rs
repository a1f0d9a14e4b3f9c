//! The MCP data plane: clients of both eras of the protocol in front, services of both behind.
//!
//! The gateway reads its [`world::World`] from a `watch` of plain data and publishes a `watch` of
//! [`catalogue::Catalogue`]; it touches no SQL. What passes through keeps its bytes.
//!
//! A request's way: [`Gateway::handle`] (HTTP) or [`lines::Conversation`] (streams) reads it and finds its
//! era; `tools` or `dispatch` finds what it means among the `routes`; `exchange` sends it to the service
//! through `upstream` and, with `bridge`, puts to the client what the service asks in between; `era` says
//! the answer in the client's words. The quick way in `tools` is for what most calls are.

mod body;
mod bridge;
pub mod catalogue;
mod client;
pub mod config;
mod dispatch;
mod edge;
mod era;
mod exchange;
mod gateway;
mod header;
pub mod lines;
mod listen;
mod message;
mod page;
mod routes;
mod seal;
pub mod seam;
mod session;
pub mod shared;
mod sse;
mod tasks;
mod tools;
mod upstream;
pub mod world;

pub use body::Body;
pub use gateway::{Gateway, Limits, Parts};
pub use header::encode as header_value;
pub use routes::View;
pub use upstream::lists::hash as definition_hash;
