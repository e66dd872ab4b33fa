//! Certificate requests: made where the key is made, so the key never leaves that machine.

use std::path::Path;

use rcgen::{CertificateParams, DistinguishedName, KeyPair};

use crate::CertError;
use crate::files::read_private;

/// Makes a key and a request for it. The request carries no name: the authority decides on names.
///
/// Returns the key (PEM) and the request (PKCS #10, DER).
///
/// # Errors
/// When the machine has no randomness to give.
pub fn new_request() -> Result<(String, Vec<u8>), CertError> {
    let key = KeyPair::generate().map_err(CertError::crypto("make a private key"))?;
    Ok((key.serialize_pem(), request(&key)?))
}

/// Makes a request (PKCS #10, DER) for a key that exists, so that a repeated registration asks for
/// the same key again.
///
/// # Errors
/// When the text is not a private key in PEM form.
pub fn request_for_key(key_pem: &str) -> Result<Vec<u8>, CertError> {
    let key = KeyPair::from_pem(key_pem).map_err(CertError::crypto("read the private key"))?;
    request(&key)
}

/// The same for the key in a file.
///
/// # Errors
/// When the file cannot be read, others may read it, or it holds no private key.
pub fn request_for_key_file(key: &Path) -> Result<Vec<u8>, CertError> {
    request_for_key(&read_private(key)?)
}

fn request(key: &KeyPair) -> Result<Vec<u8>, CertError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(key);
    let request = request.map_err(CertError::crypto("make a certificate request"))?;
    Ok(request.der().to_vec())
}
