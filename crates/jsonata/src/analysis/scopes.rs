//! Variables that are read where they are not bound.

use std::collections::BTreeSet;

use crate::ast::{Code, Extra, Group, Kind, Name, NodeId, Stage};
use crate::stack;
use crate::wtf8;

/// The names, without those of built-in functions and of the host.
pub(crate) fn variables(code: &Code) -> Vec<String> {
    let mut walk = Walk { code, scopes: vec![Scope::default()], free: BTreeSet::new() };
    walk.node(code.root);
    walk.leave();
    walk.free.into_iter().map(|name| wtf8::to_str(&name).into_owned()).collect()
}

/// The variables of a block or a function.
#[derive(Default)]
struct Scope<'c> {
    bound: BTreeSet<&'c [u8]>,
    /// Read within functions that are defined here: these run later, when all of this scope may
    /// be bound.
    later: BTreeSet<&'c [u8]>,
    is_function: bool,
}

struct Walk<'c> {
    code: &'c Code,
    scopes: Vec<Scope<'c>>,
    free: BTreeSet<Vec<u8>>,
}

impl<'c> Walk<'c> {
    fn enter(&mut self, is_function: bool) {
        self.scopes.push(Scope { is_function, ..Scope::default() });
    }

    /// Hands on what is not bound here.
    fn leave(&mut self) {
        let Some(scope) = self.scopes.pop() else { return };
        for name in scope.later.difference(&scope.bound) {
            match self.scopes.last_mut() {
                Some(outer) => {
                    outer.later.insert(name);
                }
                None => {
                    self.free.insert(name.to_vec());
                }
            }
        }
    }

    fn bind(&mut self, name: &'c Name) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.bound.insert(&name.text);
        }
    }

    fn read(&mut self, name: &'c Name) {
        if name.text.is_empty() || &*name.text == b"$" || name.global.is_some() {
            return;
        }
        for scope in self.scopes.iter_mut().rev() {
            if scope.bound.contains(&*name.text) {
                return;
            }
            if scope.is_function {
                scope.later.insert(&name.text);
                return;
            }
        }
        self.free.insert(name.text.to_vec());
    }

    fn all(&mut self, ids: &[NodeId]) {
        for id in ids {
            self.node(*id);
        }
    }

    fn pairs(&mut self, group: &'c Group) {
        for (key, value) in &group.pairs {
            self.all(&[*key, *value]);
        }
    }

    fn node(&mut self, id: NodeId) {
        stack::grow(|| self.visit(id));
    }

    fn visit(&mut self, id: NodeId) {
        let code = self.code;
        let node = &code.nodes[id as usize];
        match &node.kind {
            Kind::Variable(name) => self.read(name),
            Kind::Bind { name, rhs } => {
                self.node(*rhs);
                self.bind(name);
            }
            Kind::Block(parts) => {
                self.enter(false);
                self.all(parts);
                self.leave();
            }
            Kind::Lambda { parameters, body, .. } => {
                self.enter(true);
                parameters.iter().for_each(|p| self.bind(p));
                self.node(*body);
                self.leave();
            }
            Kind::Path { steps, .. } => {
                // What steps bind holds for the rest of the path and its grouping.
                self.enter(false);
                self.all(steps);
                if let Some(extra) = node.extra.as_deref() {
                    self.extra(extra);
                }
                self.leave();
                return;
            }
            Kind::Binary { lhs, rhs, .. } | Kind::Apply { lhs, rhs } | Kind::Default { lhs, rhs, .. } => {
                self.all(&[*lhs, *rhs]);
            }
            Kind::Negate(operand) | Kind::TailCall(operand) => self.node(*operand),
            Kind::Array(items) => self.all(items),
            Kind::Object(group) => self.pairs(group),
            Kind::Sort(terms) => terms.iter().for_each(|(_, term)| self.node(*term)),
            Kind::Call { procedure, arguments } | Kind::Partial { procedure, arguments } => {
                self.node(*procedure);
                self.all(arguments);
            }
            Kind::Condition { condition, then, otherwise } => {
                self.all(&[*condition, *then]);
                self.all(otherwise.as_slice());
            }
            Kind::Transform { pattern, update, delete } => {
                self.all(&[*pattern, *update]);
                self.all(delete.as_slice());
            }
            Kind::Name(_)
            | Kind::String(_)
            | Kind::Number(_)
            | Kind::Bool(_)
            | Kind::Null
            | Kind::Regex(_)
            | Kind::Wildcard
            | Kind::Descendant
            | Kind::Parent { .. }
            | Kind::Placeholder => {}
        }
        if let Some(extra) = node.extra.as_deref() {
            self.extra(extra);
        }
    }

    fn extra(&mut self, extra: &'c Extra) {
        extra.focus.iter().chain(&extra.index).for_each(|name| self.bind(name));
        for stage in &extra.stages {
            match stage {
                Stage::Filter(predicate) => self.node(*predicate),
                Stage::Index(name) => self.bind(name),
            }
        }
        self.all(&extra.predicates);
        extra.group.iter().for_each(|group| self.pairs(group));
    }
}
