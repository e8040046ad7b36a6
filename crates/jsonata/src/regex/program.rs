//! Patterns as instructions for the backtracking matcher. A look-behind's body runs backwards,
//! from its end to its start, as ECMAScript defines it.

use super::class::{Class, canonical};
use super::parse::{Node, Parsed};

/// Instructions of a pattern.
const INSTRUCTIONS_MAX: usize = 200_000;

/// Something that matches one character.
#[derive(Debug, Clone)]
pub(super) enum Single {
    Char(u32),
    Any,
    Class(Class),
}

#[derive(Debug, Clone)]
pub(super) enum Instruction {
    Single {
        single: Single,
        back: bool,
    },
    /// A repeated single character: taken in one go, given back one by one.
    Run {
        single: Single,
        min: u32,
        max: u32,
        greedy: bool,
        back: bool,
    },
    Start,
    End,
    WordEdge(bool),
    Save(usize),
    BackReference {
        group: usize,
        back: bool,
    },
    /// Tries the next instruction first, then this place.
    Fork(usize),
    Jump(usize),
    /// A loop begins: its counter is set to zero.
    LoopInit {
        counter: usize,
    },
    /// Decides about a further round.
    Loop {
        counter: usize,
        min: u32,
        max: u32,
        greedy: bool,
        exit: usize,
    },
    /// A round begins here (also the place that a lazy loop comes back to): groups are reset.
    LoopEnter {
        counter: usize,
        groups: (usize, usize),
    },
    /// A round that matched nothing beyond the minimum fails.
    LoopEnd {
        counter: usize,
        min: u32,
        start: usize,
    },
    /// The body follows and ends with `Match`; then goes on at `next`.
    Look {
        negated: bool,
        next: usize,
    },
    Match,
}

#[derive(Debug)]
pub(super) struct Program {
    pub(super) code: Vec<Instruction>,
    pub(super) groups: usize,
    /// Two registers each: rounds, and where the round began.
    pub(super) counters: usize,
    pub(super) ignore_case: bool,
    pub(super) multi_line: bool,
}

pub(super) fn compile(parsed: &Parsed, ignore_case: bool, multi_line: bool) -> Result<Program, String> {
    let mut compiler = Compiler { code: Vec::new(), counters: 0, ignore_case };
    compiler.code.push(Instruction::Save(0));
    compiler.node(&parsed.node, false)?;
    compiler.code.push(Instruction::Save(1));
    compiler.code.push(Instruction::Match);
    Ok(Program {
        code: compiler.code,
        groups: parsed.groups,
        counters: compiler.counters,
        ignore_case,
        multi_line,
    })
}

struct Compiler {
    code: Vec<Instruction>,
    counters: usize,
    ignore_case: bool,
}

/// The lowest and highest number of the groups in a node, as a half-open range.
fn groups_in(node: &Node) -> (usize, usize) {
    let join = |a: (usize, usize), b: (usize, usize)| match (a, b) {
        ((0, 0), x) | (x, (0, 0)) => x,
        (a, b) => (a.0.min(b.0), a.1.max(b.1)),
    };
    match node {
        Node::Capture(n, body) => join((*n, *n + 1), groups_in(body)),
        Node::Look { body, .. } | Node::Repeat { body, .. } => groups_in(body),
        Node::Sequence(all) | Node::Alternatives(all) => all.iter().map(groups_in).fold((0, 0), join),
        _ => (0, 0),
    }
}

impl Compiler {
    fn push(&mut self, instruction: Instruction) -> Result<usize, String> {
        if self.code.len() >= INSTRUCTIONS_MAX {
            return Err("the pattern is too large".to_owned());
        }
        self.code.push(instruction);
        Ok(self.code.len() - 1)
    }

    fn single(&self, node: &Node) -> Option<Single> {
        Some(match node {
            Node::Char(c) => Single::Char(if self.ignore_case { canonical(*c) } else { *c }),
            Node::Any => Single::Any,
            Node::Class(class) => Single::Class(class.clone()),
            _ => return None,
        })
    }

    fn node(&mut self, node: &Node, back: bool) -> Result<(), String> {
        if let Some(single) = self.single(node) {
            self.push(Instruction::Single { single, back })?;
            return Ok(());
        }
        match node {
            Node::Empty | Node::Char(_) | Node::Any | Node::Class(_) => {}
            Node::Start => {
                self.push(Instruction::Start)?;
            }
            Node::End => {
                self.push(Instruction::End)?;
            }
            Node::WordEdge(wanted) => {
                self.push(Instruction::WordEdge(*wanted))?;
            }
            Node::Capture(n, body) => {
                let (first, last) = if back { (n * 2 + 1, n * 2) } else { (n * 2, n * 2 + 1) };
                self.push(Instruction::Save(first))?;
                self.node(body, back)?;
                self.push(Instruction::Save(last))?;
            }
            Node::BackReference(group) => {
                self.push(Instruction::BackReference { group: *group, back })?;
            }
            Node::Look { behind, negated, body } => {
                let at = self.push(Instruction::Look { negated: *negated, next: 0 })?;
                self.node(body, *behind)?;
                self.push(Instruction::Match)?;
                let next = self.code.len();
                self.code[at] = Instruction::Look { negated: *negated, next };
            }
            Node::Sequence(all) => {
                if back {
                    for node in all.iter().rev() {
                        self.node(node, back)?;
                    }
                } else {
                    for node in all {
                        self.node(node, back)?;
                    }
                }
            }
            Node::Alternatives(all) => {
                let mut jumps = Vec::new();
                for (i, node) in all.iter().enumerate() {
                    let is_last = i + 1 == all.len();
                    let fork = if is_last { None } else { Some(self.push(Instruction::Fork(0))?) };
                    self.node(node, back)?;
                    if let Some(fork) = fork {
                        jumps.push(self.push(Instruction::Jump(0))?);
                        self.code[fork] = Instruction::Fork(self.code.len());
                    }
                }
                let end = self.code.len();
                for jump in jumps {
                    self.code[jump] = Instruction::Jump(end);
                }
            }
            Node::Repeat { body, min, max, greedy } => {
                if let Some(single) = self.single(body) {
                    self.push(Instruction::Run { single, min: *min, max: *max, greedy: *greedy, back })?;
                    return Ok(());
                }
                let counter = self.counters;
                self.counters += 1;
                let groups = groups_in(body);
                self.push(Instruction::LoopInit { counter })?;
                let start = self.push(Instruction::Jump(0))?;
                self.push(Instruction::LoopEnter { counter, groups })?;
                self.node(body, back)?;
                self.push(Instruction::LoopEnd { counter, min: *min, start })?;
                let exit = self.code.len();
                self.code[start] = Instruction::Loop { counter, min: *min, max: *max, greedy: *greedy, exit };
            }
        }
        Ok(())
    }
}
