//! From raw log lines to templates: what each line says, when, how loud, and which kind of event it is.
//!
//! # Words
//!
//! - A *line* is one line of input, without its newline. Lines are numbered from 1.
//! - A *header* is what a logger puts before the text: time, level, host, thread, component.
//! - A *message* is the text after the header.
//! - A *record* is a head line and the lines that continue it (a stack trace, an indented block).
//! - A *shape* is a message with its obvious variables (numbers, addresses, paths) masked.
//! - A *template* is the constant part of a family of messages, with `<*>` where they vary.
//!
//! # Invariants
//!
//! - Nothing here fails: every byte string is a line, and every line gets an answer.
//! - Memory is bounded by the configuration, never by the input.
//! - The same lines give the same answers, on any machine.
//! - A template's id is given at its first line and never means another template. Templates that turn
//!   out to be one are folded: [`LogParser::resolve`] says where an id went.

mod align;
mod evidence;
mod group;
mod header;
mod level;
mod line;
mod mask;
mod miner;
mod parser;
mod records;
mod settle;
mod shapes;
mod signs;
mod structured;
mod syslog;
mod template;
mod time;
mod units;

pub use level::Level;
pub use miner::{Mined, Miner, MinerConfig};
pub use parser::{Kind, LogParser, Parsed, ParserConfig};
pub use template::{Template, TemplateId};
