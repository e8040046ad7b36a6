//! From the parsed tree to the compiled one: paths become flat lists of steps, predicates hang
//! on their steps, and every `%` finds the step whose parent it means. Follows jsonata-js in
//! what it makes of each construct, since evaluation depends on the shape.

use crate::analysis;
use crate::ast::{Code, Extra, Group, Kind, Name, Node, NodeId, Op, Raw, RawId, RawKind, Stage};
use crate::error::{Raise, Span};
use crate::faults::Faults;
use crate::host::Host;
use crate::json::write;
use crate::parse::{self, Parsed};
use crate::regex::Regex;
use crate::stack;

type Result<T> = std::result::Result<T, Box<Raise>>;

/// The longest source that is compiled.
pub(crate) const SOURCE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Compiles a text that may use what the host has.
pub(crate) fn compile(source: &str, host: &Host) -> Result<Code> {
    if source.len() > SOURCE_BYTES_MAX {
        return Err(Raise::new("S0902").at(Span { start: 0, end: 0 }));
    }
    let units: Vec<u16> = source.encode_utf16().collect();
    let parsed = parse::parse(&units)?;
    let mut compiler = Compiler::new(parsed.nodes, None, host.clone());
    let root = compiler.whole(parsed.root)?;
    let code = Code { nodes: compiler.finish(), root, source: source.into(), host: host.clone() };
    analysis::check_host_calls(&code)?;
    Ok(code)
}

/// Finds what is wrong with a parsed text besides what the parser has found.
pub(crate) fn check(parsed: Parsed, faults: Faults) -> Result<Faults> {
    let mut compiler = Compiler::new(parsed.nodes, Some(faults), Host::new());
    compiler.whole(parsed.root)?;
    Ok(compiler.faults.unwrap_or_default())
}

/// A `%` that looks for its step. Slots that end at the same step share a label.
struct Slot {
    label: usize,
    level: i64,
}

struct Compiler {
    raw: Vec<Raw>,
    nodes: Vec<Node>,
    slots: Vec<Slot>,
    /// Where errors are collected; without it the first one ends the compilation.
    faults: Option<Faults>,
    host: Host,
}

/// What jsonata-js calls a node, for error tokens.
fn type_name(kind: &Kind) -> &'static str {
    match kind {
        Kind::Path { .. } => "path",
        Kind::Name(_) => "name",
        Kind::String(_) => "string",
        Kind::Number(_) => "number",
        Kind::Bool(_) | Kind::Null => "value",
        Kind::Regex(_) => "regex",
        Kind::Wildcard => "wildcard",
        Kind::Descendant => "descendant",
        Kind::Parent { .. } => "parent",
        Kind::Variable(_) => "variable",
        Kind::Placeholder => "operator",
        Kind::Binary { .. } => "binary",
        Kind::Negate(_) | Kind::Array(_) | Kind::Object(_) => "unary",
        Kind::Sort(_) => "sort",
        Kind::Bind { .. } => "bind",
        Kind::Apply { .. } => "apply",
        Kind::Call { .. } => "function",
        Kind::Partial { .. } => "partial",
        Kind::Lambda { .. } | Kind::TailCall(_) => "lambda",
        Kind::Condition { .. } | Kind::Default { .. } => "condition",
        Kind::Transform { .. } => "transform",
        Kind::Block(_) => "block",
    }
}

fn slot_name(label: usize) -> Name {
    Name::new(format!("!{label}").as_bytes())
}

impl Compiler {
    fn new(raw: Vec<Raw>, faults: Option<Faults>, host: Host) -> Self {
        Self { raw, nodes: Vec::new(), slots: Vec::new(), faults, host }
    }

    /// A name that the program wrote.
    fn written(&self, text: &[u8]) -> Name {
        let mut name = Name::new(text);
        if name.global.is_none() {
            name.global = self.host.find(text).map(|index| crate::functions::TABLE.len() as u16 + index);
        }
        name
    }

    fn whole(&mut self, root: RawId) -> Result<NodeId> {
        let root = self.process(root)?;
        let node = &self.nodes[root as usize];
        if matches!(node.kind, Kind::Parent { .. }) || !self.seeking(root).is_empty() {
            let raise = Raise::new("S0217").at(node.span).token(type_name(&node.kind));
            return self.recover(raise);
        }
        Ok(root)
    }

