//! The expressions and datasets of the reference suite, or, where it is absent, of the engine's own
//! cases.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::oracle::{Request, crate_dir};

pub(super) struct Case {
    pub(super) source: String,
    /// The number of its own input.
    pub(super) input: usize,
    pub(super) bindings: Value,
}

pub(super) struct Suite {
    /// Where it is from, to print.
    pub(super) origin: String,
    /// It is the project's own.
    pub(super) is_own: bool,
    pub(super) cases: Vec<Case>,
    /// Texts of inputs, the first of which is none: undefined.
    pub(super) inputs: Vec<Option<String>>,
    names: Vec<String>,
    /// How many inputs behind the first are datasets.
    datasets: usize,
}

impl Suite {
    pub(super) fn load() -> Result<Self> {
        let root = PathBuf::from(crate_dir()?);
        let shared = root.join("../../shared/jsonata-suite");
        let is_own = !shared.join("groups").is_dir();
        let dir = if is_own { root.join("../crates/jsonata/tests/it/cases") } else { shared };
        let mut suite = Self {
            origin: String::new(),
            is_own,
            cases: Vec::new(),
            inputs: vec![None],
            names: vec!["undefined".to_owned()],
            datasets: 0,
        };
        let mut known: BTreeMap<String, usize> = BTreeMap::new();
        for file in json_files(&dir.join("datasets")).unwrap_or_default() {
            let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            known.insert(name.clone(), suite.inputs.len());
            suite.inputs.push(Some(fs::read_to_string(&file)?));
            suite.names.push(name);
            suite.datasets += 1;
        }
        let mut groups: Vec<PathBuf> =
            fs::read_dir(dir.join("groups"))?.flatten().map(|entry| entry.path()).collect();
        groups.sort();
        for file in groups.iter().map(|group| json_files(group)).collect::<Result<Vec<_>>>()?.concat() {
            let text = fs::read_to_string(&file)?;
            let parsed: Value = serde_json::from_str(&text)
                .or_else(|_| serde_json::from_str(&without_lone_surrogates(&text)))
                .with_context(|| file.display().to_string())?;
            let cases = match parsed {
                Value::Array(cases) => cases,
                case => vec![case],
            };
            for case in cases {
                suite.add(&case, &file, &known)?;
            }
        }
        ensure!(!suite.cases.is_empty(), "no cases in {}", dir.display());
        suite.origin = format!(
            "{}: {} expressions, {} datasets",
            if is_own {
                "../shared/jsonata-suite is absent; the project's own cases"
            } else {
                "the reference suite"
            },
            suite.cases.len(),
            suite.datasets
        );
        Ok(suite)
    }

    fn add(&mut self, case: &Value, file: &Path, known: &BTreeMap<String, usize>) -> Result<()> {
        let source = match (case.get("expr"), case.get("expr-file")) {
            (Some(Value::String(expr)), _) => expr.clone(),
            (_, Some(Value::String(name))) => fs::read_to_string(file.with_file_name(name))?,
            _ => anyhow::bail!("{} has a case without an expression", file.display()),
        };
        let input = match (case.get("data"), case.get("dataset")) {
            (Some(data), _) => {
                self.inputs.push(Some(data.to_string()));
                self.names.push(format!("the data of {}", file.display()));
                self.inputs.len() - 1
            }
            (None, Some(Value::String(name))) => {
                *known.get(name).with_context(|| format!("{}: no dataset {name}", file.display()))?
            }
            _ => 0,
        };
        let bindings = case.get("bindings").cloned().unwrap_or(Value::Null);
        let bindings = if bindings.is_object() { bindings } else { Value::Object(serde_json::Map::new()) };
        self.cases.push(Case { source, input, bindings });
        Ok(())
    }

    pub(super) fn text(&self, input: usize) -> Option<&str> {
        self.inputs[input].as_deref()
    }

    pub(super) fn name(&self, input: usize) -> &str {
        &self.names[input]
    }

    /// Each expression on its own input, on undefined, and on all datasets.
    pub(super) fn on_every_dataset(&self) -> Vec<Request> {
        self.cases
            .iter()
            .map(|case| {
                let mut inputs: Vec<usize> = (0..=self.datasets).filter(|at| *at != case.input).collect();
                inputs.insert(0, case.input);
                Request { source: case.source.clone(), inputs, bindings: case.bindings.clone() }
            })
            .collect()
    }
}

fn json_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = fs::read_dir(dir)?.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|e| e == "json"));
    files.sort();
    Ok(files)
}

/// A Rust string has no lone surrogates: they are left as escapes, which in an expression mean the
/// same.
fn without_lone_surrogates(text: &str) -> String {
    let unit = |s: &str, from: usize| {
        s.get(from..from + 6)
            .filter(|escape| escape.starts_with("\\u"))
            .and_then(|escape| u16::from_str_radix(&escape[2..], 16).ok())
    };
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("\\u") {
        let (lone, used) = match (unit(rest, at), unit(rest, at + 6)) {
            (Some(0xd800..0xdc00), Some(0xdc00..0xe000)) => (false, 12),
            (Some(0xd800..0xe000), _) => (true, 6),
            _ => (false, 2),
        };
        out.push_str(&rest[..at]);
        if lone {
            out.push('\\');
        }
        out.push_str(&rest[at..at + used]);
        rest = &rest[at + used..];
    }
    out.push_str(rest);
    out
}
