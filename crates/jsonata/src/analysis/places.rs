//! The walk over places: see the invariant in [`super`]. Variables are taken to hold all that is
//! ever bound to their name, wherever that is; so the walk is repeated until they hold no more.

use std::collections::{BTreeMap, BTreeSet};

use super::Reads;
use crate::ast::{Code, Group, Kind, Name, NodeId, Stage};
use crate::functions::{self, TABLE};
use crate::host::HostItem;
use crate::signature::Signature;
use crate::stack;
use crate::wtf8;

/// More places than this are everything.
const PLACES_MAX: usize = 1024;
/// Variables that hold more with each walk, as `$x := $x.next`, hold everything after this many.
const WALKS_MAX: usize = 8;

const ROOT: usize = 0;

/// What the program reads.
pub(crate) fn reads(code: &Code) -> Reads {
    let mut walk = Walk {
        code,
        places: vec![Place::default()],
        variables: BTreeMap::new(),
        grown: false,
        everything: false,
        functions_take_context: functions_take_context(code),
    };
    // What is bound anywhere is a variable from the first walk on, whatever it is bound to.
    for node in &code.nodes {
        match &node.kind {
            Kind::Bind { name, .. } => {
                walk.variables.entry(&name.text).or_default();
            }
            Kind::Lambda { parameters, .. } => {
                for parameter in parameters {
                    walk.variables.entry(&parameter.text).or_default();
                }
            }
            _ => {}
        }
    }
    for _ in 0..WALKS_MAX {
        walk.grown = false;
        let result = walk.node(code.root, &Set::from([ROOT]));
        walk.consume(&result);
        if walk.everything || walk.places[ROOT].whole {
            return Reads::Everything;
        }
        if !walk.grown {
            return Reads::Fields(walk.fields());
        }
    }
    Reads::Everything
}

/// Whether a function that is called by another name than its own may take the context value for
/// an argument.
fn functions_take_context(code: &Code) -> bool {
    let called: BTreeSet<NodeId> = code
        .nodes
        .iter()
        .filter_map(|node| match &node.kind {
            Kind::Call { procedure, .. } => Some(*procedure),
            _ => None,
        })
        .collect();
    code.nodes.iter().enumerate().any(|(id, node)| match &node.kind {
        Kind::Lambda { signature: Some(signature), .. } => signature.may_take_context(0),
        Kind::Variable(name) if !called.contains(&(id as NodeId)) => {
            global(code, name).is_some_and(|signature| signature.may_take_context(0))
        }
        _ => false,
    })
}

/// The signature of the built-in or host function that a name means if nothing is bound to it.
fn global<'c>(code: &'c Code, name: &Name) -> Option<&'c Signature> {
    let index = usize::from(name.global?);
    match TABLE.get(index) {
        Some(builtin) => functions::signature(builtin),
        None => match code.host.item(index - TABLE.len()) {
            HostItem::Function(function) => Some(&function.signature),
            HostItem::Constant(_) => None,
        },
    }
}

type Set = BTreeSet<usize>;

#[derive(Default)]
struct Place<'c> {
    fields: BTreeMap<&'c [u8], usize>,
    whole: bool,
}

struct Walk<'c> {
    code: &'c Code,
    places: Vec<Place<'c>>,
    variables: BTreeMap<&'c [u8], Set>,
    /// A variable came to hold more in this walk.
    grown: bool,
    everything: bool,
    functions_take_context: bool,
}

impl<'c> Walk<'c> {
    fn fields(&self) -> Vec<Vec<String>> {
        let mut out = Vec::new();
        let mut todo: Vec<(usize, Vec<String>)> = vec![(ROOT, Vec::new())];
        while let Some((at, path)) = todo.pop() {
            let place = &self.places[at];
            if place.whole || place.fields.is_empty() {
                if at != ROOT {
                    out.push(path);
                }
                continue;
            }
            for (name, next) in &place.fields {
                let name = wtf8::to_str(name).into_owned();
                todo.push((*next, path.iter().cloned().chain([name]).collect()));
            }
        }
        out.sort();
        out
    }

    fn consume(&mut self, set: &Set) {
        for at in set {
            self.places[*at].whole = true;
        }
    }