    /// Where errors are collected, something stands in for a node that has one. A wildcard can be
    /// a step and have a parent, so that it causes no further error.
    fn recover(&mut self, raise: Box<Raise>) -> Result<NodeId> {
        let Some(faults) = &mut self.faults else { return Err(raise) };
        let span = raise.span;
        faults.report(*raise);
        Ok(self.add(Kind::Wildcard, span))
    }

    fn finish(mut self) -> Vec<Node> {
        let labels: Vec<usize> = self.slots.iter().map(|s| s.label).collect();
        for node in &mut self.nodes {
            if let Kind::Parent { slot, name } = &mut node.kind {
                *name = slot_name(labels[*slot]);
            }
            if let Some(extra) = &mut node.extra
                && let Some(slot) = extra.ancestor
            {
                extra.ancestor_name = Some(slot_name(labels[slot]));
            }
        }
        let is_name: Vec<bool> = self.nodes.iter().map(Node::is_bare_name).collect();
        for node in &mut self.nodes {
            if let Kind::Path { steps, names, .. } = &mut node.kind {
                *names = steps.iter().take_while(|step| is_name[**step as usize]).count();
            }
        }
        self.nodes
    }

    fn add(&mut self, kind: Kind, span: Span) -> NodeId {
        self.nodes.push(Node { kind, span, keep_array: false, cons: false, tuple: false, extra: None });
        self.nodes.len() as NodeId - 1
    }

