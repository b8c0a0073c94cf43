//! Secrets: kept out of every output, and read from files.

use std::fmt;
use std::io::Read;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Largest secret file that is read, in bytes; a longer one is refused. A bundle of certificates fits.
const FILE_BYTES_MAX: u64 = 512 * 1024;

/// A text that no log, error or rendered configuration shows.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl serde::Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("…")
    }
}

/// Checks a webhook secret: `whsec_` and standard base64 of 24 to 64 bytes. The message does not show it.
pub(super) fn check_webhook(text: &str) -> Result<(), String> {
    let Some(encoded) = text.strip_prefix("whsec_") else {
        return Err("a webhook secret begins with `whsec_`, this one does not".into());
    };
    match STANDARD.decode(encoded) {
        Ok(key) if (24..=64).contains(&key.len()) => Ok(()),
        Ok(key) => Err(format!("a webhook secret holds 24 to 64 bytes, this one {}", key.len())),
        Err(_) => Err("after `whsec_` stands standard base64 with its padding, this is none".into()),
    }
}

/// Reads a secret file without the white space around it.
pub(super) fn read_file(path: &str) -> Result<String, String> {
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|error| format!("{path:?} cannot be read: {error}"))?;
    let read = file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text);
    let bytes = read.map_err(|error| format!("{path:?} cannot be read: {error}"))?;
    if bytes as u64 > FILE_BYTES_MAX {
        return Err(format!("{path:?} is larger than a secret: over {FILE_BYTES_MAX} bytes"));
    }
    match text.trim() {
        "" => Err(format!("{path:?} is empty")),
        text => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_shown_nowhere() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?}"), "…");
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"…\"");
        assert_eq!(secret.expose(), "hunter2");
    }

    #[test]
    fn a_webhook_secret_has_one_form() {
        let of = |bytes: usize| format!("whsec_{}", STANDARD.encode(vec![7; bytes]));
        assert!(check_webhook(&of(24)).is_ok() && check_webhook(&of(64)).is_ok());
        for text in [of(23), of(65), String::new(), "12345".into(), "whsec_".into(), "whsec_a-b_".into()] {
            let message = check_webhook(&text).expect_err(&text);
            assert!(text.len() < 8 || !message.contains(&text), "{message}");
        }
    }

    #[test]
    fn a_secret_file_is_trimmed_and_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        assert_eq!(read_file(&write("good", "  abc\n\n")).unwrap(), "abc");
        assert!(read_file(&write("empty", " \n")).unwrap_err().ends_with("is empty"));
        assert!(read_file(&write("large", &"x".repeat(600_000))).unwrap_err().contains("larger"));
        assert!(read_file("/nowhere/at/all").unwrap_err().contains("cannot be read"));
    }
}
