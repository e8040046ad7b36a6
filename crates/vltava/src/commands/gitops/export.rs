//! What exists as manifests: one file a resource, or one text.
//!
//! Invariant: what is written reads back as what is there. A file that this command didn't write is never overwritten unasked,
//! and where one is in the way nothing is written at all.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use resources::{Kind, MANIFESTS_MAX, Manifest, Origin, Resource, UNOWNED};
use serde_json::Value;

use super::lists::{list, workspaces};
use crate::cli::{EXPORTED, Export};
use crate::commands::http;
use crate::commands::jsonata::source::is_stdin;
use crate::output;

/// The first line of every file that is written.
const MARK: &str =
    "# Written by `vltava export`, which overwrites it. Take this line away to keep what you change.\n";

/// A resource's file.
#[derive(Debug, PartialEq, Eq)]
struct File {
    /// Below the folder.
    path: PathBuf,
    text: String,
}

pub(crate) async fn export(export: Export) -> Result<()> {
    let found = find(&export).await?;
    let manifests = manifests(&found)?;
    ensure!(!manifests.is_empty(), "there is nothing of that kind: nothing was written");
    if is_stdin(&export.path) {
        let texts: Result<Vec<String>> = manifests.iter().map(yaml).collect();
        output::line(texts?.join("---\n").trim_end_matches('\n'));
    } else {
        let files: Vec<File> = manifests.iter().map(file).collect::<Result<_>>()?;
        let (written, unchanged) = write(&export.path, &files, export.force)?;
        output::line(format_args!("exported: {written} written, {unchanged} unchanged"));
    }
    let unowned =
        found.iter().filter(|resource| UNOWNED.contains(&resource.metadata.managed_by.as_str())).count();
    if unowned > 0 {
        output::note(format_args!(
            "{unowned} of them are owned by nobody: the first apply makes them its source's"
        ));
    }
    Ok(())
}

/// What is there of what is meant, in the order in which it is applied.
async fn find(export: &Export) -> Result<Vec<Resource>> {
    let Export { workspace, source, kinds, url, .. } = export;
    let url = &url.url;
    let is_meant = |kind: Kind| kinds.is_empty() || kinds.contains(&kind);
    let client = http(url).await?;
    let all = workspaces(&client, url, workspace.as_deref()).await?;
    let names: Vec<String> = all.iter().map(|resource| resource.metadata.name.clone()).collect();
    let mut found = if is_meant(Kind::Workspace) { all } else { Vec::new() };
    for kind in EXPORTED.into_iter().skip(1).filter(|kind| is_meant(*kind)) {
        for name in &names {
            found.extend(list(&client, url, kind, name).await?);
        }
    }
    found.retain(|resource| source.as_ref().is_none_or(|source| *source == resource.metadata.managed_by));
    ensure!(
        found.len() <= MANIFESTS_MAX,
        "there are more than {MANIFESTS_MAX} resources, which no folder may have: say --workspace, --source or --kind"
    );
    Ok(found)
}

/// As people would write them.
fn manifests(found: &[Resource]) -> Result<Vec<Manifest>> {
    let newest: BTreeMap<(&str, &str), u64> = found
        .iter()
        .filter(|resource| resource.kind == Kind::Transform)
        .filter_map(|resource| {
            let Resource { metadata, status, .. } = resource;
            Some(((metadata.workspace.as_str(), metadata.name.as_str()), status.get("version")?.as_u64()?))
        })
        .collect();
    let manifest = |resource: &Resource| {
        let mut spec = resource.spec.clone();
        for step in spec.get_mut("steps").and_then(Value::as_array_mut).into_iter().flatten() {
            let transform = step.get("transform").and_then(Value::as_str).unwrap_or_default();
            let newest = newest.get(&(resource.metadata.workspace.as_str(), transform));
            // The newest of what lies beside it: the server fills that in. Elsewhere it would be another number.
            if newest.is_some()
                && newest.copied() == step.get("version").and_then(Value::as_u64)
                && let Some(step) = step.as_object_mut()
            {
                step.shift_remove("version");
            }
        }
        let mut value = serde_json::to_value(resource)?;
        value["spec"] = spec;
        let named =
            || format!("{} {}/{}", resource.kind, resource.metadata.workspace, resource.metadata.name);
        let mut manifest = Manifest::decode(&value, Origin::Api)
            .map_err(|problems| anyhow::anyhow!("{} isn't what this version writes: {problems}", named()))?;
        if manifest.kind() == Kind::Workspace {
            manifest.workspace = None;
        }
        Ok(manifest)
    };
    found.iter().map(manifest).collect()
}

