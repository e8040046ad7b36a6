//! What a name at some place of an expression would be a field of.
//!
//! Invariant: what is made here is text of an expression, and is only ever evaluated under the budget of
//! completion; where the way to the place can't be followed, nothing is suggested, or too much, never an
//! error.

use jsonata::{Syntax, SyntaxKind, SyntaxNode};

/// Of a list so many elements are looked at, the first ones.
const ELEMENTS_MAX: usize = 50;

/// An expression for the names of fields that there are where a name begins at byte `at`: the text up to
/// there, and variables that it binds, without `$`.
pub(super) struct Place {
    pub(super) fields: Option<String>,
    pub(super) variables: Vec<String>,
}

/// `before` is the text in front of the name.
pub(super) fn place(before: &str) -> Place {
    // The name that is being typed, whatever it will be.
    let text = format!("{before}x");
    let syntax = Syntax::parse(&text);
    let mut variables = Vec::new();
    let mut nodes = vec![syntax.root()];
    while let Some(node) = nodes.pop() {
        let bound = node.kind() == SyntaxKind::Variable && node.extent().bytes.end < text.len();
        if let Some(name) = node.text().strip_prefix('$').filter(|name| bound && !name.is_empty()) {
            variables.push(name.to_owned());
        }
        nodes.extend(node.children());
    }
    Place { fields: fields(&syntax, before.len()), variables }
}

fn fields(syntax: &Syntax, at: usize) -> Option<String> {
    let mut walk = Walk { open: String::new(), close: 0, piped: None };
    let mut node = syntax.root();
    loop {
        let holds = |child: &SyntaxNode<'_>| child.extent().bytes.contains(&at);
        let Some((index, child)) = node.children().enumerate().find(|(_, child)| holds(child)) else {
            break;
        };
        walk.enter(node, index, child)?;
        node = child;
    }
    // Else it is no place for a name: behind an operand, say.
    if node.kind() != SyntaxKind::Name || node.extent().bytes.start != at {
        return None;
    }
    if walk.close == 0 {
        walk.step("$");
    }
    let Walk { open, close, .. } = walk;
    Some(format!("$distinct([{open}$keys($){}])", ")".repeat(close)))
}

/// The way from the whole expression to the place, as the beginning of an expression.
struct Walk<'s> {
    open: String,
    /// Brackets that are open.
    close: usize,
    /// What `~>` hands to the call that is entered next.
    piped: Option<&'s str>,
}

impl<'s> Walk<'s> {
    fn enter(&mut self, node: SyntaxNode<'s>, index: usize, child: SyntaxNode<'s>) -> Option<()> {
        let piped = self.piped.take();
        let first = node.children().next()?.text();
        match node.kind() {
            SyntaxKind::Path
            | SyntaxKind::Filter
            | SyntaxKind::Group
            | SyntaxKind::Sort
            | SyntaxKind::Transform
                if index > 0 =>
            {
                self.step(first);
            }
            SyntaxKind::Chain if index > 0 && child.kind() == SyntaxKind::Transform => self.step(first),
            SyntaxKind::Chain if index > 0 => self.piped = Some(first),
            SyntaxKind::Block => {
                let before = node.children().take(index);
                self.bind(before.filter(|part| part.kind() == SyntaxKind::Bind).map(|part| part.text()));
            }
            SyntaxKind::Call if child.kind() == SyntaxKind::Lambda => {
                let list = match piped {
                    Some(list) => list,
                    None => node.children().nth(1).filter(|_| index > 1)?.text(),
                };
                let parameters: Vec<&str> = child
                    .children()
                    .filter(|part| part.kind() == SyntaxKind::Variable)
                    .map(|p| p.text())
                    .collect();
                let (taken, of) = match first {
                    "$map" | "$filter" | "$single" => (parameters.get(..1), ""),
                    "$each" | "$sift" => (parameters.get(..1), ".*"),
                    "$sort" => (Some(&parameters[..]), ""),
                    "$reduce" => (parameters.get(1..2), ""),
                    _ => (None, ""),
                };
                let bindings: Vec<String> = taken
                    .unwrap_or_default()
                    .iter()
                    .map(|parameter| format!("{parameter} := ({list}){of}"))
                    .collect();
                self.bind(bindings.iter().map(String::as_str));
            }
            _ => {}
        }
        Some(())
    }

    /// By number: a predicate would be evaluated for each element there is.
    fn step(&mut self, left: &str) {
        let first: Vec<String> = (0..ELEMENTS_MAX).map(|n| format!("$e[{n}]")).collect();
        self.open.push_str(&format!("($e := ({left}); [{}]).(", first.join(",")));
        self.close += 1;
    }

    fn bind<'b>(&mut self, bindings: impl Iterator<Item = &'b str>) {
        self.open.push('(');
        for binding in bindings {
            self.open.push_str(binding);
            self.open.push(';');
        }
        self.close += 1;
    }
}
