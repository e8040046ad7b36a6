//! Where expressions come from: the command line, a file of their own, a transform in a manifest.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use resources::{EXPRESSION_BYTES_MAX, FILE_BYTES_MAX, Spec, folder, is_manifest};

/// An expression and what it is called in messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    /// A path, `manifest.yaml:3 Transform name`, or `-e`.
    pub(super) place: String,
    pub(super) text: String,
}

impl Source {
    /// Without the line ends behind it: what is missing is missing at the last line with text.
    fn new(place: String, text: &str) -> Self {
        Self { place, text: text.trim_end().to_owned() }
    }
}

pub(crate) fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// A file's text, or that of standard input.
pub(crate) fn read(path: &Path, bytes_max: usize) -> Result<String> {
    let shown = path.display();
    let mut text = String::new();
    let input: Box<dyn io::Read> = match is_stdin(path) {
        true => Box::new(io::stdin().lock()),
        false => Box::new(File::open(path).with_context(|| shown.to_string())?),
    };
    input.take(bytes_max as u64 + 1).read_to_string(&mut text).with_context(|| shown.to_string())?;
    ensure!(text.len() <= bytes_max, "{shown}: larger than {bytes_max} bytes");
    Ok(text)
}

/// All expressions of a file: of manifests those of transforms, of pipelines' steps and of the keys of their targets; of
/// any other file its whole text.
pub(super) fn expressions(path: &Path) -> Result<Vec<Source>> {
    let place = path.display().to_string();
    if is_stdin(path) || !is_manifest(&place) {
        return Ok(vec![Source::new(place, &read(path, EXPRESSION_BYTES_MAX)?)]);
    }
    let text = read(path, FILE_BYTES_MAX)?;
    let manifests = folder([(&*place, &*text)]).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        anyhow::anyhow!("{}", lines.join("\n"))
    })?;
    let mut found = Vec::new();
    for placed in &manifests {
        let manifest = &placed.manifest;
        let mut all: Vec<(String, String, &str)> = Vec::new();
        match &manifest.spec {
            Spec::Transform(transform) => {
                all.push(("/spec/expression".into(), String::new(), &transform.expression));
            }
            Spec::Pipeline(pipeline) => {
                for (i, step) in pipeline.steps.iter().enumerate() {
                    let one = |(place, text)| {
                        (format!("/spec/steps/{i}{place}"), format!(" step {}", step.name), text)
                    };
                    all.extend(step.kind.expressions().into_iter().map(one));
                }
                let key = pipeline.target.key.iter();
                all.extend(key.map(|key| ("/spec/target/key".into(), " target.key".into(), &**key)));
            }
            Spec::Workspace(_) | Spec::Topic(_) | Spec::Connector(_) | Spec::Client(_) => {}
        }
        for (pointer, what, text) in all {
            let place = format!("{} {} {}{what}", placed.place_of(&pointer), manifest.kind(), manifest.name);
            found.push(Source::new(place, text));
        }
    }
    Ok(found)
}

/// The one expression of a file.
pub(super) fn expression(path: &Path) -> Result<Source> {
    let mut found = expressions(path)?;
    match (found.pop(), found.len()) {
        (Some(only), 0) => Ok(only),
        (Some(_), others) => bail!("{}: has {} expressions; one is expected", path.display(), others + 1),
        (None, _) => bail!("{}: has no transform", path.display()),
    }
}
