//! Text for the server's shell: quoting and variables.

use secrecy::{ExposeSecret, SecretString};

use crate::{Error, Result};

/// The longest `NAME=value`, with its terminating NUL, that Linux passes to a program.
const MAX_VARIABLE: usize = 128 * 1024;
/// The limit for all variables of a command together. Systems allow one to six MiB.
const MAX_TOTAL: usize = 1024 * 1024;

/// Quotes text as one shell word.
pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Checks the limits of environment variables, one by one and in total.
pub(crate) fn check_variables<'a>(all: impl Iterator<Item = (&'a str, &'a str)>) -> Result<()> {
    let mut total = 0;
    for (name, value) in all {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let digit = name.starts_with(|c: char| c.is_ascii_digit());
        if name.is_empty() || digit || !name.chars().all(plain) {
            let context = format!("invalid environment variable name `{name}`");
            return Err(Error::invalid(context));
        }
        if value.contains('\0') {
            let context = format!("the variable `{name}` must not contain a NUL character");
            return Err(Error::invalid(context));
        }
        let size = name.len() + "=".len() + value.len() + "\0".len();
        if size > MAX_VARIABLE {
            let context = format!(
                "the variable `{name}` is too long: name and value must be shorter than 128 KiB"
            );
            return Err(Error::invalid(context));
        }
        total += size;
    }
    if total > MAX_TOTAL {
        let context = "the variables of a command must be shorter than 1 MiB together";
        return Err(Error::invalid(context));
    }
    Ok(())
}

/// Returns the line that exports a variable. The name must have been checked.
pub(crate) fn export(name: &str, value: &str) -> String {
    format!("export {name}={}", quoted(value))
}

/// Returns the shell lines that export secrets.
pub(crate) fn exports(secrets: &[(String, SecretString)]) -> SecretString {
    let mut text = String::new();
    for (name, value) in secrets {
        text.push_str(&export(name, value.expose_secret()));
        text.push('\n');
    }
    text.into()
}
