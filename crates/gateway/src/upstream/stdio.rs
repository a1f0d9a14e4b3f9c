//! A service that is a child process, speaking on its standard input and output.
//!
//! It gets no more of our environment than `PATH`. It is killed when its connection is dropped, and always
//! waited for: none is left behind, not even as a zombie.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::{Error, Result, Secret};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::duplex::Duplex;
use super::endpoint::LARGEST_ANSWER;

/// Where programs are looked for when the environment that is configured does not say.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How long a child may take to end after its input was closed, and again after it was asked to.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Starts the child. `stop` ends it.
///
/// # Errors
/// `Unavailable` for a program that cannot be started.
pub fn start(
    lifecycle: &Lifecycle,
    name: &str,
    argv: &[String],
    env: &[(String, Secret)],
    cwd: Option<&Path>,
    stop: CancellationToken,
) -> Result<Arc<Duplex>> {
    let (program, arguments) =
        argv.split_first().ok_or_else(|| Error::invalid("the command of the service is empty"))?;
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("PATH", PATH);
    command.envs(env.iter().map(|(name, value)| (name, value.expose())));
    command.current_dir(cwd.unwrap_or(Path::new("/")));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // Its own group, so that a signal from the terminal is ours to hand on, and its children end with it.
    command.process_group(0).kill_on_drop(true);
    let mut child = command
        .spawn()
        .map_err(|error| Error::unavailable(format!("{program:?} cannot be started: {error}")))?;
    let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(mut input), Some(output), Some(errors)) = pipes else {
        return Err(Error::internal("a child without pipes"));
    };
    let (out, mut messages) = mpsc::channel::<bytes::Bytes>(64);
    let duplex = Duplex::new(out);
    let stopping = lifecycle.stopping();
    let served = duplex.clone();
    let name = name.to_owned();
    let work = async move {
        let write = async {
            while let Some(message) = messages.recv().await {
                let mut line = message.to_vec();
                line.push(b'\n');
                if input.write_all(&line).await.is_err() || input.flush().await.is_err() {
                    break;
                }
            }
        };
        let read = lines(output, |line| served.receive(line));
        let log = lines(errors, |line| {
            let text = String::from_utf8_lossy(line);
            tracing::debug!(service = name, line = %text.trim_end(), "a service wrote to its standard error");
        });
        tokio::select! {
            () = write => {}
            _ended = read => {}
            // That it closed its standard error does not end it.
            () = async { log.await; std::future::pending::<()>().await } => {}
            () = stop.cancelled() => {}
            () = stopping.cancelled() => {}
        }
        served.ended.cancel();
        drop(input);
        end(child).await;
        Ok(())
    };
    drop(lifecycle.spawn_work(work));
    Ok(duplex)
}

/// Hands on each line, until the end or a line that is too long.
async fn lines(stream: impl tokio::io::AsyncRead + Unpin, mut take: impl FnMut(&[u8])) {
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut bounded = (&mut reader).take(LARGEST_ANSWER as u64);
        match bounded.read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(read) if read >= LARGEST_ANSWER && line.last() != Some(&b'\n') => return,
            Ok(_) if line.trim_ascii().is_empty() => {}
            Ok(_) => take(&line),
        }
    }
}

/// Its input is closed: it may end by itself, then it is asked, then killed; its whole group with it.
async fn end(mut child: Child) {
    let group = child.id().and_then(|id| rustix::process::Pid::from_raw(i32::try_from(id).ok()?));
    let signal = |signal| {
        if let Some(group) = group {
            // It may have ended already.
            let _gone = rustix::process::kill_process_group(group, signal);
        }
    };
    if tokio::time::timeout(LAST_WORDS, child.wait()).await.is_err() {
        signal(rustix::process::Signal::TERM);
        let _late = tokio::time::timeout(LAST_WORDS, child.wait()).await;
    }
    signal(rustix::process::Signal::KILL);
    let _waited = child.wait().await;
}
