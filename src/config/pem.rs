//! The files of `[arbiter]` for https: certificates that only root can change, and a key that nobody else can read. Looks at their form, so
//! that a mistake is named where it was written; what is in them is openssl's business.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::{Secret, secrets};
use crate::error::{Error, Result};

/// All the CAs of a system have a quarter of this.
const LARGEST: u64 = 1024 * 1024;
const REMEDY: &str = "[arbiter] names it, and it must be there on both nodes";

/// One certificate or more. Whoever could write the file could say whom we believe.
pub fn read_certificates(path: &Path) -> Result<Secret> {
    let shown = path.display();
    let fault = |error: std::io::Error| Error::config(format!("cannot read \"{shown}\": {error}; {REMEDY}"));
    // O_NONBLOCK: a pipe of that name must not hold us up.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(path).map_err(fault)?;
    let facts = file.metadata().map_err(fault)?;
    if !facts.is_file() {
        return Err(Error::config(format!("\"{shown}\" is not a regular file")));
    }
    let me = nix::unistd::geteuid().as_raw();
    if (facts.uid() != 0 && facts.uid() != me) || facts.mode() & 0o022 != 0 {
        return Err(Error::config(format!("others could change \"{shown}\"; run: chown root: {shown}; chmod 644 {shown}")));
    }
    let mut bytes = Vec::new();
    file.take(LARGEST).read_to_end(&mut bytes).map_err(fault)?;
    let text = String::from_utf8_lossy(&bytes);
    if !text.contains("-----BEGIN CERTIFICATE-----") && !text.contains("-----BEGIN TRUSTED CERTIFICATE-----") {
        return Err(Error::config(format!(
            "\"{shown}\" has no -----BEGIN CERTIFICATE----- in it (PEM); from DER: openssl x509 -inform DER -in OLD -out NEW"
        )));
    }
    Ok(Secret::new(text))
}

/// A private key without a passphrase: there is nobody to ask for one.
pub fn read_key(path: &Path) -> Result<Secret> {
    let (key, shown) = (secrets::read_else(path, REMEDY)?, path.display());
    let text = key.reveal();
    if text.contains("BEGIN ENCRYPTED PRIVATE KEY-----") || text.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(Error::config(format!("the key in \"{shown}\" needs a passphrase; take it off: openssl pkey -in OLD -out NEW")));
    }
    if !(text.contains("-----BEGIN ") && text.contains("PRIVATE KEY-----")) {
        return Err(Error::config(format!("\"{shown}\" has no -----BEGIN PRIVATE KEY----- in it (PEM)")));
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn forms_and_permissions() {
        let path = std::env::temp_dir().join(format!("mmha-pem-{}", std::process::id()));
        let check = |read: fn(&Path) -> Result<Secret>, content: &str, mode: u32, expect: &str| {
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let said = read(&path).map_or_else(|error| error.to_string(), |_| "fine".to_owned());
            assert!(said.contains(expect) && !said.contains("c2VjcmV0"), "{content}: {said}");
        };
        let certificate = "some text\n-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
        let key = "-----BEGIN EC PRIVATE KEY-----\nc2VjcmV0\n-----END EC PRIVATE KEY-----\n";
        check(read_certificates, certificate, 0o644, "fine");
        check(read_certificates, certificate, 0o664, "others could change");
        check(read_certificates, key, 0o644, "has no -----BEGIN CERT");
        check(read_certificates, "\u{0}", 0o600, "openssl x509 -inform DER");
        check(read_key, key, 0o600, "fine");
        check(read_key, key, 0o640, "run: chmod 600 ");
        check(read_key, certificate, 0o600, "has no -----BEGIN PRIVATE KEY");
        check(read_key, "-----BEGIN ENCRYPTED PRIVATE KEY-----\nc2VjcmV0\n", 0o600, "take it off: openssl pkey");
        check(read_key, "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n", 0o600, "needs a passphrase");
        fs::remove_file(&path).unwrap();
        for read in [read_certificates, read_key] {
            let said = read(&path).unwrap_err().to_string();
            assert!(said.contains("both nodes") && !said.contains("mmha init"), "{said}");
            assert!(read(Path::new("/dev/null")).unwrap_err().to_string().contains("not a regular file"));
        }
    }
}
