//! Calls of host functions that cannot succeed are refused when a program is compiled.

use std::collections::BTreeSet;

use crate::ast::{Code, Kind, NodeId, Stage};
use crate::error::Raise;
use crate::host::HostItem;

/// The letter of what a node always gives, in a signature.
fn letter(code: &Code, id: NodeId) -> Option<(u8, &'static str)> {
    Some(match &code.nodes[id as usize].kind {
        Kind::String(_) => (b's', "a string"),
        Kind::Number(_) => (b'n', "a number"),
        Kind::Bool(_) => (b'b', "a boolean"),
        Kind::Null => (b'l', "null"),
        Kind::Lambda { .. } | Kind::Regex(_) => (b'f', "a function"),
        _ => return None,
    })
}

/// Checks all calls by name of functions of the host whose names the program binds nowhere.
pub(crate) fn check_host_calls(code: &Code) -> Result<(), Box<Raise>> {
    if code.host.len() == 0 {
        return Ok(());
    }
    let mut bound: BTreeSet<&[u8]> = BTreeSet::new();
    // Calls that get what stands in front of `~>` as a first argument.
    let mut applied: BTreeSet<NodeId> = BTreeSet::new();
    for node in &code.nodes {
        match &node.kind {
            Kind::Bind { name, .. } => {
                bound.insert(&name.text);
            }
            Kind::Lambda { parameters, .. } => bound.extend(parameters.iter().map(|p| &*p.text)),
            Kind::Apply { rhs, .. } => {
                applied.insert(*rhs);
            }
            _ => {}
        }
        if let Some(extra) = &node.extra {
            bound.extend(extra.focus.iter().chain(&extra.index).map(|n| &*n.text));
            bound.extend(extra.stages.iter().filter_map(|stage| match stage {
                Stage::Index(name) => Some(&*name.text),
                Stage::Filter(_) => None,
            }));
        }
    }
    let builtins = crate::functions::TABLE.len();
    for (id, node) in code.nodes.iter().enumerate() {
        let Kind::Call { procedure, arguments } = &node.kind else { continue };
        let Kind::Variable(name) = &code.nodes[*procedure as usize].kind else { continue };
        let Some(index) = name.global.map(usize::from).filter(|i| *i >= builtins) else { continue };
        if bound.contains(&*name.text) {
            continue;
        }
        let token = crate::wtf8::to_str(&name.text).into_owned();
        let HostItem::Function(function) = code.host.item(index - builtins) else {
            return Err(Raise::new("T1006").at(node.span).token(token));
        };
        let first = applied.contains(&(id as NodeId)).then_some(None);
        let known: Vec<Option<(u8, &str)>> =
            first.into_iter().chain(arguments.iter().map(|a| letter(code, *a))).collect();
        let letters: Vec<Option<u8>> = known.iter().map(|k| k.map(|(letter, _)| letter)).collect();
        if let Some(index) = function.signature.misfit(&letters) {
            let value =
                known.get(index - 1).map_or("nothing", |k| k.map_or("one too many", |(_, name)| name));
            return Err(Raise::new("T0410").at(node.span).token(token).index(index).value(value));
        }
    }
    Ok(())
}
