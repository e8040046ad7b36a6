//! `${env:NAME}` and `${file:PATH}`: values that a manifest names instead of holding.
//!
//! Invariant: nothing here reads an environment or a file, and nothing here that holds a resolved value shows
//! it by `Debug` or `Display`. What is stored, listed and logged is the reference.

use std::fmt;

/// What stands between `${` and `}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reference {
    /// An environment variable of the process that uses the value.
    Env(String),
    /// A file that this process reads; one line break at its end is not part of the value.
    File(String),
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "${{env:{name}}}"),
            Self::File(path) => write!(f, "${{file:{path}}}"),
        }
    }
}

/// Why a text's references can't be read. Shows no more of the text than the reference itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// `${` without `}`.
    #[error("\"${{\" without \"}}\"; write \"$${{\" for the characters themselves")]
    Open,
    /// Neither `env` nor `file`.
    #[error(
        "reference of kind {0:?}: use ${{env:NAME}} or ${{file:PATH}}; write \"$${{\" for the characters themselves"
    )]
    Kind(String),
    /// Not an environment variable's name.
    #[error("{0:?} is no environment variable's name")]
    Env(String),
    /// Not an absolute path.
    #[error("{0:?} is no path: it must be absolute, without \"..\"")]
    File(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Reference(Reference),
}

/// A value with references in it, taken apart.
#[derive(Clone, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

impl Template {
    /// Takes a value apart. `$${` stands for `${`.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            if rest[..at].ends_with('$') {
                literal.push_str(&rest[..at - 1]);
                literal.push_str("${");
                rest = &rest[at + 2..];
                continue;
            }
            literal.push_str(&rest[..at]);
            let end = rest[at..].find('}').ok_or(ReferenceError::Open)? + at;
            if !literal.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut literal)));
            }
            parts.push(Part::Reference(reference(&rest[at + 2..end])?));
            rest = &rest[end + 1..];
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Ok(Self { parts })
    }

    /// The references, in order.
    pub fn references(&self) -> impl Iterator<Item = &Reference> {
        self.parts.iter().filter_map(|part| match part {
            Part::Reference(reference) => Some(reference),
            Part::Literal(_) => None,
        })
    }

    /// The value, by what `look_up` says of each reference.
    pub fn resolve<E>(&self, mut look_up: impl FnMut(&Reference) -> Result<Secret, E>) -> Result<Secret, E> {
        let mut value = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(text) => value.push_str(text),
                Part::Reference(reference) => value.push_str(look_up(reference)?.expose()),
            }
        }
        Ok(Secret::new(value))
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.references()).finish()
    }
}

fn reference(text: &str) -> Result<Reference, ReferenceError> {
    let short = |text: &str| text.chars().take(80).collect::<String>();
    let (kind, name) = text.split_once(':').unwrap_or((text, ""));
    match kind {
        "env" => {
            let valid = !name.is_empty()
                && name.len() <= 128
                && !name.as_bytes()[0].is_ascii_digit()
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            if valid { Ok(Reference::Env(name.into())) } else { Err(ReferenceError::Env(short(name))) }
        }
        "file" => {
            let valid = name.starts_with('/')
                && name.len() <= 1024
                && !name.contains('\0')
                && name.split('/').all(|segment| segment != "..");
            if valid { Ok(Reference::File(name.into())) } else { Err(ReferenceError::File(short(name))) }
        }
        _ => Err(ReferenceError::Kind(kind.chars().take(20).collect())),
    }
}

/// A resolved value. Neither `Debug` nor `Display` shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides a value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value, for where it is used.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Whether a configuration key's value is a secret by its name. Fails closed: a key that merely sounds like a
/// secret must be a reference too.
pub fn is_sensitive(key: &str) -> bool {
    const WORDS: [&str; 9] = [
        "secret",
        "password",
        "passwd",
        "passphrase",
        "token",
        "credential",
        "authorization",
        "apikey",
        "private",
    ];
    let key = key.to_ascii_lowercase();
    let joined: String = key.chars().filter(|c| c.is_ascii_alphanumeric()).collect();
    WORDS.iter().any(|word| joined.contains(word)) || key.split(['.', '-', '_']).any(|part| part == "key")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_taken_apart() {
        let template = Template::parse("Bearer ${env:TOKEN}/${file:/run/secrets/x}$${y}").unwrap();
        let names: Vec<String> = template.references().map(ToString::to_string).collect();
        assert_eq!(names, ["${env:TOKEN}", "${file:/run/secrets/x}"]);
        assert_eq!(Template::parse("").unwrap().references().count(), 0);
        let value = template.resolve(|r| {
            Ok::<_, ()>(Secret::new(match r {
                Reference::Env(_) => "s3cret",
                Reference::File(_) => "f",
            }))
        });
        assert_eq!(value.unwrap().expose(), "Bearer s3cret/f${y}");
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        for bad in [
            "${",
            "${env:A",
            "${}",
            "${env:}",
            "${env:1A}",
            "${env:A B}",
            "${vault:a}",
            "${file:relative}",
            "${file:/a/../b}",
            "${A}",
        ] {
            assert!(Template::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn values_are_not_shown() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret} {secret:?}"), "*** ***");
        assert!(!format!("{:?}", Template::parse("hunter2 ${env:A}").unwrap()).contains("hunter2"));
    }

    #[test]
    fn names_of_secrets_are_known() {
        for key in
            ["http.signing.secret", "http.header.Authorization", "sasl.password", "x-api-key", "API_TOKEN"]
        {
            assert!(is_sensitive(key), "{key}");
        }
        for key in ["http.url", "retry.attempts.max", "http.timeout.ms", "on.dead.letter", "monkey.business"]
        {
            assert!(!is_sensitive(key), "{key}");
        }
    }
}