    fn bind(&mut self, name: &'c Name, set: &Set) {
        let held = self.variables.entry(&name.text).or_default();
        let before = held.len();
        held.extend(set);
        self.grown |= held.len() > before;
    }

    fn field(&mut self, set: &Set, name: &'c [u8]) -> Set {
        let mut out = Set::new();
        for at in set {
            let next = match self.places[*at].fields.get(name) {
                Some(next) => *next,
                None if self.places.len() >= PLACES_MAX => {
                    self.everything = true;
                    continue;
                }
                None => {
                    self.places.push(Place::default());
                    let next = self.places.len() - 1;
                    self.places[*at].fields.insert(name, next);
                    next
                }
            };
            out.insert(next);
        }
        out
    }

    fn consume_node(&mut self, id: NodeId, context: &Set) {
        let set = self.node(id, context);
        self.consume(&set);
    }

    fn consume_pairs(&mut self, group: &'c Group, context: &Set) {
        for (key, value) in &group.pairs {
            self.consume_node(*key, context);
            self.consume_node(*value, context);
        }
    }

    fn node(&mut self, id: NodeId, context: &Set) -> Set {
        if self.everything {
            return Set::new();
        }
        stack::grow(|| {
            let set = self.visit(id, context);
            self.narrow(id, set)
        })
    }

    /// What the predicates and the grouping of a node make of its value.
    fn narrow(&mut self, id: NodeId, set: Set) -> Set {
        let code = self.code;
        let Some(extra) = code.nodes[id as usize].extra.as_deref() else { return set };
        for predicate in &extra.predicates {
            self.consume_node(*predicate, &set);
        }
        match &extra.group {
            Some(group) => {
                self.consume_pairs(group, &set);
                Set::new()
            }
            None => set,
        }
    }

    fn visit(&mut self, id: NodeId, context: &Set) -> Set {
        let code = self.code;
        match &code.nodes[id as usize].kind {
            Kind::Path { steps, .. } => self.path(steps, context),
            Kind::Name(name) => self.field(context, name),
            Kind::Wildcard | Kind::Descendant => {
                self.consume(context);
                Set::new()
            }
            Kind::Parent { name, .. } => match self.variables.get(&*name.text) {
                Some(set) => set.clone(),
                None => {
                    self.everything = true;
                    Set::new()
                }
            },
            Kind::Variable(name) if name.text.is_empty() => context.clone(),
            Kind::Variable(name) => {
                let mut set = self.variables.get(&*name.text).cloned().unwrap_or_default();
                if &*name.text == b"$" {
                    set.insert(ROOT);
                }
                // An expression in a text can read anything.
                self.everything |= &*name.text == b"eval";
                set
            }
            Kind::Binary { lhs, rhs, .. } => {
                self.consume_node(*lhs, context);
                self.consume_node(*rhs, context);
                Set::new()
            }
            Kind::Negate(operand) => {
                self.consume_node(*operand, context);
                Set::new()
            }
            Kind::Array(items) => items.iter().flat_map(|item| self.node(*item, context)).collect(),
            Kind::Object(group) => {
                self.consume_pairs(group, context);
                Set::new()
            }
            Kind::Bind { name, rhs } => {
                let set = self.node(*rhs, context);
                self.bind(name, &set);
                set
            }
            Kind::Apply { lhs, rhs } => {
                let left = self.node(*lhs, context);
                if let Kind::Call { procedure, arguments } = &code.nodes[*rhs as usize].kind {
                    let set = self.call(*procedure, arguments, context, Some(left));
                    return self.narrow(*rhs, set);
                }
                self.consume(&left);
                self.consume_node(*rhs, context);
                Set::new()
            }
            Kind::Call { procedure, arguments } => self.call(*procedure, arguments, context, None),
            Kind::TailCall(call) => self.node(*call, context),
            Kind::Partial { procedure, arguments } => {
                self.consume_node(*procedure, context);
                arguments.iter().for_each(|argument| self.consume_node(*argument, context));
                Set::new()
            }
            Kind::Lambda { body, .. } => {
                // What it is called with was consumed where that was done.
                self.consume_node(*body, context);
                Set::new()
            }
            Kind::Condition { condition, then, otherwise } => {
                self.consume_node(*condition, context);
                let mut set = self.node(*then, context);
                if let Some(otherwise) = otherwise {
                    set.append(&mut self.node(*otherwise, context));
                }
                set
            }
            Kind::Default { lhs, rhs, coalesce } => {
                let mut set = self.node(*lhs, context);
                if !coalesce {
                    self.consume(&set);
                }
                set.append(&mut self.node(*rhs, context));
                set
            }
            Kind::Transform { pattern, update, delete } => {
                // It works on an argument, which was consumed.
                for part in [*pattern, *update].iter().chain(delete) {
                    self.consume_node(*part, &Set::new());
                }
                Set::new()
            }
            Kind::Block(parts) => {
                let mut set = Set::new();
                for part in parts {
                    set = self.node(*part, context);
                }
                set
            }
            Kind::Sort(_)
            | Kind::String(_)
            | Kind::Number(_)
            | Kind::Bool(_)
            | Kind::Null
            | Kind::Regex(_)
            | Kind::Placeholder => Set::new(),
        }
    }

