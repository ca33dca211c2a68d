//! A certificate for `localhost`, signed by an authority made for this one server.

use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// Makes both, writes the authority's certificate, and takes connections with the other.
pub(super) fn acceptor(ca_file: &Path) -> TlsAcceptor {
    let ca_key = KeyPair::generate().expect("a key can be made");
    let mut ca = CertificateParams::new(Vec::new()).expect("no name is wrong");
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    ca.distinguished_name.push(DnType::CommonName, "Stand-in authority");
    let authority = ca.self_signed(&ca_key).expect("it can be signed");
    std::fs::write(ca_file, authority.pem()).expect("it can be written");
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().expect("a key can be made");
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let certificate = CertificateParams::new(names)
        .expect("the names are right")
        .signed_by(&key, &issuer)
        .expect("it can be signed");
    let private = PrivateKeyDer::try_from(key.serialize_der()).expect("it was just made");
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the key belongs to the certificate")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)
        .expect("the key belongs to the certificate");
    TlsAcceptor::from(Arc::new(config))
}
