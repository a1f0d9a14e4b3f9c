//! The MCP data plane: clients of both eras of the protocol in front, services of both behind.
//!
//! The gateway reads its [`world::World`] from a `watch` of plain data and publishes a `watch` of
//! [`catalogue::Catalogue`]; it touches no SQL. Its whole face to the rest of the house:
//!
//! ```text
//! Gateway::new(Parts { world, builtin, calls, shared, egress, lifecycle, clock, limits }) -> Gateway
//! gateway.handle(http::Request<B>, Caller, View) -> http::Response<Body>       the HTTP edge
//! gateway.call_tool(&Caller, service, tool, arguments, deadline) -> Result<Box<RawValue>>
//! gateway.catalogue() -> watch::Receiver<Arc<Catalogue>>
//! View::{All, Service(name), Profile(name)}
//! ```

pub mod catalogue;
pub mod seam;
pub mod world;
