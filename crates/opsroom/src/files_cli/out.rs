//! Standard output: buffered, coloured on a terminal only, and silent when nobody reads on.

use std::fmt::Arguments;
use std::io::{BufWriter, ErrorKind, IsTerminal, StdoutLock, Write};

use opsroom_core::telemetry::printable_json;
use opsroom_core::{Error, Result};
use serde::Serialize;

/// Where answers go.
pub(super) struct Out {
    to: BufWriter<StdoutLock<'static>>,
    colour: bool,
}

/// How a piece of text stands out on a terminal.
#[derive(Clone, Copy)]
pub(super) enum Style {
    /// What one looks for first.
    Bold,
    /// What is there to be looked up.
    Dim,
    /// What is wrong.
    Red,
    /// What names a place.
    Cyan,
}

impl Out {
    /// Standard output of this process. `NO_COLOR` turns colours off.
    pub(super) fn new() -> Result<Self> {
        let environment = opsroom_core::config::environment()?;
        let asked_for_none = environment.get("NO_COLOR").is_some_and(|value| !value.is_empty());
        let stdout = std::io::stdout();
        let colour = stdout.is_terminal() && !asked_for_none;
        Ok(Self { to: BufWriter::with_capacity(64 << 10, stdout.lock()), colour })
    }

    /// The text in this style, or as it is where there are no colours.
    pub(super) fn style(&self, style: Style, text: &str) -> String {
        if !self.colour {
            return text.to_owned();
        }
        let code = match style {
            Style::Bold => "1",
            Style::Dim => "2",
            Style::Red => "31",
            Style::Cyan => "36",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// Writes a line.
    pub(super) fn line(&mut self, text: Arguments) -> Result<()> {
        let written = self.to.write_fmt(text).and_then(|()| self.to.write_all(b"\n"));
        written.or_else(|error| given_up(&error))
    }

    /// Writes a value as JSON: indented for a person, on one line for a program.
    pub(super) fn json(&mut self, value: &impl Serialize) -> Result<()> {
        let written = if std::io::stdout().is_terminal() {
            serde_json::to_string_pretty(value)
                .map(|text| self.to.write_all(printable_json(&text).as_bytes()))
        } else {
            serde_json::to_writer(&mut self.to, value).map(Ok)
        };
        let written = written.unwrap_or_else(|error| Err(error.into()));
        written.or_else(|error| given_up(&error))?;
        self.line(format_args!(""))?;
        self.flush()
    }

    /// Everything is written.
    pub(super) fn flush(&mut self) -> Result<()> {
        self.to.flush().or_else(|error| given_up(&error))
    }
}

/// When the reader has gone (`opsroom detect app.log | head`), there is nothing left to do, and nothing
/// wrong.
fn given_up(error: &std::io::Error) -> Result<()> {
    if error.kind() == ErrorKind::BrokenPipe {
        std::process::exit(0);
    }
    Err(Error::unavailable(format!("the answer could not be written: {error}")))
}
