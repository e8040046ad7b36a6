//! A folder of manifests: texts in, manifests or every problem out, each problem with its file and line.

use std::collections::HashMap;
use std::fmt;

use serde_json::Value;

use crate::envelope::{Manifest, Origin};
use crate::problem::{Problem, Problems};
use crate::yaml::{self, Document, FILE_BYTES_MAX};

/// Manifests of one folder.
pub const MANIFESTS_MAX: usize = 10_000;

/// Where something stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// As it was given.
    pub path: String,
    /// From 1; `None` where it isn't known (JSON).
    pub line: Option<u64>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}", self.path),
            None => f.write_str(&self.path),
        }
    }
}

/// A manifest and where it stands.
#[derive(Debug)]
pub struct Placed {
    /// Where it begins.
    pub place: Place,
    /// The manifest.
    pub manifest: Manifest,
    document: Document,
}

impl Placed {
    /// As it is written: a body of the API.
    pub fn value(&self) -> &Value {
        &self.document.value
    }

    /// The line of a pointer into the manifest: for problems that the server finds.
    pub fn place_of(&self, pointer: &str) -> Place {
        Place { path: self.place.path.clone(), line: self.document.line(pointer).or(self.place.line) }
    }
}

/// A problem and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedProblem {
    /// Where.
    pub place: Place,
    /// What.
    pub problem: Problem,
}

impl fmt::Display for PlacedProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.problem)
    }
}

/// Whether a folder's file is a manifest, by its name.
pub fn is_manifest(path: &str) -> bool {
    [".yaml", ".yml", ".json"].iter().any(|ending| path.ends_with(ending))
}

/// Reads a folder's files: pairs of path and text. Manifests come out in the order in which they must be
/// applied (workspaces, topics, transforms, pipelines, connectors), and by file within a kind.
pub fn folder<'a>(
    files: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<Vec<Placed>, Vec<PlacedProblem>> {
    let mut found: Vec<Placed> = Vec::new();
    let mut problems = Vec::new();
    let mut seen: HashMap<String, Place> = HashMap::new();
    for (path, text) in files {
        let at = |line, code: &str, message: String| PlacedProblem {
            place: Place { path: path.into(), line },
            problem: Problem { pointer: String::new(), code: code.into(), message },
        };
        let documents = match documents(path, text) {
            Ok(documents) => documents,
            Err((line, message)) => {
                problems.push(at(line, "unreadable", message));
                continue;
            }
        };
        for document in documents {
            if found.len() + problems.len() >= MANIFESTS_MAX {
                problems.push(at(
                    None,
                    "too_many",
                    format!("the folder has more than {MANIFESTS_MAX} manifests"),
                ));
                return Err(problems);
            }
            let place = Place { path: path.into(), line: document.line("") };
            match Manifest::decode(&document.value, Origin::File) {
                Ok(manifest) => {
                    let workspace = manifest.workspace.as_deref().unwrap_or("");
                    let key = format!("{}/{workspace}/{}", manifest.kind().plural(), manifest.name);
                    if let Some(first) = seen.insert(key, place.clone()) {
                        problems.push(at(
                            document.line("/metadata/name"),
                            "duplicate",
                            format!("{} {} is in {first} too", manifest.kind(), manifest.name),
                        ));
                    }
                    found.push(Placed { place, manifest, document });
                }
                Err(found) => problems.extend(placed(path, &document, found)),
            }
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    // Stable: within a kind the files' order stays.
    found.sort_by_key(|placed| placed.manifest.kind());
    Ok(found)
}

fn placed<'a>(
    path: &'a str,
    document: &'a Document,
    problems: Problems,
) -> impl Iterator<Item = PlacedProblem> + 'a {
    problems.into_iter().map(move |problem| PlacedProblem {
        place: Place { path: path.into(), line: document.line(&problem.pointer) },
        problem,
    })
}

fn documents(path: &str, text: &str) -> Result<Vec<Document>, (Option<u64>, String)> {
    if text.len() > FILE_BYTES_MAX {
        return Err((None, format!("has {} bytes, but at most {FILE_BYTES_MAX} are allowed", text.len())));
    }
    if path.ends_with(".json") {
        let value: Value = serde_json::from_str(text)
            .map_err(|error| (u64::try_from(error.line()).ok(), format!("is no JSON: {error}")))?;
        return Ok(match value {
            Value::Array(list) => list.into_iter().map(Document::without_lines).collect(),
            value => vec![Document::without_lines(value)],
        });
    }
    yaml::documents(text)
        .map_err(|error| (error.line, format!("is no YAML that is taken: {}", error.message)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    const TOPIC: &str = "apiVersion: vltava/v1\nkind: Topic\nmetadata: {name: a.b, workspace: w}\n";

    #[test]
    fn manifests_come_out_in_the_order_of_application() {
        let flow = format!(
            "apiVersion: vltava/v1\nkind: Pipeline\nmetadata: {{name: p, workspace: w}}\nspec:\n  sources: [{{topic: \
             a.b}}]\n  steps: [{{name: s, transform: t}}]\n  target: {{topic: c}}\n---\n{TOPIC}"
        );
        let transform = r#"{"apiVersion": "vltava/v1", "kind": "Transform",
            "metadata": {"name": "t", "workspace": "w"}, "spec": {"expression": "a"}}"#;
        let found = folder([("flow.yaml", flow.as_str()), ("t.json", transform)]).unwrap();
        let kinds: Vec<Kind> = found.iter().map(|placed| placed.manifest.kind()).collect();
        assert_eq!(kinds, [Kind::Topic, Kind::Transform, Kind::Pipeline]);
        assert_eq!(found[2].place_of("/spec/target/topic").to_string(), "flow.yaml:7");
        assert_eq!(found[0].place.to_string(), "flow.yaml:9");
    }

    #[test]
    fn every_problem_of_every_file_has_its_place() {
        let wrong = format!("{TOPIC}spec:\n  partitions: none\n  colour: red\n");
        let problems = folder([
            ("a.yaml", wrong.as_str()),
            ("b.yaml", "a: [\n"),
            ("c.json", "{"),
            ("d.yaml", TOPIC),
            ("e.yaml", TOPIC),
        ])
        .unwrap_err();
        let places: Vec<String> = problems
            .iter()
            .map(|p| format!("{}:{:?}:{}", p.place.path, p.place.line, p.problem.code))
            .collect();
        assert_eq!(places[0], "a.yaml:Some(5):wrong_type");
        assert_eq!(places[1], "a.yaml:Some(6):unknown_field");
        assert!(places[2].starts_with("b.yaml:Some("), "{places:?}");
        assert_eq!(places[3], "c.json:Some(1):unreadable");
        assert_eq!(places[4], "e.yaml:Some(3):duplicate");
        assert_eq!(places.len(), 5);
    }
}
