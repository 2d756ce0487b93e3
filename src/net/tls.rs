//! TLS settings of both ends, over rustls with aws-lc-rs.

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};

/// Which authorities are trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Roots {
    /// The system's store.
    System,
    /// Mozilla's, as built in.
    #[default]
    Bundled,
}

/// Why TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM file cannot be read or holds nothing usable.
    #[error("{file}: {reason}")]
    File {
        /// The path as configured.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The system's store holds no certificate.
    #[error("the system's certificate store has no usable certificate")]
    NoRoots,
    /// rustls refused the settings.
    #[error("{0}")]
    Rustls(#[from] rustls::Error),
}

/// The client's side: trust anchors and one session store for all connections, so that most handshakes are resumptions.
#[derive(Clone)]
pub struct UpstreamTls {
    config: Arc<ClientConfig>,
    anchors: [u8; 32],
}

impl UpstreamTls {
    /// Reads the trust anchors; `extra_ca` is a PEM file of further ones.
    pub fn build(roots: Roots, extra_ca: Option<&Path>) -> Result<Self, TlsError> {
        let mut store = RootCertStore::empty();
        let mut anchors = Sha256::new();
        match roots {
            Roots::Bundled => store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Roots::System => {
                let found = rustls_native_certs::load_native_certs().certs;
                found.iter().for_each(|anchor| anchors.update(anchor));
                store.add_parsable_certificates(found);
                if store.is_empty() {
                    return Err(TlsError::NoRoots);
                }
            }
        }
        if let Some(file) = extra_ca {
            for certificate in certificates(file)? {
                anchors.update(&certificate);
                store.add(certificate)?;
            }
        }
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(store)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        anchors.update([u8::from(roots == Roots::Bundled)]);
        Ok(Self {
            config: Arc::new(config),
            anchors: anchors.finalize().into(),
        })
    }

    /// What a handshake needs.
    pub fn config(&self) -> Arc<ClientConfig> {
        self.config.clone()
    }

    /// Tells one set of trust anchors from another.
    pub fn anchors(&self) -> &[u8; 32] {
        &self.anchors
    }
}

/// The server's side: a certificate that can be replaced while connections run.
pub struct ServerTls(ArcSwap<ServerConfig>);

impl ServerTls {
    /// Reads a certificate chain and its key from PEM files.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        Ok(Self(ArcSwap::new(server_config(certificate, key)?)))
    }

    /// Reads them again; on an error the old ones stay.
    pub fn reload(&self, certificate: &Path, key: &Path) -> Result<(), TlsError> {
        self.0.store(server_config(certificate, key)?);
        Ok(())
    }

    /// What a handshake needs now.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.0.load_full()
    }
}

fn server_config(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let chain = certificates(certificate)?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, &error))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain = CertificateDer::pem_file_iter(file)
        .and_then(|certificates| certificates.collect::<Result<Vec<_>, _>>())
        .map_err(|error| unusable(file, &error))?;
    match chain.is_empty() {
        true => Err(unusable(file, &"holds no certificate")),
        false => Ok(chain),
    }
}

fn unusable(file: &Path, reason: &dyn std::fmt::Display) -> TlsError {
    TlsError::File {
        file: file.display().to_string(),
        reason: reason.to_string(),
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
