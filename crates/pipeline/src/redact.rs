//! Hiding parts of a value by their paths.
//!
//! Invariant: it fails closed. What a path names is hidden, however its name is written and however often it stands there; where
//! the value has another shape than the path, so that what is to be hidden may lie elsewhere, nothing is written. All else
//! keeps its bytes. No error shows what stands in the value.

use resources::{RedactSpec, RedactWith};
use serde::Deserializer;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;

/// What stands in place of what is masked.
const MASK: &[u8] = br#""***""#;

/// Which parts, and what becomes of them.
#[derive(Debug, Clone)]
pub struct Redaction {
    paths: Vec<Vec<Segment>>,
    with: RedactWith,
}

/// Why a value can't be redacted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is no JSON, or has a name that no UTF-8 says.
    #[error("{0}")]
    Json(String),
    /// The value has another shape than a path.
    #[error(
        "at {place} there is {found}, so that {path} can't be applied: what it is to hide may lie elsewhere"
    )]
    Shape {
        /// JSON pointer into the value.
        place: String,
        /// What is there.
        found: &'static str,
        /// The path as it is written.
        path: String,
    },
}

/// One step down.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Any,
    Name(String),
}

/// A path that leads into a value: all of it, and how much of it is done.
#[derive(Clone, Copy)]
struct Path<'a> {
    whole: &'a [Segment],
    done: usize,
}

impl Path<'_> {
    fn next(&self) -> Option<&Segment> {
        self.whole.get(self.done)
    }

    fn text(&self) -> String {
        written(self.whole)
    }

    /// Where it has come to.
    fn place(&self) -> String {
        match self.done {
            0 => "the top".to_owned(),
            n => written(&self.whole[..n]),
        }
    }
}

fn written(path: &[Segment]) -> String {
    let one = |segment: &Segment| match segment {
        Segment::Any => "/*".to_owned(),
        Segment::Name(name) => format!("/{}", name.replace('~', "~0").replace('/', "~1")),
    };
    path.iter().map(one).collect()
}

impl Redaction {
    /// As a step says it.
    pub fn new(RedactSpec { paths, with }: &RedactSpec) -> Self {
        let segment = |text: &str| match text {
            "*" => Segment::Any,
            _ => Segment::Name(text.replace("~1", "/").replace("~0", "~")),
        };
        let path = |text: &String| text.split('/').skip(1).map(segment).collect();
        Self { paths: paths.iter().map(path).collect(), with: *with }
    }

    /// A JSON text with all that the paths name hidden.
    pub fn apply(&self, json: &[u8]) -> Result<Vec<u8>, Error> {
        let invalid = |error: &dyn std::fmt::Display| Error::Json(error.to_string());
        let text = std::str::from_utf8(json).map_err(|e| invalid(&e))?;
        // Checks all of it, whatever the paths lead to.
        let whole: &RawValue = serde_json::from_str(text).map_err(|e| invalid(&e))?;
        let paths: Vec<_> = self.paths.iter().map(|whole| Path { whole, done: 0 }).collect();
        let mut out = Vec::with_capacity(json.len());
        self.value(whole.get(), &paths, &mut out)?;
        Ok(out)
    }

    /// Writes a value; `paths` lead into it.
    fn value(&self, text: &str, paths: &[Path<'_>], out: &mut Vec<u8>) -> Result<(), Error> {
        if paths.is_empty() {
            out.extend_from_slice(text.as_bytes());
            return Ok(());
        }
        let json = |error: serde_json::Error| Error::Json(error.to_string());
        let found = match text.as_bytes().first() {
            Some(b'{') => {
                let Members(members) = serde_json::from_str(text).map_err(json)?;
                let members = members.iter().map(|(name, value)| (Some(name.as_str()), value.get()));
                return self.inside(members, (b'{', b'}'), paths, out);
            }
            Some(b'[') => {
                if let Some(path) = paths.iter().find(|path| !leads_into_array(path)) {
                    return Err(shape(path, "an array"));
                }
                let elements: Vec<&RawValue> = serde_json::from_str(text).map_err(json)?;
                let elements = elements.iter().map(|value| (None, value.get()));
                return self.inside(elements, (b'[', b']'), paths, out);
            }
            // There is nothing to hide.
            Some(b'n') => {
                out.extend_from_slice(text.as_bytes());
                return Ok(());
            }
            Some(b'"') => "a text",
            Some(b't' | b'f') => "a boolean",
            _ => "a number",
        };
        Err(shape(&paths[0], found))
    }

    /// Writes an object's members, or an array's elements, which have no names.
    fn inside<'v>(
        &self,
        parts: impl Iterator<Item = (Option<&'v str>, &'v str)>,
        (open, close): (u8, u8),
        paths: &[Path<'_>],
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        out.push(open);
        let begun = out.len();
        for (index, (name, value)) in parts.enumerate() {
            let into = |path: &&Path<'_>| match (path.next(), name) {
                (Some(Segment::Any), _) => true,
                (Some(Segment::Name(wanted)), Some(name)) => wanted == name,
                (Some(Segment::Name(wanted)), None) => *wanted == index.to_string(),
                (None, _) => false,
            };
            let inner: Vec<_> =
                paths.iter().filter(into).map(|path| Path { done: path.done + 1, ..*path }).collect();
            let hidden = inner.iter().any(|path| path.next().is_none());
            if hidden && self.with == RedactWith::Drop {
                continue;
            }
            if out.len() > begun {
                out.push(b',');
            }
            if let Some(name) = name {
                serde_json::to_writer(&mut *out, name).map_err(|e| Error::Json(e.to_string()))?;
                out.push(b':');
            }
            match hidden {
                true => out.extend_from_slice(MASK),
                false => self.value(value, &inner, out)?,
            }
        }
        out.push(close);
        Ok(())
    }
}

