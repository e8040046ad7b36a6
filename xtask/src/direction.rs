//! Crates depend strictly downward: each on crates of lower layers only. ARCHITECTURE.md says what
//! the layers mean.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use cargo_metadata::{DependencyKind, MetadataCommand};

/// From the top down. A crate may depend on those of later rows, never of its own or an earlier one.
const LAYERS: [&[&str]; 9] = [
    &["xtask"],
    &["vltava"],
    &["control", "ingest"],
    &["pipeline", "connectors", "broker"],
    &["connect"],
    &["deadletter"],
    &["kafka", "store", "auth"],
    &["resources", "wire", "runtime"],
    &["types", "jsonata"],
];

/// Crates that must not meet, whatever their layers are: (who, whom it must not see).
const APART: [(&str, &str); 4] =
    [("connectors", "store"), ("connect", "store"), ("broker", "kafka"), ("pipeline", "store")];

/// Only for tests: any crate may have it as a dev-dependency, none as another.
const TESTKIT: &str = "testkit";

fn layers() -> BTreeMap<&'static str, usize> {
    LAYERS
        .iter()
        .enumerate()
        .flat_map(|(layer, names)| names.iter().map(move |name| (*name, layer)))
        .collect()
}

/// Reads `cargo metadata` and reports every dependency that points the wrong way.
pub(crate) fn check() -> Result<()> {
    let metadata = MetadataCommand::new().no_deps().other_options(vec!["--offline".into()]).exec()?;
    let layers = layers();
    let members: Vec<&str> = metadata.packages.iter().map(|p| p.name.as_str()).collect();
    let mut wrong = Vec::new();
    let mut seen = 0;
    for package in &metadata.packages {
        let from = package.name.as_str();
        if from == TESTKIT {
            continue;
        }
        let layer =
            layers.get(from).with_context(|| format!("crate {from} has no layer: give it one here"))?;
        for dependency in package.dependencies.iter().filter(|d| members.contains(&d.name.as_str())) {
            let to = dependency.name.as_str();
            // Tests may start what they like.
            if dependency.kind == DependencyKind::Development {
                continue;
            }
            seen += 1;
            let below = layers.get(to).with_context(|| format!("crate {to} has no layer: give it one here"));
            if to == TESTKIT || below? <= layer {
                wrong.push(format!("{from} -> {to}: it may depend on lower layers only"));
            }
            if APART.contains(&(from, to)) {
                wrong.push(format!("{from} -> {to}: they must not meet"));
            }
        }
        if from == "jsonata" && package.dependencies.iter().any(|d| members.contains(&d.name.as_str())) {
            wrong.push("jsonata depends on a crate of ours; it depends on none".into());
        }
    }
    if seen == 0 {
        bail!("no dependency between crates was found: the check checked nothing");
    }
    if !wrong.is_empty() {
        bail!("dependencies that point the wrong way:\n  {}", wrong.join("\n  "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn crates_depend_downward_only() {
        super::check().unwrap();
    }
}
