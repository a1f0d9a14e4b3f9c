//! Files of an SSH server (SFTP, version 3): listing folders, and reading one file.
//!
//! The server must show the key that the source names, or nothing is said to it: no password, no name of a
//! user. One connection serves all that is read at the same time, and a broken one is replaced.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use opsroom_core::egress::Egress;
use opsroom_core::{Error, Kind, Result};
use russh::client::{self, AuthResult};
use russh::keys::{HashAlg, PrivateKeyWithHashAlg, PublicKey, PublicKeyOrCertificate, decode_secret_key};
use russh_sftp::client::error::Error as SftpError;
use russh_sftp::client::fs::File;
use russh_sftp::client::{Config, RawSftpSession, SftpSession};
use russh_sftp::protocol::{FileAttributes, OpenFlags, StatusCode};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::client::{Listed, Remote};
use super::model::{Object, SourceConfig, check_key};
use super::sign::Credentials;
use crate::logs::entry::shown_time;
use crate::logs::shown::shown;

/// How long it may take until the server has let us in.
const ENTERING: Duration = Duration::from_secs(30);
/// How long a server may be silent in the middle of a file.
const SILENCE: u64 = 60;
/// The most entries of a folder, and of all folders that wait.
const MOST_ENTRIES: usize = 200_000;
/// Bytes that are asked for at once.
const PIECE: usize = 256 << 10;

/// The connection of a source, once there is one.
pub type Line = Arc<tokio::sync::Mutex<Option<Arc<Session>>>>;

/// A server that let us in.
pub struct Session {
    handle: client::Handle<Pinned>,
    files: SftpSession,
}

/// Where a server is: its name and its port.
///
/// # Errors
/// `Invalid` for what is no `sftp://HOST[:PORT]`.
pub fn place(endpoint: &str) -> Result<(String, u16)> {
    let wrong = || {
        Error::invalid(
            "endpoint: a server is named as sftp://HOST or sftp://HOST:PORT; the folder is `path`, the user is \
             `access_key_id`",
        )
    };
    let rest = endpoint.strip_prefix("sftp://").ok_or_else(wrong)?;
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse::<u16>().map_err(|_| wrong())?),
        _ => (rest, 22),
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if host.is_empty() || port == 0 || host.contains(['/', '@', '?', '#', '[', ']', ' ']) {
        return Err(wrong());
    }
    Ok((host.to_owned(), port))
}

/// # Errors
/// `Invalid`, beginning with the field, for what cannot be used.
pub fn validate(config: &SourceConfig) -> Result<()> {
    place(config.endpoint.as_deref().unwrap_or_default())?;
    if config.access_key_id.is_none() {
        return Err(Error::invalid(
            "access_key_id: the user's name is needed, and as secret_access_key a reference to the password or to the \
             private key",
        ));
    }
    let known = config.host_key.as_deref().unwrap_or_default().trim();
    if known.starts_with("SHA256:") || PublicKey::from_openssh(known).is_ok() {
        return Ok(());
    }
    Err(Error::invalid(
        "host_key: the server's key is needed, as its fingerprint (`SHA256:...`) or its line (`ssh-ed25519 AAAA...`); \
         `ssh-keyscan HOST` shows it, and who runs the server can say whether it is right",
    ))
}

/// Accepts one key and no other.
struct Pinned {
    known: String,
    seen: Arc<Mutex<Option<String>>>,
}

impl client::Handler for Pinned {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        key: &PublicKeyOrCertificate,
    ) -> std::result::Result<bool, russh::Error> {
        let key = key.public_key();
        let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
        let known = self.known.trim();
        let good = match PublicKey::from_openssh(known) {
            Ok(known) => known.key_data() == key.key_data(),
            Err(_) => known == fingerprint,
        };
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = (!good).then_some(fingerprint);
        Ok(good)
    }
}

async fn enter(egress: &Egress, config: &SourceConfig, credentials: &Credentials) -> Result<Session> {
    let (host, port) = place(config.endpoint.as_deref().unwrap_or_default())?;
    let stream = egress.dial(&host, port).await?;
    let entering = timeout(ENTERING, let_in(stream, &host, config, credentials));
    let late = || Error::unavailable(format!("`{host}` did not let us in within {} s", ENTERING.as_secs()));
    entering.await.map_err(|_| late())?
}

