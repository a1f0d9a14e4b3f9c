//! How others send lines: OpenTelemetry, Loki, syslog.

pub mod loki;
pub mod otlp;
mod protobuf;
pub mod syslog;
mod tls;