    fn node(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id as usize]
    }

    fn extra(&mut self, id: NodeId) -> &mut Extra {
        self.nodes[id as usize].extra.get_or_insert_default()
    }

    fn seeking(&self, id: NodeId) -> &[usize] {
        self.nodes[id as usize].extra.as_deref().map_or(&[], |e| &e.seeking)
    }

    fn has(&self, id: NodeId, test: impl Fn(&Extra) -> bool) -> bool {
        self.nodes[id as usize].extra.as_deref().is_some_and(test)
    }

    fn process(&mut self, id: RawId) -> Result<NodeId> {
        stack::grow(|| self.process_node(id)).or_else(|raise| self.recover(raise))
    }

    fn process_all(&mut self, ids: &[RawId], parent_of: Option<&mut Vec<usize>>) -> Result<Vec<NodeId>> {
        let mut out = Vec::with_capacity(ids.len());
        let mut seeking = Vec::new();
        for id in ids {
            let node = self.process(*id)?;
            self.collect(node, &mut seeking);
            out.push(node);
        }
        if let Some(parents) = parent_of {
            parents.append(&mut seeking);
        }
        Ok(out)
    }

    /// Adds the slots that `value` leaves open.
    fn collect(&self, value: NodeId, into: &mut Vec<usize>) {
        into.extend_from_slice(self.seeking(value));
        if let Kind::Parent { slot, .. } = self.nodes[value as usize].kind {
            into.push(slot);
        }
    }

    fn seek_from(&mut self, result: NodeId, values: &[NodeId]) {
        let mut seeking = Vec::new();
        for value in values {
            self.collect(*value, &mut seeking);
        }
        if !seeking.is_empty() {
            self.extra(result).seeking.append(&mut seeking);
        }
    }

    fn process_node(&mut self, id: RawId) -> Result<NodeId> {
        let span = self.raw[id as usize].span;
        let keep_array = self.raw[id as usize].keep_array;
        // The parsed node is used up, but for what a later error shows of it.
        let kind = std::mem::replace(&mut self.raw[id as usize].kind, RawKind::Null);
        let result = match kind {
            RawKind::Name(name) => self.name(name, span, keep_array),
            RawKind::Word(word) => self.name(word.as_bytes().into(), span, keep_array),
            RawKind::Variable(name) => {
                let name = self.written(&name);
                self.add(Kind::Variable(name), span)
            }
            RawKind::String(text) => self.add(Kind::String(text), span),
            RawKind::Number(number) => self.add(Kind::Number(number), span),
            RawKind::Bool(b) => self.add(Kind::Bool(b), span),
            RawKind::Null => self.add(Kind::Null, span),
            RawKind::Regex { pattern, ignore_case, multi_line } => {
                let regex = Regex::compile(&pattern, ignore_case, multi_line)
                    .map_err(|text| Raise::new("S0303").at(span).text(text))?;
                self.add(Kind::Regex(Box::new(regex)), span)
            }
            RawKind::Placeholder => self.add(Kind::Placeholder, span),
            RawKind::Wildcard => self.add(Kind::Wildcard, span),
            RawKind::Descendant => self.add(Kind::Descendant, span),
            RawKind::Parent => {
                let slot = self.slots.len();
                self.slots.push(Slot { label: slot, level: 1 });
                self.add(Kind::Parent { slot, name: Name::new(b"") }, span)
            }
            RawKind::End => return Err(Raise::new("S0207").at(span).token("(end)")),
            RawKind::Invalid(parts) => {
                self.process_all(&parts, None)?;
                self.add(Kind::Wildcard, span)
            }
            RawKind::Map { lhs, rhs } => self.map(lhs, rhs)?,
            RawKind::Filter { lhs, rhs } => self.filter(lhs, rhs, span)?,
            RawKind::Group { lhs, pairs } => self.group(lhs, &pairs, span)?,
            RawKind::Sort { lhs, terms } => self.sort(lhs, &terms, span)?,
            RawKind::Bind { variable, rhs } => {
                let name = self.variable_name(variable);
                let rhs = self.process(rhs)?;
                let id = self.add(Kind::Bind { name, rhs }, span);
                self.seek_from(id, &[rhs]);
                id
            }
            RawKind::Focus { lhs, variable } => self.focus(lhs, variable, keep_array, span)?,
            RawKind::Index { lhs, variable } => self.index(lhs, variable)?,
            RawKind::Apply { lhs, rhs } => {
                let lhs = self.process(lhs)?;
                let rhs = self.process(rhs)?;
                let keep = self.node(lhs).keep_array || self.node(rhs).keep_array;
                let id = self.add(Kind::Apply { lhs, rhs }, span);
                self.node(id).keep_array = keep;
                id
            }
            RawKind::Binary { op, lhs, rhs } => {
                let lhs = self.process(lhs)?;
                let rhs = self.process(rhs)?;
                let id = self.add(Kind::Binary { op, lhs, rhs }, span);
                self.seek_from(id, &[lhs, rhs]);
                id
            }
            RawKind::Negate(operand) => self.negate(operand, span)?,
            RawKind::Array(items) => {
                let mut seeking = Vec::new();
                let items = self.process_all(&items, Some(&mut seeking))?;
                let id = self.add(Kind::Array(items.into()), span);
                self.seek(id, seeking);
                id
            }
            RawKind::Object(pairs) => {
                let pairs = self.pairs(&pairs)?;
                let all: Vec<NodeId> = pairs.iter().flat_map(|(k, v)| [*k, *v]).collect();
                let group = self.group_of(pairs, span);
                let id = self.add(Kind::Object(group), span);
                self.seek_from(id, &all);
                id
            }
            RawKind::Call { procedure, arguments, partial } => {
                let mut seeking = Vec::new();
                let arguments = self.process_all(&arguments, Some(&mut seeking))?.into();
                let procedure = self.process(procedure)?;
                let kind = if partial {
                    Kind::Partial { procedure, arguments }
                } else {
                    Kind::Call { procedure, arguments }
                };
                let id = self.add(kind, span);
                self.seek(id, seeking);
                id
            }
            RawKind::Lambda { parameters, signature, body } => {
                let parameters = parameters.iter().map(|p| self.variable_name(*p)).collect();
                let body = self.process(body)?;
                let body = self.tail(body);
                self.add(Kind::Lambda { parameters, signature, body }, span)
            }
            RawKind::Condition { condition, then, otherwise } => {
                let condition = self.process(condition)?;
                let then = self.process(then)?;
                let otherwise = otherwise.map(|id| self.process(id)).transpose()?;
                let id = self.add(Kind::Condition { condition, then, otherwise }, span);
                self.seek_from(id, &[condition, then]);
                self.seek_from(id, otherwise.as_slice());
                id
            }
            RawKind::Default { lhs, rhs, coalesce } => {
                let lhs = self.process(lhs)?;
                let rhs = self.process(rhs)?;
                let id = self.add(Kind::Default { lhs, rhs, coalesce }, span);
                self.seek_from(id, &[lhs, rhs]);
                id
            }
            RawKind::Transform { pattern, update, delete } => {
                let pattern = self.process(pattern)?;
                let update = self.process(update)?;
                let delete = delete.map(|id| self.process(id)).transpose()?;
                self.add(Kind::Transform { pattern, update, delete }, span)
            }
            RawKind::Block(expressions) => {
                let mut seeking = Vec::new();
                let parts = self.process_all(&expressions, Some(&mut seeking))?;
                let cons = parts.iter().any(|part| {
                    let node = &self.nodes[*part as usize];
                    let first = match &node.kind {
                        Kind::Path { steps, .. } => self.nodes[steps[0] as usize].cons,
                        _ => false,
                    };
                    node.cons || first
                });
                let id = self.add(Kind::Block(parts.into()), span);
                self.node(id).cons = cons;
                self.seek(id, seeking);
                id
            }
        };
        if keep_array {
            self.node(result).keep_array = true;
        }
        Ok(result)
    }

    fn seek(&mut self, id: NodeId, mut seeking: Vec<usize>) {
        if !seeking.is_empty() {
            self.extra(id).seeking.append(&mut seeking);
        }
    }

    fn name(&mut self, name: Box<[u8]>, span: Span, keep_array: bool) -> NodeId {
        let step = self.add(Kind::Name(name), span);
        self.node(step).keep_array = keep_array;
        self.add(Kind::Path { steps: vec![step], keep_singleton: keep_array, names: 0 }, span)
    }

    fn variable_name(&self, id: RawId) -> Name {
        match &self.raw[id as usize].kind {
            RawKind::Variable(name) => self.written(name),
            _ => Name::new(b""),
        }
    }

    fn pairs(&mut self, pairs: &[(RawId, RawId)]) -> Result<Vec<(NodeId, NodeId)>> {
        pairs.iter().map(|(key, value)| Ok((self.process(*key)?, self.process(*value)?))).collect()
    }

    fn negate(&mut self, operand: RawId, span: Span) -> Result<NodeId> {
        let operand = self.process(operand)?;
        if let Kind::Number(number) = &mut self.node(operand).kind {
            *number = -*number;
            return Ok(operand);
        }
        let id = self.add(Kind::Negate(operand), span);
        self.seek_from(id, &[operand]);
        Ok(id)
    }

    fn steps(&mut self, path: NodeId) -> &mut Vec<NodeId> {
        match &mut self.nodes[path as usize].kind {
            Kind::Path { steps, .. } => steps,
            _ => unreachable!("only called with paths"),
        }
    }

    fn is_path(&self, id: NodeId) -> bool {
        matches!(self.nodes[id as usize].kind, Kind::Path { .. })
    }

    fn last_step(&self, id: NodeId) -> NodeId {
        match &self.nodes[id as usize].kind {
            Kind::Path { steps, .. } => steps[steps.len() - 1],
            _ => id,
        }
    }

    fn wrap(&mut self, step: NodeId) -> NodeId {
        self.add(Kind::Path { steps: vec![step], keep_singleton: false, names: 0 }, Span::NONE)
    }

    fn map(&mut self, lhs: RawId, rhs: RawId) -> Result<NodeId> {
        let left = self.process(lhs)?;
        let path = if self.is_path(left) { left } else { self.wrap(left) };
        if let Kind::Parent { slot, .. } = self.node(left).kind {
            self.extra(path).seeking = vec![slot];
        }
        let rest = self.process(rhs)?;
        if self.is_path(rest) {
            let steps = std::mem::take(self.steps(rest));
            self.steps(path).extend(steps);
        } else {
            if let Some(extra) = self.node(rest).extra.as_deref_mut()
                && !extra.predicates.is_empty()
            {
                extra.stages = std::mem::take(&mut extra.predicates).into_iter().map(Stage::Filter).collect();
            }
            self.steps(path).push(rest);
        }
        let steps = self.steps(path).clone();
        let mut keep = false;
        for step in &steps {
            let node = self.node(*step);
            keep |= node.keep_array;
            let literal = match &mut node.kind {
                Kind::Number(number) => crate::number::to_string(*number),
                Kind::Bool(b) => b.to_string(),
                Kind::Null => "null".to_owned(),
                Kind::String(text) => {
                    node.kind = Kind::Name(std::mem::take(text));
                    continue;
                }
                _ => continue,
            };
            return Err(Raise::new("S0213").at(node.span).value(literal));
        }
        if keep && let Kind::Path { keep_singleton, .. } = &mut self.node(path).kind {
            *keep_singleton = true;
        }
        for step in [steps[0], steps[steps.len() - 1]] {
            if matches!(self.node(step).kind, Kind::Array(_)) {
                self.node(step).cons = true;
            }
        }
        self.resolve_parents(path)?;
        Ok(path)
    }

    fn filter(&mut self, lhs: RawId, rhs: RawId, span: Span) -> Result<NodeId> {
        let result = self.process(lhs)?;
        let step = self.last_step(result);
        if self.has(step, |e| e.group.is_some()) {
            return Err(Raise::new("S0209").at(span));
        }
        let predicate = self.process(rhs)?;
        for slot in self.seeking(predicate).to_vec() {
            if self.slots[slot].level == 1 {
                self.seek_parent(step, slot)?;
            } else {
                self.slots[slot].level -= 1;
            }
        }
        self.seek_from(step, &[predicate]);
        if self.is_path(result) {
            self.extra(step).stages.push(Stage::Filter(predicate));
        } else {
            self.extra(step).predicates.push(predicate);
        }
        Ok(result)
    }

    fn group(&mut self, lhs: RawId, pairs: &[(RawId, RawId)], span: Span) -> Result<NodeId> {
        let result = self.process(lhs)?;
        if self.has(result, |e| e.group.is_some()) {
            return Err(Raise::new("S0210").at(span));
        }
        let pairs = self.pairs(pairs)?;
        self.extra(result).group = Some(self.group_of(pairs, span));
        Ok(result)
    }

    fn group_of(&self, pairs: Vec<(NodeId, NodeId)>, span: Span) -> Group {
        let mut seen = std::collections::HashSet::new();
        let is_plain = pairs.iter().all(|(key, _)| match &self.nodes[*key as usize] {
            Node { kind: Kind::String(text), extra: None, .. } => {
                !crate::eval::is_reserved(text) && seen.insert(text)
            }
            _ => false,
        });
        let writes_plain = is_plain
            && pairs.iter().all(|(key, _)| match &self.nodes[*key as usize].kind {
                Kind::String(text) => write::is_plain(text),
                _ => false,
            });
        Group { pairs: pairs.into(), is_plain, writes_plain, span }
    }

    fn sort(&mut self, lhs: RawId, terms: &[(bool, RawId)], span: Span) -> Result<NodeId> {
        let left = self.process(lhs)?;
        let path = if self.is_path(left) { left } else { self.wrap(left) };
        let mut compiled = Vec::with_capacity(terms.len());
        let mut seeking = Vec::new();
        for (descending, term) in terms {
            let term = self.process(*term)?;
            self.collect(term, &mut seeking);
            compiled.push((*descending, term));
        }
        let step = self.add(Kind::Sort(compiled.into()), span);
        self.seek(step, seeking);
        self.steps(path).push(step);
        self.resolve_parents(path)?;
        Ok(path)
    }

    fn focus(&mut self, lhs: RawId, variable: RawId, keep_array: bool, span: Span) -> Result<NodeId> {
        let result = self.process(lhs)?;
        let step = self.last_step(result);
        if self.has(step, |e| !e.stages.is_empty() || !e.predicates.is_empty()) {
            return Err(Raise::new("S0215").at(span));
        }
        if matches!(self.node(step).kind, Kind::Sort(_)) {
            return Err(Raise::new("S0216").at(span));
        }
        let name = self.variable_name(variable);
        let node = self.node(step);
        node.keep_array |= keep_array;
        node.tuple = true;
        // To jsonata-js `@$`, which binds no name, is nothing.
        if !name.text.is_empty() {
            self.extra(step).focus = Some(name);
        }
        Ok(result)
    }

    fn index(&mut self, lhs: RawId, variable: RawId) -> Result<NodeId> {
        let left = self.process(lhs)?;
        let name = self.variable_name(variable);
        let step = self.last_step(left);
        let path = if self.is_path(left) {
            left
        } else {
            let extra = self.extra(left);
            if !extra.predicates.is_empty() {
                extra.stages = std::mem::take(&mut extra.predicates).into_iter().map(Stage::Filter).collect();
            }
            self.wrap(left)
        };
        let extra = self.extra(step);
        if extra.stages.is_empty() {
            extra.index = Some(name);
        } else {
            extra.stages.push(Stage::Index(name));
        }
        self.node(step).tuple = true;
        Ok(path)
    }

    /// Calls at the end of a function's body run in the caller's loop.
    fn tail(&mut self, id: NodeId) -> NodeId {
        stack::grow(|| match &self.nodes[id as usize].kind {
            Kind::Call { .. } if !self.has(id, |e| !e.predicates.is_empty()) => {
                let span = self.nodes[id as usize].span;
                self.add(Kind::TailCall(id), span)
            }
            Kind::Condition { then, otherwise, .. } => {
                let (then, otherwise) = (*then, *otherwise);
                let new_then = self.tail(then);
                let new_otherwise = otherwise.map(|id| self.tail(id));
                if let Kind::Condition { then, otherwise, .. } = &mut self.node(id).kind {
                    *then = new_then;
                    *otherwise = new_otherwise;
                }
                id
            }
            Kind::Default { rhs, .. } => {
                let rhs = *rhs;
                let new = self.tail(rhs);
                if let Kind::Default { rhs, .. } = &mut self.node(id).kind {
                    *rhs = new;
                }
                id
            }
            Kind::Block(parts) if !parts.is_empty() => {
                let last = parts[parts.len() - 1];
                let new = self.tail(last);
                if let Kind::Block(parts) = &mut self.node(id).kind
                    && let Some(last) = parts.last_mut()
                {
                    *last = new;
                }
                id
            }
            _ => id,
        })
    }

    /// Gives the parent slots of a path's last step to the steps that they mean.
    fn resolve_parents(&mut self, path: NodeId) -> Result<()> {
        let steps = self.steps(path).clone();
        let last = steps[steps.len() - 1];
        let mut slots = Vec::new();
        self.collect(last, &mut slots);
        for slot in slots {
            let mut index = steps.len().checked_sub(2);
            while self.slots[slot].level > 0 {
                let Some(at) = index else {
                    self.extra(path).seeking.push(slot);
                    break;
                };
                let mut step = steps[at];
                index = at.checked_sub(1);
                // Steps that bind a context variable all have the same parent.
                while let Some(at) = index
                    && self.has(step, |e| e.focus.is_some())
                    && self.has(steps[at], |e| e.focus.is_some())
                {
                    step = steps[at];
                    index = at.checked_sub(1);
                }
                self.seek_parent(step, slot)?;
            }
        }
        Ok(())
    }

    fn seek_parent(&mut self, id: NodeId, slot: usize) -> Result<()> {
        stack::grow(|| {
            match &self.nodes[id as usize].kind {
                Kind::Name(_) | Kind::Wildcard => {
                    self.slots[slot].level -= 1;
                    if self.slots[slot].level == 0 {
                        if let Some(first) = self.extra(id).ancestor {
                            self.slots[slot].label = self.slots[first].label;
                        }
                        self.extra(id).ancestor = Some(slot);
                        self.node(id).tuple = true;
                    }
                }
                Kind::Parent { .. } => self.slots[slot].level += 1,
                Kind::Block(parts) => {
                    if let Some(last) = parts.last().copied() {
                        self.node(id).tuple = true;
                        self.seek_parent(last, slot)?;
                    }
                }
                Kind::Path { steps, .. } => {
                    let steps = steps.clone();
                    self.node(id).tuple = true;
                    let mut rest = steps.iter().rev();
                    if let Some(last) = rest.next() {
                        self.seek_parent(*last, slot)?;
                    }
                    while self.slots[slot].level > 0 {
                        let Some(step) = rest.next() else { break };
                        self.seek_parent(*step, slot)?;
                    }
                }
                other => {
                    let token = type_name(other);
                    return Err(Raise::new("S0217").at(self.nodes[id as usize].span).token(token));
                }
            }
            Ok(())
        })
    }
}

/// Whether an operator is one of arithmetic.
pub(crate) fn is_arithmetic(op: Op) -> bool {
    matches!(op, Op::Add | Op::Subtract | Op::Multiply | Op::Divide | Op::Remainder)
}
