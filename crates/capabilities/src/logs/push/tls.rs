//! What syslog over TLS shows, and whom it believes.

use std::path::Path;
use std::sync::Arc;

use opsroom_core::files::read_named;
use opsroom_core::{Error, Result};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio_rustls::TlsAcceptor;

use super::syslog::SyslogConfig;

/// The most bytes of a PEM file.
const MOST_BYTES: u64 = 1 << 20;

fn wrong(key: &str, path: &Path, what: impl std::fmt::Display) -> Error {
    Error::invalid(format!("logs.syslog.{key}: `{}` {what}", path.display()))
}

fn certificates(key: &str, path: Option<&Path>) -> Result<Vec<CertificateDer<'static>>> {
    let Some(path) = path else {
        return Err(Error::invalid(format!("logs.syslog.{key}: a PEM file is needed")));
    };
    let pem = read_named(path, MOST_BYTES).map_err(|error| wrong(key, path, error.message))?;
    let all: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let all = all.map_err(|error| wrong(key, path, format!("is not PEM: {error}")))?;
    if all.is_empty() {
        return Err(wrong(key, path, "holds no certificate"));
    }
    Ok(all)
}

/// # Errors
/// `Invalid`, beginning with the key of the configuration, for files that cannot be used.
pub(super) fn acceptor(config: &SyslogConfig) -> Result<TlsAcceptor> {
    let chain = certificates("tls_certificate", config.tls_certificate.as_deref())?;
    let path = config.tls_key.as_deref().unwrap_or(Path::new(""));
    let pem = read_named(path, MOST_BYTES).map_err(|error| wrong("tls_key", path, error.message))?;
    let key = PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|_| wrong("tls_key", path, "holds no private key that can be read"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let begun = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(Error::internal)?;
    let begun = match config.tls_client_ca.as_deref() {
        None => begun.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for authority in certificates("tls_client_ca", Some(path))? {
                roots.add(authority).map_err(|error| wrong("tls_client_ca", path, error))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            begun.with_client_cert_verifier(verifier.map_err(|error| wrong("tls_client_ca", path, error))?)
        }
    };
    let served = begun.with_single_cert(chain, key);
    served.map(|config| TlsAcceptor::from(Arc::new(config))).map_err(|error| wrong("tls_key", path, error))
}
