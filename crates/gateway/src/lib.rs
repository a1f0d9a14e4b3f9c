//! The MCP data plane.
