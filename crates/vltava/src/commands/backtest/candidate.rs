//! The candidate: an expression from a file of its own, or the one transform of some manifests.

use std::path::Path;

use anyhow::{Result, bail};
use jsonata::Program;
use resources::{EXPRESSION_BYTES_MAX, Spec, folder, is_manifest};

use super::super::{gitops, jsonata::source};

/// What takes the place of a step's expression.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) expression: String,
    /// The transform's name, where a manifest says it.
    pub(super) transform: Option<String>,
}

impl Candidate {
    /// Reads it, and shows what is wrong with it before anybody is asked.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let shown = path.display().to_string();
        let is_expression = source::is_stdin(path) || !(path.is_dir() || is_manifest(&shown));
        let (place, candidate) = match is_expression {
            true => {
                let expression = source::read(path, EXPRESSION_BYTES_MAX)?.trim_end().to_owned();
                (shown, Self { expression, transform: None })
            }
            false => Self::of_manifests(path)?,
        };
        match Program::compile(&candidate.expression) {
            Ok(_) => Ok(candidate),
            Err(error) => bail!("{place}: {}", error.render(&candidate.expression)),
        }
    }

    fn of_manifests(path: &Path) -> Result<(String, Self)> {
        let files = gitops::read(path)?;
        let manifests = folder(files.iter().map(|(path, text)| (path.as_str(), text.as_str())));
        let manifests = manifests.map_err(|problems| {
            let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
            anyhow::anyhow!("{}", lines.join("\n"))
        })?;
        let mut found: Vec<(String, Self)> = Vec::new();
        for placed in &manifests {
            if let Spec::Transform(transform) = &placed.manifest.spec {
                let place = placed.place_of("/spec/expression").to_string();
                let (expression, transform) =
                    (transform.expression.clone(), Some(placed.manifest.name.clone()));
                found.push((place, Self { expression, transform }));
            }
        }
        match found.pop() {
            Some(only) if found.is_empty() => Ok(only),
            Some(_) => {
                bail!("{}: has {} transforms; one is tried at a time", path.display(), found.len() + 1)
            }
            None => bail!("{}: has no transform", path.display()),
        }
    }
}
