//! Deleting what a source owns and doesn't have any more, and seeing renames in it.
//!
//! Invariant: nothing is deleted that something names which stays. A rename is seen only where there is no doubt: in one
//! workspace exactly one resource of a kind goes, exactly one comes, and their specs are equal.

use std::collections::{BTreeMap, BTreeSet};

use resources::{Kind, Resource};
use store::Key;

use super::entails::{of_deletion, of_rename};
use super::snapshot::Snapshot;
use super::{Action, Named, Plan, Planned, Steps, problem};
use crate::Error;
use crate::decide::named;

/// Dependants that a problem names.
const SHOWN_MAX: usize = 20;

/// Adds the deletions of these to the plan.
pub(super) fn prune(
    orphans: Vec<(Key, Resource)>,
    snapshot: &Snapshot<'_>,
    plan: &mut Plan,
) -> Result<(), Error> {
    let going: BTreeSet<Key> = orphans.iter().map(|(key, _)| key.clone()).collect();
    let dependants = dependants(snapshot)?;
    for key in &going {
        let staying = dependants.get(key).into_iter().flatten().filter(|other| !going.contains(other));
        let staying: Vec<String> =
            staying.take(SHOWN_MAX).map(|other| format!("{} {}", other.kind, other.name)).collect();
        if !staying.is_empty() {
            let message = format!(
                "{} {} would be pruned, but is named by {}, which stays",
                key.kind,
                key.name,
                staying.join(", ")
            );
            plan.problem(None, Some(key), problem("", "in_use", message));
        }
    }
    let mut renames = renames(&orphans, snapshot, plan)?;
    for (key, resource) in in_order(orphans, &dependants) {
        let delete = Some((key.clone(), resource.metadata.revision));
        if let Some(at) = renames.remove(&key) {
            let change = &mut plan.changes[at];
            change.action = Action::Rename;
            change.warnings.extend(of_rename(key.kind, &key.name));
            change.from = Some(key.name);
            change.steps.delete = delete;
            continue;
        }
        plan.changes.push(Planned {
            action: Action::Delete,
            named: Named::from(&key),
            from: None,
            index: None,
            revision: Some(resource.metadata.revision),
            fields: Vec::new(),
            fields_left_out: 0,
            warnings: of_deletion(key.kind).into_iter().collect(),
            steps: Steps { delete, ..Steps::default() },
        });
    }
    Ok(())
}

/// Who names a resource, as it will be.
fn dependants(snapshot: &Snapshot<'_>) -> Result<BTreeMap<Key, BTreeSet<Key>>, Error> {
    let mut dependants: BTreeMap<Key, BTreeSet<Key>> = BTreeMap::new();
    for (key, resource) in snapshot.resources()? {
        let mut names: BTreeSet<Key> =
            named(&resource)?.into_iter().map(|(kind, name)| Key::new(&key.workspace, kind, name)).collect();
        if key.kind != Kind::Workspace {
            names.insert(Key::new(&key.workspace, Kind::Workspace, &key.workspace));
        }
        for name in names {
            dependants.entry(name).or_default().insert(key.clone());
        }
    }
    Ok(dependants)
}

/// So that each can be deleted when it is its turn: what names comes before what is named.
fn in_order(
    orphans: Vec<(Key, Resource)>,
    dependants: &BTreeMap<Key, BTreeSet<Key>>,
) -> Vec<(Key, Resource)> {
    let mut left = orphans;
    left.sort_by_key(|(key, _)| std::cmp::Reverse(key.kind));
    let mut ordered = Vec::with_capacity(left.len());
    // Only topics name others of their kind, as dead-letter topics: a chain is as long as its rounds.
    while !left.is_empty() {
        let waiting: BTreeSet<Key> = left.iter().map(|(key, _)| key.clone()).collect();
        let is_named = |key: &Key| {
            dependants
                .get(key)
                .is_some_and(|all| all.iter().any(|other| waiting.contains(other) && other != key))
        };
        let (named, free): (Vec<_>, Vec<_>) = left.into_iter().partition(|(key, _)| is_named(key));
        if free.is_empty() {
            // They name one another: deleting them says so.
            ordered.extend(named);
            break;
        }
        ordered.extend(free);
        left = named;
    }
    ordered
}

/// By what goes: the change that makes it anew.
fn renames(
    orphans: &[(Key, Resource)],
    snapshot: &Snapshot<'_>,
    plan: &Plan,
) -> Result<BTreeMap<Key, usize>, Error> {
    type Same = (String, Kind, String);
    let same = |key: &Key, resource: &Resource| -> Same {
        (key.workspace.clone(), key.kind, resource.spec.to_string())
    };
    let mut coming: BTreeMap<Same, Vec<usize>> = BTreeMap::new();
    for (at, change) in plan.changes.iter().enumerate() {
        let Named { kind, workspace, name } = &change.named;
        // A workspace's spec says next to nothing of who it is.
        if change.action == Action::Create && *kind != Kind::Workspace {
            let key = Key::new(workspace, *kind, name);
            if let Some(resource) = snapshot.resource(&key)? {
                coming.entry(same(&key, &resource)).or_default().push(at);
            }
        }
    }
    let mut going: BTreeMap<Same, Vec<&Key>> = BTreeMap::new();
    for (key, resource) in orphans {
        going.entry(same(key, resource)).or_default().push(key);
    }
    let pairs =
        going.into_iter().filter_map(|(same, keys)| match (keys.as_slice(), coming.get(&same)?.as_slice()) {
            ([key], [at]) => Some(((*key).clone(), *at)),
            _ => None,
        });
    Ok(pairs.collect())
}