async fn let_in(
    stream: TcpStream,
    host: &str,
    config: &SourceConfig,
    credentials: &Credentials,
) -> Result<Session> {
    let broken =
        |error: russh::Error| Error::unavailable(format!("SSH with `{host}` failed: {error}")).because(error);
    let seen = Arc::new(Mutex::new(None));
    let known = config.host_key.clone().unwrap_or_default();
    let way = client::Config {
        keepalive_interval: Some(Duration::from_secs(15)),
        inactivity_timeout: Some(Duration::from_secs(600)),
        ..client::Config::default()
    };
    let handler = Pinned { known, seen: seen.clone() };
    let connected = client::connect_stream(Arc::new(way), stream, handler).await;
    if let Some(shown) = seen.lock().unwrap_or_else(PoisonError::into_inner).take() {
        return Err(Error::forbidden(format!(
            "`{host}` shows the key {shown}, which is not the one of `host_key`: it may be another server; nothing was \
             said to it"
        )));
    }
    let mut handle = connected.map_err(broken)?;
    let secret = credentials.key.expose();
    let answer = if secret.contains("PRIVATE KEY") || secret.starts_with("PuTTY-User-Key-File") {
        let word = credentials.token.as_ref().map(|word| word.expose().trim());
        let key = decode_secret_key(&format!("{secret}\n"), word).map_err(|_| {
            Error::invalid(
                "secret_access_key: it looks like a private key and cannot be read; Ed25519 and ECDSA keys are, RSA keys \
                 are not, and session_token refers to the passphrase of one that has one",
            )
        })?;
        handle.authenticate_publickey(&credentials.id, PrivateKeyWithHashAlg::new(Arc::new(key), None)).await
    } else {
        handle.authenticate_password(&credentials.id, secret).await
    };
    match answer.map_err(broken)? {
        AuthResult::Success => {}
        AuthResult::Failure { .. } => {
            return Err(Error::forbidden(format!(
                "`{host}` does not let this user in; check access_key_id and secret_access_key"
            )));
        }
    }
    let stream = open_channel(&handle).await.map_err(broken)?;
    let files =
        SftpSession::new_with_config(stream, sftp_config()).await.map_err(|error| told(&error, host))?;
    Ok(Session { handle, files })
}

fn sftp_config() -> Config {
    Config { request_timeout_secs: SILENCE, ..Config::default() }
}

async fn open_channel(
    handle: &client::Handle<Pinned>,
) -> std::result::Result<russh::ChannelStream<client::Msg>, russh::Error> {
    let channel = handle.channel_open_session().await?;
    channel.request_subsystem(true, "sftp").await?;
    Ok(channel.into_stream())
}

/// The source's connection, a new one where there is none or it broke.
async fn session(remote: &Remote) -> Result<Arc<Session>> {
    let mut line = remote.line.lock().await;
    if let Some(session) = line.as_ref().filter(|session| !session.handle.is_closed()) {
        return Ok(session.clone());
    }
    let Some(credentials) = &remote.credentials else {
        return Err(Error::invalid("access_key_id: the user's name is needed"));
    };
    let entered = Arc::new(enter(&remote.egress, &remote.config, credentials).await?);
    *line = Some(entered.clone());
    Ok(entered)
}

/// What a refusal means; `what` is a key or the server.
fn told(error: &SftpError, what: &str) -> Error {
    let what = shown(what.as_bytes(), 200);
    let status = match error {
        SftpError::Status(status) => Some(status.status_code),
        _ => None,
    };
    match status {
        Some(StatusCode::NoSuchFile) => Error::not_found(format!("the server has no `{what}`")),
        Some(StatusCode::PermissionDenied) => {
            Error::forbidden(format!("the server does not let this user read `{what}`"))
        }
        _ => Error::unavailable(format!(
            "the server does not give `{what}`: {}",
            shown(error.to_string().as_bytes(), 200)
        )),
    }
}

/// A path of the server.
fn path_of(config: &SourceConfig, key: &str) -> String {
    match config.path.as_deref().map(|path| path.trim_end_matches('/')) {
        None => {
            if key.is_empty() {
                ".".to_owned()
            } else {
                key.to_owned()
            }
        }
        Some(path) => format!("{path}/{key}"),
    }
}

/// A file as it was: when it was written, and how long it is.
fn tag(attributes: &FileAttributes) -> String {
    format!("\"{:x}-{:x}\"", attributes.mtime.unwrap_or_default(), attributes.size.unwrap_or_default())
}