    fn path(&mut self, steps: &'c [NodeId], context: &Set) -> Set {
        let code = self.code;
        let mut current = context.clone();
        for id in steps {
            let step = &code.nodes[*id as usize];
            let extra = step.extra.as_deref();
            if let Some(name) = extra.and_then(|e| e.ancestor_name.as_ref()) {
                self.bind(name, &current);
            }
            let result = match &step.kind {
                Kind::Sort(terms) => {
                    terms.iter().for_each(|(_, term)| self.consume_node(*term, &current));
                    current.clone()
                }
                _ => self.node(*id, &current),
            };
            for stage in extra.iter().flat_map(|e| &e.stages) {
                if let Stage::Filter(predicate) = stage {
                    self.consume_node(*predicate, &result);
                }
            }
            match extra.and_then(|e| e.focus.as_ref()) {
                // The context of the next step is still that of this one.
                Some(name) => self.bind(name, &result),
                None => current = result,
            }
        }
        current
    }

    fn call(
        &mut self,
        procedure: NodeId,
        arguments: &'c [NodeId],
        context: &Set,
        applied_to: Option<Set>,
    ) -> Set {
        let code = self.code;
        let name = match &code.nodes[procedure as usize].kind {
            Kind::Variable(name) if !self.variables.contains_key(&*name.text) => Some(name),
            _ => None,
        };
        self.consume_node(procedure, context);
        let count = arguments.len() + usize::from(applied_to.is_some());
        let takes_context = match name.and_then(|name| global(code, name)) {
            Some(signature) => signature.may_take_context(count),
            None => self.functions_take_context,
        };
        if takes_context {
            self.consume(context);
        }
        if let Some(name) = name.filter(|name| name.global.is_some())
            && let Some(set) = self.higher_order(&name.text, arguments, context, applied_to.as_ref())
        {
            return set;
        }
        applied_to.iter().for_each(|set| self.consume(set));
        arguments.iter().for_each(|argument| self.consume_node(*argument, context));
        Set::new()
    }

    /// A built-in function that calls a function which is written right there with the elements
    /// of its first argument: these are followed into it.
    fn higher_order(
        &mut self,
        name: &[u8],
        arguments: &'c [NodeId],
        context: &Set,
        applied_to: Option<&Set>,
    ) -> Option<Set> {
        let gives_elements = match name {
            b"map" => false,
            b"filter" | b"single" | b"sort" | b"reduce" => true,
            _ => return None,
        };
        let (first, rest) = match applied_to {
            Some(_) => (None, arguments),
            None => arguments.split_first().map(|(first, rest)| (Some(*first), rest))?,
        };
        let (function, rest) = rest.split_first()?;
        let Kind::Lambda { parameters, body, .. } = &self.code.nodes[*function as usize].kind else {
            return None;
        };
        let mut elements = match first {
            Some(first) => self.node(first, context),
            None => applied_to.cloned().unwrap_or_default(),
        };
        // The value that `$reduce` begins with is handed on as elements are.
        for id in rest {
            elements.append(&mut self.node(*id, context));
        }
        for parameter in parameters {
            self.bind(parameter, &elements);
        }
        self.consume_node(*body, context);
        Some(if gives_elements { elements } else { Set::new() })
    }
}
