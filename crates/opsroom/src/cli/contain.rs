//! `opsroom contain`: what a local service is started by. It sends the service's standard error to a file,
//! says its process id, gives up what a service needs not, and becomes the service.
//!
//! A service that it starts ends with the server, however that ends: the kernel sees to it.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use opsroom_core::{Error, Result};
use rustix::process::{Resource, Rlimit, Signal, setrlimit};

/// What a service's log may grow to before it begins anew, in bytes.
const LARGEST_LOG: u64 = 8 << 20;

/// Flags of `opsroom contain`.
#[derive(clap::Args)]
pub struct ContainArgs {
    /// Where its standard error goes
    #[arg(long, value_name = "FILE")]
    log: PathBuf,
    /// Where its process id goes
    #[arg(long, value_name = "FILE")]
    pid: PathBuf,
    /// The most memory for its data, in bytes
    #[arg(long, value_name = "BYTES")]
    memory: Option<u64>,
    /// The program and its arguments
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// Becomes the command; answers only when that failed.
pub fn contain(args: ContainArgs) -> Result<ExitCode> {
    let failed = |what: &str, error: std::io::Error| Error::unavailable(format!("{what}: {error}"));
    // From here on what the service writes to its standard error is in the file.
    let fresh = std::fs::metadata(&args.log).is_ok_and(|log| log.len() > LARGEST_LOG);
    let mut options = OpenOptions::new();
    options.create(true).mode(0o600);
    if fresh {
        options.write(true).truncate(true)
    } else {
        options.append(true)
    };
    let log = options.open(&args.log).map_err(|error| failed("its log cannot be opened", error))?;
    std::fs::write(&args.pid, std::process::id().to_string())
        .map_err(|error| failed("its process id cannot be written", error))?;
    #[cfg(target_os = "linux")]
    {
        // Whoever started us is gone already when this is too late; then standard input has ended as well.
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
            .map_err(|error| failed("it cannot be tied to the server", error.into()))?;
        rustix::thread::set_no_new_privs(true)
            .map_err(|error| failed("it cannot give up new privileges", error.into()))?;
    }
    let limit = |resource, most: u64| {
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })
            .map_err(|error| failed("a limit cannot be set", error.into()))
    };
    // No dump of its memory, which holds its secrets.
    limit(Resource::Core, 0)?;
    if let Some(bytes) = args.memory {
        limit(Resource::Data, bytes)?;
    }
    let (program, arguments) =
        args.command.split_first().ok_or_else(|| Error::invalid("there is no command"))?;
    let error = Command::new(program).args(arguments).stderr(log).exec();
    Err(Error::unavailable(format!("`{program}` cannot be started: {error}")))
}