/// The files of one folder, and the folders that are still to be looked at. Links are not followed.
pub async fn list(remote: &Remote, prefix: &str, from: Option<&str>) -> Result<Listed> {
    let of_prefix = prefix.rfind('/').map_or("", |at| &prefix[..=at]);
    let mut waiting: Vec<String> = match from {
        None => vec![of_prefix.to_owned()],
        Some(text) => text.split('\n').map(str::to_owned).collect(),
    };
    let folder = waiting.pop().unwrap_or_default();
    let path = path_of(&remote.config, &folder);
    let session = session(remote).await?;
    let stream = open_channel(&session.handle).await.map_err(|error| {
        Error::unavailable(format!("the server opens no more channels: {error}")).because(error)
    })?;
    let raw = RawSftpSession::new_with_config(stream, sftp_config());
    let failed = |error: SftpError| told(&error, &path);
    raw.init().await.map_err(failed)?;
    let entries = match entries(&raw, &path).await {
        // A folder below that nobody may enter, or that is gone meanwhile, does not hide the others.
        Err(error) if from.is_some() && matches!(error.kind, Kind::Forbidden | Kind::NotFound) => Vec::new(),
        // What a range of time asks for may not be there.
        Err(error) if !folder.is_empty() && error.kind == Kind::NotFound => Vec::new(),
        entries => entries?,
    };
    let mut listed = Listed::default();
    for (name, attributes) in entries {
        let key = format!("{folder}{name}");
        if name == "." || name == ".." || name.contains('/') || check_key(&key).is_err() {
            continue;
        }
        let kind = attributes.file_type();
        if kind.is_dir() {
            let key = format!("{key}/");
            let within = key.starts_with(prefix) || prefix.starts_with(&key);
            if within && key.matches('/').count() <= 32 {
                waiting.push(key);
            }
        } else if kind.is_file() && key.starts_with(prefix) {
            let modified = attributes.mtime.map(|seconds| shown_time(i64::from(seconds) * 1_000_000));
            let bytes = attributes.size.unwrap_or_default();
            listed.objects.push(Object {
                key,
                bytes,
                modified,
                etag: Some(tag(&attributes)),
                storage_class: None,
            });
        }
    }
    if waiting.len() > MOST_ENTRIES {
        return Err(too_many(&path));
    }
    listed.next = (!waiting.is_empty()).then(|| waiting.join("\n"));
    Ok(listed)
}

fn too_many(path: &str) -> Error {
    Error::invalid(format!(
        "`{}` has more than {MOST_ENTRIES} entries; give a prefix, or a source for a smaller folder",
        shown(path.as_bytes(), 200)
    ))
}

async fn entries(raw: &RawSftpSession, path: &str) -> Result<Vec<(String, FileAttributes)>> {
    let failed = |error: SftpError| told(&error, path);
    let handle = raw.opendir(path).await.map_err(failed)?.handle;
    let mut found = Vec::new();
    loop {
        match raw.readdir(handle.as_str()).await {
            Ok(names) => found.extend(names.files.into_iter().map(|file| (file.filename, file.attrs))),
            Err(SftpError::Status(status)) if status.status_code == StatusCode::Eof => break,
            Err(error) => return Err(failed(error)),
        }
        if found.len() > MOST_ENTRIES {
            return Err(too_many(path));
        }
    }
    raw.close(handle).await.map_err(failed)?;
    Ok(found)
}

/// A file that is being read: up to the length that it had when it was opened.
pub struct Reading {
    file: File,
    left: u64,
    key: String,
    _kept_open: Arc<Session>,
}

/// Begins to read a file from its byte `at`; later than that only while it is the one of `etag`. With it
/// come its length and its tag.
pub async fn open(remote: &Remote, key: &str, at: u64, etag: Option<&str>) -> Result<(Reading, u64, String)> {
    check_key(key)?;
    let session = session(remote).await?;
    let failed = |error: SftpError| told(&error, key);
    let path = path_of(&remote.config, key);
    let mut file = session.files.open(&path).await.map_err(failed)?;
    let attributes = file.metadata().await.map_err(failed)?;
    let length = attributes.size.unwrap_or_default();
    let tag = tag(&attributes);
    // A log that is being written grows: it is read as it was when it was opened. Of one that is gone on
    // with, the begin must be the same.
    if at > 0 && (length < at || etag.is_some_and(|etag| etag != tag)) {
        return Err(Error::conflict(format!(
            "`{}` was written while it was read; begin again",
            shown(key.as_bytes(), 200)
        )));
    }
    if at > 0 {
        file.seek(std::io::SeekFrom::Start(at)).await.map_err(|error| broke(key, &error))?;
    }
    let reading = Reading { file, left: length - at, key: key.to_owned(), _kept_open: session };
    Ok((reading, length, tag))
}

