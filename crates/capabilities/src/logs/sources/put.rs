//! Writing an object to a source: new, whole, and checked; what is there already is never replaced.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use opsroom_core::egress::Limits;
use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::{Error, Kind, Result};

use super::client::{Asking, Remote, header, whole};
use super::crc::Crc64;
use super::model::{SourceKind, check_key};
use super::{Reached, sftp};
use crate::logs::shown::shown;

/// How long writing one object may take.
const WRITING: Duration = Duration::from_secs(600);

impl Reached {
    /// Writes a new object.
    ///
    /// # Errors
    /// `Conflict` when there is one of this key, `Invalid` for a source that cannot be written to, and those
    /// of the source.
    pub(in crate::logs) async fn put(&self, key: &str, body: Bytes) -> Result<()> {
        check_key(key)?;
        match self {
            Reached::Folder(roots, path) => {
                let (roots, path) = (roots.clone(), format!("{}/{key}", path.trim_end_matches('/')));
                Lifecycle::blocking(move || roots.create_new(&path, &body).map(drop)).await
            }
            Reached::Remote(remote) => remote.put(key, body).await,
            Reached::Programs(_) => Err(unwritable()),
        }
    }
}

fn unwritable() -> Error {
    Error::invalid(
        "files below a URL and what containers and services write can be read and not written; name another source",
    )
}

impl Remote {
    async fn put(&self, key: &str, body: Bytes) -> Result<()> {
        let taken = || {
            Error::conflict(format!(
                "`{}` is there already and is not replaced; choose another name",
                shown(key.as_bytes(), 200)
            ))
        };
        if self.config.kind == SourceKind::Sftp {
            return sftp::put(self, key, &body).await;
        }
        // Not every store knows the headers below: what is listed is not overwritten anywhere.
        if self.list(key, None).await?.objects.iter().any(|object| object.key == key) {
            return Err(taken());
        }
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let headers = match self.config.kind {
            SourceKind::Cos => vec![pair("x-cos-forbid-overwrite", "true")],
            SourceKind::S3 => vec![pair("if-none-match", "*")],
            SourceKind::Azure => {
                vec![
                    pair("content-type", "application/octet-stream"),
                    pair("if-none-match", "*"),
                    pair("x-ms-blob-type", "BlockBlob"),
                ]
            }
            SourceKind::Gcs => Vec::new(),
            _ => return Err(unwritable()),
        };
        let mut crc = Crc64::default();
        crc.add(&body);
        let asking = Asking { method: Method::PUT, headers, body, ..Asking::get(key) };
        let limits = Limits { max_bytes: 1 << 20, timeout: WRITING, redirects: 0 };
        let answer = match self.ask(&asking, limits).await {
            Err(error) if error.kind == Kind::Conflict => return Err(taken()),
            answer => answer?,
        };
        let stated =
            header(&answer.headers, "x-cos-hash-crc64ecma").and_then(|text| text.parse::<u64>().ok());
        if stated.is_some_and(|stated| stated != crc.value()) {
            return Err(Error::unavailable(format!(
                "the store states another checksum (CRC-64) of `{}` than what was sent; remove it and try again",
                shown(key.as_bytes(), 200)
            )));
        }
        whole(answer).await.map(drop)
    }
}