fn yaml(manifest: &Manifest) -> Result<String> {
    manifest.to_yaml().with_context(|| {
        format!("{} {} can't be said in YAML: -f DIR writes it as JSON", manifest.kind(), manifest.name)
    })
}

/// Where a manifest belongs, and what stands there. JSON where YAML can't say it.
fn file(manifest: &Manifest) -> Result<File> {
    let (ending, text) = match manifest.to_yaml() {
        Some(yaml) => ("yaml", format!("{MARK}{yaml}")),
        None => ("json", format!("{}\n", serde_json::to_string_pretty(&manifest.to_short_value())?)),
    };
    let Manifest { name, workspace, .. } = manifest;
    let path = match manifest.kind() {
        Kind::Workspace => Path::new(name).join(format!("workspace.{ending}")),
        kind => {
            let workspace = workspace.as_deref().context("a resource belongs to a workspace")?;
            Path::new(workspace).join(kind.plural()).join(format!("{name}.{ending}"))
        }
    };
    Ok(File { path, text })
}

/// Writes files; how many, and how many were as they should be.
fn write(folder: &Path, files: &[File], force: bool) -> Result<(usize, usize)> {
    let mut changed = Vec::new();
    let mut others = Vec::new();
    for File { path, text } in files {
        let path = folder.join(path);
        match std::fs::read(&path) {
            Ok(there) if there == text.as_bytes() => {}
            Ok(there) if !force && !there.starts_with(MARK.as_bytes()) => {
                others.push(path.display().to_string())
            }
            Ok(_) => changed.push((path, text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => changed.push((path, text)),
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        }
    }
    if !others.is_empty() {
        bail!(
            "{} file(s) weren't written by `vltava export`, and nothing was: --force overwrites them:\n  {}",
            others.len(),
            others.join("\n  ")
        );
    }
    for (path, text) in &changed {
        replace(path, text).with_context(|| path.display().to_string())?;
    }
    Ok((changed.len(), files.len() - changed.len()))
}

/// A file is there as a whole, or as it was before.
fn replace(path: &Path, text: &str) -> Result<()> {
    let name = path.file_name().and_then(|name| name.to_str()).context("no file's name")?;
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    // A name that begins with a dot is no manifest.
    let unfinished = path.with_file_name(format!(".{name}.unfinished"));
    std::fs::write(&unfinished, text)?;
    Ok(std::fs::rename(&unfinished, path)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> File {
        File { path: path.into(), text: text.into() }
    }

    #[test]
    fn what_others_wrote_is_overwritten_only_by_force() {
        let dir = tempfile::tempdir().unwrap();
        let mine = format!("{MARK}a: 1\n");
        assert_eq!(write(dir.path(), &[file("w/a.yaml", &mine)], false).unwrap(), (1, 0));
        assert_eq!(write(dir.path(), &[file("w/a.yaml", &mine)], false).unwrap(), (0, 1));
        let newer = format!("{MARK}a: 2\n");
        assert_eq!(write(dir.path(), &[file("w/a.yaml", &newer)], false).unwrap(), (1, 0));

        std::fs::write(dir.path().join("w/b.yaml"), "b: 1\n").unwrap();
        let both = [file("w/a.yaml", &mine), file("w/b.yaml", &mine)];
        let refused = write(dir.path(), &both, false).unwrap_err().to_string();
        assert!(refused.contains("b.yaml") && refused.contains("--force"), "{refused}");
        assert_eq!(
            std::fs::read_to_string(dir.path().join("w/a.yaml")).unwrap(),
            newer,
            "nothing was written"
        );
        assert_eq!(write(dir.path(), &both, true).unwrap(), (2, 0));
        assert_eq!(std::fs::read_dir(dir.path().join("w")).unwrap().count(), 2, "nothing unfinished is left");
    }
}
