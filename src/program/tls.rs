//! TLS as `sslmode` asks for it.

use crate::environment::Environment;
use crate::failure::Failure;
use crate::output::{not_read, shown};
use crate::parameters::{Parameters, unknown};
use postgres::config::SslMode;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_postgres_rustls::MakeRustlsConnect;

/// What is required of the connection, the least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub enum Mode {
    /// No TLS.
    Disable,
    /// TLS where the server offers it.
    Prefer,
    /// TLS, with any certificate.
    Require,
    /// A certificate of a known authority.
    VerifyCa,
    /// A certificate of a known authority, for this host.
    VerifyFull,
}

impl Mode {
    /// Every mode, with its name in `sslmode`.
    const ALL: [(Self, &str); 5] = [
        (Self::Disable, "disable"),
        (Self::Prefer, "prefer"),
        (Self::Require, "require"),
        (Self::VerifyCa, "verify-ca"),
        (Self::VerifyFull, "verify-full"),
    ];

    /// Returns what the driver has to do.
    pub fn of_driver(self) -> SslMode {
        match self {
            Self::Disable => SslMode::Disable,
            Self::Prefer => SslMode::Prefer,
            Self::Require | Self::VerifyCa | Self::VerifyFull => SslMode::Require,
        }
    }
}

/// The parameters of TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// What is required.
    pub mode: Mode,
    /// The certificates of authorities; `None` for those of the system.
    authorities: Option<PathBuf>,
    /// The certificate and the key of the client.
    client: Option<(PathBuf, PathBuf)>,
}

impl Tls {
    /// Reads the parameters. As in libpq, a file with authorities makes `require` verify them.
    pub fn of(parameters: &Parameters, environment: &Environment) -> Result<Self, Failure> {
        let given = |keyword: &str| parameters.get(keyword).map(String::as_str);
        let default = |file: &str| {
            environment.in_home(&format!(".postgresql/{file}")).filter(|path| path.exists())
        };
        let word = given("sslmode").unwrap_or("prefer");
        // `allow` would try without TLS first: what it permits, `prefer` permits.
        let found = Mode::ALL
            .into_iter()
            .find(|(_, name)| *name == word || word == "allow" && *name == "prefer");
        let known = Mode::ALL.map(|(_, name)| name);
        let (mut mode, _) = found.ok_or_else(|| unknown("sslmode", word, &known))?;
        let authorities = match given("sslrootcert") {
            Some("system") => {
                // As in libpq: any site has a certificate of one of these authorities.
                if mode < Mode::VerifyFull && given("sslmode").is_some() {
                    return Err(Failure::new(format!(
                        "weak sslmode \"{word}\" may not be used with sslrootcert=system"
                    ))
                    .hint("Use sslmode=verify-full."));
                }
                mode = Mode::VerifyFull;
                None
            }
            Some(file) => Some(PathBuf::from(file)),
            None => default("root.crt"),
        };
        if mode == Mode::Require && authorities.is_some() {
            mode = Mode::VerifyCa;
        }
        let file =
            |keyword: &str, name| given(keyword).map(PathBuf::from).or_else(|| default(name));
        let client = file("sslcert", "postgresql.crt").zip(file("sslkey", "postgresql.key"));
        Ok(Self { mode, authorities, client })
    }
}

/// Returns what makes the connections of the driver secure.
pub fn connector(tls: &Tls) -> Result<MakeRustlsConnect, Failure> {
    let provider = Arc::new(ring::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = match tls.mode {
        Mode::Disable | Mode::Prefer | Mode::Require => Arc::new(AnyCertificate(provider.clone())),
        Mode::VerifyCa => Arc::new(AnyHost(verifier(tls, &provider)?)),
        Mode::VerifyFull => verifier(tls, &provider)?,
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::new("could not use TLS").detail(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match &tls.client {
        None => config.with_no_client_auth(),
        Some((certificate, key)) => {
            let secret = PrivateKeyDer::from_pem_file(key).map_err(|e| not_read(key, &e))?;
            config.with_client_auth_cert(certificates(certificate)?, secret).map_err(|error| {
                Failure::new(format!("could not use certificate {}", shown(certificate)))
                    .detail(error.to_string())
            })?
        }
    };
    // What PostgreSQL 17 requires for sslnegotiation=direct.
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    Ok(MakeRustlsConnect::new(config))
}

/// Returns the verification by authorities and host.
fn verifier(
    tls: &Tls,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, Failure> {
    let mut roots = RootCertStore::empty();
    let source = if let Some(file) = &tls.authorities {
        roots.add_parsable_certificates(certificates(file)?);
        shown(file)
    } else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        "the system".to_owned()
    };
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().map_err(
        |error| {
            Failure::new(format!("could not use the root certificates of {source}"))
                .detail(error.to_string())
                .hint("sslrootcert names a file with those of the server's authority.")
        },
    )
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect)
        .map_err(|error| not_read(file, &error))
}

/// Accepts every certificate: sslmode `prefer` and `require` encrypt, and verify nothing.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Verifies the authority, and accepts a certificate for another host: sslmode `verify-ca`.
#[derive(Debug)]
struct AnyHost(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyHost {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        host: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let result = self.0.verify_server_cert(certificate, intermediates, host, ocsp, now);
        match result {
            // The host is compared last.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tls(of: &[(&str, &str)], environment: &Environment) -> Result<Tls, Failure> {
        let parameters = of.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Tls::of(&parameters, environment)
    }

    #[test]
    fn authorities_make_require_verify_them() {
        let none = Environment::default();
        let mode = |of: &[(&str, &str)]| tls(of, &none).unwrap().mode;
        assert_eq!(mode(&[]), Mode::Prefer);
        assert_eq!(mode(&[("sslmode", "allow")]), Mode::Prefer);
        assert_eq!(mode(&[("sslmode", "require")]), Mode::Require);
        assert_eq!(mode(&[("sslmode", "require"), ("sslrootcert", "x")]), Mode::VerifyCa);
        assert_eq!(mode(&[("sslmode", "verify-full"), ("sslrootcert", "x")]), Mode::VerifyFull);
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join(".postgresql")).unwrap();
        std::fs::write(home.path().join(".postgresql/root.crt"), "").unwrap();
        let environment = Environment::of([], Some(home.path().to_owned()));
        assert_eq!(tls(&[("sslmode", "require")], &environment).unwrap().mode, Mode::VerifyCa);
    }

    #[test]
    fn authorities_of_the_system_need_the_name_of_the_host() {
        let none = Environment::default();
        assert_eq!(tls(&[("sslrootcert", "system")], &none).unwrap().mode, Mode::VerifyFull);
        let weak = tls(&[("sslrootcert", "system"), ("sslmode", "require")], &none).unwrap_err();
        assert_eq!(
            weak.message,
            "weak sslmode \"require\" may not be used with sslrootcert=system"
        );
        assert!(tls(&[("sslmode", "on")], &none).is_err());
    }

    #[test]
    fn missing_file_with_authorities_is_an_error() {
        let none = Environment::default();
        let tls = tls(&[("sslmode", "verify-ca"), ("sslrootcert", "/none")], &none).unwrap();
        assert_eq!(connector(&tls).err().unwrap().message, "could not read /none");
    }
}