/// Writes a new file; it has its name when all of it is there. Folders on the way are made.
pub async fn put(remote: &Remote, key: &str, body: &[u8]) -> Result<()> {
    let session = session(remote).await?;
    let failed = |error: SftpError| told(&error, key);
    let path = path_of(&remote.config, key);
    let taken = || {
        Error::conflict(format!(
            "`{}` is there already and is not replaced; choose another name",
            shown(key.as_bytes(), 200)
        ))
    };
    if session.files.try_exists(&path).await.map_err(failed)? {
        return Err(taken());
    }
    for (at, _) in key.match_indices('/') {
        let folder = path_of(&remote.config, &key[..at]);
        if !session.files.try_exists(&folder).await.map_err(failed)? {
            session.files.create_dir(&folder).await.map_err(failed)?;
        }
    }
    let part = format!("{path}.{}.part", opsroom_core::id::new_id());
    let written = async {
        let flags = OpenFlags::CREATE | OpenFlags::WRITE | OpenFlags::EXCLUDE;
        let mut file = session.files.open_with_flags(&part, flags).await.map_err(failed)?;
        let lost = |error: std::io::Error| {
            Error::unavailable(format!("writing `{}` broke off: {error}", shown(key.as_bytes(), 200)))
        };
        file.write_all(body).await.map_err(lost)?;
        file.close().await.map_err(lost)?;
        // Version 3 of the protocol does not rename onto a name that is taken.
        session.files.rename(&part, &path).await.map_err(failed)
    };
    let outcome = written.await;
    if outcome.is_err() {
        // What came of it serves nobody.
        let _removed = session.files.remove_file(&part).await;
    }
    outcome
}

fn broke(key: &str, error: &std::io::Error) -> Error {
    Error::unavailable(format!("reading `{}` broke off: {error}", shown(key.as_bytes(), 200)))
}

impl Reading {
    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// `Unavailable` when the connection breaks.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        if self.left == 0 {
            return Ok(None);
        }
        let mut piece = Vec::with_capacity(PIECE.min(usize::try_from(self.left).unwrap_or(PIECE)));
        let read = (&mut self.file).take(self.left).read_buf(&mut piece).await;
        let read = read.map_err(|error| broke(&self.key, &error))?;
        self.left -= read as u64;
        // Shorter than it was: who reads sees it by the length.
        Ok((read > 0).then(|| piece.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_named_by_host_and_port_and_nothing_else() {
        for (text, host, port) in [
            ("sftp://logs.example", "logs.example", 22),
            ("sftp://logs.example:2222/", "logs.example", 2222),
            ("sftp://[::1]:2222", "::1", 2222),
            ("sftp://[::1]", "::1", 22),
        ] {
            assert_eq!(place(text).unwrap(), (host.to_owned(), port), "{text}");
        }
        for text in [
            "http://x",
            "sftp://",
            "sftp://me@x",
            "sftp://x/logs",
            "sftp://x:0",
            "sftp://x:99999",
            "sftp://a b",
        ] {
            assert!(place(text).is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn another_key_than_the_pinned_one_is_refused() {
        use client::Handler;
        let one = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
        let other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA6rWI3G1sz07DnfFlrouTcysQlj2P+jpNSOEWD9OJ3X";
        let key = PublicKey::from_openssh(one).unwrap();
        let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
        let shown = PublicKeyOrCertificate::PublicKey { key, hash_alg: None };
        for (known, good) in
            [(one, true), (fingerprint.as_str(), true), (other, false), ("SHA256:x", false), ("", false)]
        {
            let seen = Arc::new(Mutex::new(None));
            let mut pinned = Pinned { known: known.to_owned(), seen: seen.clone() };
            assert_eq!(pinned.check_server_key(&shown).await.unwrap(), good, "{known}");
            assert_eq!(seen.lock().unwrap().is_some(), !good);
        }
    }
}