/// Whether the path's next step can be an element's.
fn leads_into_array(path: &Path<'_>) -> bool {
    match path.next() {
        Some(Segment::Name(name)) => {
            name.bytes().all(|b| b.is_ascii_digit())
                && !name.is_empty()
                && (name == "0" || !name.starts_with('0'))
        }
        Some(Segment::Any) | None => true,
    }
}

fn shape(path: &Path<'_>, found: &'static str) -> Error {
    Error::Shape { place: path.place(), found, path: path.text() }
}

/// An object's members in their order, also those of one name.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> serde::Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(All)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redact(with: RedactWith, paths: &[&str], json: &str) -> Result<String, Error> {
        let spec = RedactSpec { paths: paths.iter().map(|&p| p.to_owned()).collect(), with };
        Redaction::new(&spec).apply(json.as_bytes()).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    fn mask(paths: &[&str], json: &str) -> String {
        redact(RedactWith::Mask, paths, json).unwrap()
    }

    #[test]
    fn what_paths_name_is_hidden_and_all_else_keeps_its_bytes() {
        let json = r#"{"n":1.00,"who":{"mail":"a@b","tel":[1,2]},"cards":[{"no":"1","x":1e3},{"no":{"a":1}}],"a/b":1}"#;
        let all = ["/who/mail", "/who/tel/1", "/cards/*/no", "/a~1b", "/absent/deep", "/cards/7/no"];
        assert_eq!(
            mask(&all, json),
            r#"{"n":1.00,"who":{"mail":"***","tel":[1,"***"]},"cards":[{"no":"***","x":1e3},{"no":"***"}],"a/b":"***"}"#
        );
        let dropped = redact(RedactWith::Drop, &["/n", "/who/*", "/cards/0", "/a~1b"], json).unwrap();
        assert_eq!(dropped, r#"{"who":{},"cards":[{"no":{"a":1}}]}"#);
        assert_eq!(mask(&["/*"], r#"{"a":null,"b":[]}"#), r#"{"a":"***","b":"***"}"#);
        assert_eq!(mask(&["/who/mail", "/who"], json).matches("***").count(), 1, "the outer one counts");
    }

    #[test]
    fn a_name_is_found_however_it_is_written_and_however_often() {
        let json = r#"{"em\u0061il":"a","email":"b" , "email":"c"}"#;
        assert_eq!(mask(&["/email"], json), r#"{"email":"***","email":"***","email":"***"}"#);
        assert_eq!(redact(RedactWith::Drop, &["/email"], json).unwrap(), "{}");
    }

    #[test]
    fn another_shape_than_the_paths_lets_nothing_through() {
        let shapes = [
            (r#"{"who":"a@b"}"#, "/who", "a text"),
            (r#"{"who":["a@b"]}"#, "/who", "an array"),
            (r#"{"who":7}"#, "/who", "a number"),
            (r#"{"who":true}"#, "/who", "a boolean"),
            (r#""a@b""#, "the top", "a text"),
            ("[1]", "the top", "an array"),
        ];
        for with in [RedactWith::Mask, RedactWith::Drop] {
            for (json, at, what) in shapes {
                let error = redact(with, &["/who/mail"], json).unwrap_err();
                let Error::Shape { place, found, path } = &error else { panic!("{error}") };
                assert_eq!((place.as_str(), *found, path.as_str()), (at, what, "/who/mail"));
                assert!(!error.to_string().contains("a@b"), "{error}");
            }
            for nothing in ["null", r#"{"who":null}"#, "{}"] {
                assert_eq!(redact(with, &["/who/mail"], nothing).unwrap(), nothing);
            }
        }
        assert!(redact(RedactWith::Mask, &["/a/01"], r#"{"a":[1,2]}"#).is_err());
        for broken in ["", "{", r#"{"a":1}x"#, r#"{"a":1,}"#, "{\"a\":\"\u{1}\"}", r#"{"\ud800":1}"#] {
            assert!(matches!(redact(RedactWith::Mask, &["/a"], broken), Err(Error::Json(_))), "{broken}");
        }
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(redact(RedactWith::Mask, &["/*/*/mail"], &deep).is_err());
    }
}
