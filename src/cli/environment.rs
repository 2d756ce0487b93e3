//! Secrets that commands take from the environment: `NAME`, or a file named by `NAME_FILE`.

use std::error::Error;

/// Characters of a first token that is given.
const BOOTSTRAP_MIN: usize = 32;

/// `RINGGATE_BOOTSTRAP_TOKEN`, the value of the first token (control plane 7.3).
pub(super) fn bootstrap_token() -> Result<Option<String>, Box<dyn Error>> {
    let name = "RINGGATE_BOOTSTRAP_TOKEN";
    let token = secret(name)?;
    if let Some(token) = &token {
        let graphic = token.bytes().all(|byte| byte.is_ascii_graphic());
        if token.len() < BOOTSTRAP_MIN || !graphic {
            let rule = "must have at least 32 visible characters";
            return Err(format!("{name}: {rule}").into());
        }
    }
    Ok(token)
}

/// `RINGGATE_MASTER_KEY`, 64 hexadecimal digits.
pub(super) fn master_key() -> Result<Option<String>, Box<dyn Error>> {
    secret("RINGGATE_MASTER_KEY")
}

/// `RINGGATE_NEW_MASTER_KEY`, to which `key rotate` goes over.
pub(super) fn new_master_key() -> Result<Option<String>, Box<dyn Error>> {
    secret("RINGGATE_NEW_MASTER_KEY")
}

fn secret(name: &str) -> Result<Option<String>, Box<dyn Error>> {
    let file = format!("{name}_FILE");
    match (named(name), named(&file)) {
        (Some(_), Some(_)) => Err(format!("{name} and {file} are both set").into()),
        (Some(value), None) => Ok(Some(value)),
        (None, Some(path)) => {
            let text = std::fs::read_to_string(&path);
            let text = text.map_err(|error| format!("{file}: {path}: {error}"))?;
            Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty()))
        }
        (None, None) => Ok(None),
    }
}

/// A variable that is set and not empty.
pub(super) fn named(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
