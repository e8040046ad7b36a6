//! The backtracking matcher. It keeps its own stack of choices and of what to put back, so it
//! does not recurse but for look-around, whose nesting the parser bounds; every instruction is a
//! step, and the stack has a limit.

use std::cell::Cell;

use super::class::{canonical, is_line_end, is_word};
use super::program::{Instruction, Program, Single};
use super::{OutOfSteps, Spans};
use crate::wtf8;

/// Entries of the stack; running out counts as running out of steps.
const STACK_MAX: usize = 1 << 20;
/// A register or group bound that is not set.
const UNSET: usize = usize::MAX;

enum Entry {
    /// Go on here.
    Choice { pc: usize, at: usize },
    /// A run gives back (or, if lazy, takes) one more character, between `at` and `limit`.
    Run { pc: usize, at: usize, limit: usize },
    /// Put a bound of a group back.
    Bound { index: usize, was: usize },
    /// Put a register back.
    Register { index: usize, was: usize },
}

struct Machine<'t> {
    program: &'t Program,
    text: &'t [u8],
    bounds: Vec<usize>,
    registers: Vec<usize>,
    stack: Vec<Entry>,
    steps: &'t Cell<u64>,
}

/// The first match at or behind byte `from`.
pub(super) fn find(
    program: &Program,
    text: &[u8],
    from: usize,
    steps: &Cell<u64>,
) -> Result<Option<Spans>, OutOfSteps> {
    let mut machine = Machine {
        program,
        text,
        bounds: vec![UNSET; (program.groups + 1) * 2],
        registers: vec![UNSET; program.counters * 2],
        stack: Vec::new(),
        steps,
    };
    let mut at = from;
    loop {
        if machine.run(0, at)?.is_some() {
            let spans = machine
                .bounds
                .chunks_exact(2)
                .map(|b| if b[0] == UNSET || b[1] == UNSET { None } else { Some((b[0], b[1])) });
            return Ok(Some(spans.collect()));
        }
        if at >= text.len() {
            return Ok(None);
        }
        at += wtf8::decode(&text[at..]).1;
        machine.bounds.fill(UNSET);
        machine.stack.clear();
    }
}

impl Machine<'_> {
    #[inline]
    fn ahead(&self, at: usize) -> Option<(u32, usize)> {
        (at < self.text.len()).then(|| {
            let (c, n) = wtf8::decode(&self.text[at..]);
            (c, at + n)
        })
    }

    #[inline]
    fn behind(&self, at: usize) -> Option<(u32, usize)> {
        let mut start = at.checked_sub(1)?;
        while start > 0 && self.text[start] & 0xc0 == 0x80 {
            start -= 1;
        }
        Some((wtf8::decode(&self.text[start..]).0, start))
    }

    fn matches(&self, single: &Single, c: u32) -> bool {
        match single {
            Single::Char(wanted) => *wanted == if self.program.ignore_case { canonical(c) } else { c },
            Single::Any => !is_line_end(c),
            Single::Class(class) => class.matches(c, self.program.ignore_case),
        }
    }

    fn one(&self, single: &Single, at: usize, back: bool) -> Option<usize> {
        let (c, next) = if back { self.behind(at) } else { self.ahead(at) }?;
        self.matches(single, c).then_some(next)
    }

    fn push(&mut self, entry: Entry) -> Result<(), OutOfSteps> {
        if self.stack.len() >= STACK_MAX {
            return Err(OutOfSteps);
        }
        self.stack.push(entry);
        Ok(())
    }

    fn bound(&mut self, index: usize, value: usize) -> Result<(), OutOfSteps> {
        let was = std::mem::replace(&mut self.bounds[index], value);
        self.push(Entry::Bound { index, was })
    }

    fn register(&mut self, index: usize, value: usize) -> Result<(), OutOfSteps> {
        let was = std::mem::replace(&mut self.registers[index], value);
        self.push(Entry::Register { index, was })
    }

    fn step(&self) -> Result<(), OutOfSteps> {
        let left = self.steps.get().checked_sub(1).ok_or(OutOfSteps)?;
        self.steps.set(left);
        Ok(())
    }

    fn back_reference(&self, group: usize, at: usize, back: bool) -> Result<Option<usize>, OutOfSteps> {
        let (from, to) = (self.bounds[group * 2], self.bounds[group * 2 + 1]);
        if from == UNSET || to == UNSET {
            return Ok(Some(at));
        }
        let len = to - from;
        if !self.program.ignore_case {
            for _ in 0..len / 64 {
                self.step()?;
            }
            let here = if back { at.checked_sub(len) } else { Some(at) };
            let found = here.and_then(|h| self.text.get(h..h + len)) == Some(&self.text[from..to]);
            return Ok(found.then(|| if back { at - len } else { at + len }));
        }
        let letters: Vec<u32> = wtf8::code_points(&self.text[from..to]).collect();
        let mut at = at;
        let mut check = |wanted: &u32| -> Result<bool, OutOfSteps> {
            self.step()?;
            match if back { self.behind(at) } else { self.ahead(at) } {
                Some((c, next)) if canonical(c) == canonical(*wanted) => {
                    at = next;
                    Ok(true)
                }
                _ => Ok(false),
            }
        };
        if back {
            for wanted in letters.iter().rev() {
                if !check(wanted)? {
                    return Ok(None);
                }
            }
        } else {
            for wanted in &letters {
                if !check(wanted)? {
                    return Ok(None);
                }
            }
        }
        Ok(Some(at))
    }

    /// Runs from an instruction to `Match`. On failure everything that it set is put back.
    fn run(&mut self, pc: usize, at: usize) -> Result<Option<usize>, OutOfSteps> {
        let base = self.stack.len();
        let (mut pc, mut at) = (pc, at);
        let program = self.program;
        loop {
            self.step()?;
            let next = match &program.code[pc] {
                Instruction::Single { single, back } => self.one(single, at, *back).map(|to| (pc + 1, to)),
                Instruction::Run { single, min, max, greedy, back } => {
                    let mut here = at;
                    let mut n = 0;
                    let most = if *greedy { *max } else { *min };
                    let mut floor = if *min == 0 { Some(at) } else { None };
                    while n < most
                        && let Some(to) = self.one(single, here, *back)
                    {
                        if n % 8 == 7 {
                            self.step()?;
                        }
                        here = to;
                        n += 1;
                        if n == *min {
                            floor = Some(here);
                        }
                    }
                    match floor {
                        None => None,
                        Some(floor) => {
                            if *greedy && here != floor {
                                self.push(Entry::Run { pc, at: here, limit: floor })?;
                            } else if !*greedy && *max > *min {
                                self.push(Entry::Run { pc, at: here, limit: (*max - *min) as usize })?;
                            }
                            Some((pc + 1, here))
                        }
                    }
                }
                Instruction::Start => {
                    let ok = at == 0
                        || (program.multi_line && self.behind(at).is_some_and(|(c, _)| is_line_end(c)));
                    ok.then_some((pc + 1, at))
                }
                Instruction::End => {
                    let ok = at == self.text.len()
                        || (program.multi_line && self.ahead(at).is_some_and(|(c, _)| is_line_end(c)));
                    ok.then_some((pc + 1, at))
                }
                Instruction::WordEdge(wanted) => {
                    let before = self.behind(at).is_some_and(|(c, _)| is_word(c));
                    let after = self.ahead(at).is_some_and(|(c, _)| is_word(c));
                    ((before != after) == *wanted).then_some((pc + 1, at))
                }
                Instruction::Save(index) => {
                    self.bound(*index, at)?;
                    Some((pc + 1, at))
                }
                Instruction::BackReference { group, back } => {
                    self.back_reference(*group, at, *back)?.map(|to| (pc + 1, to))
                }
                Instruction::Fork(other) => {
                    self.push(Entry::Choice { pc: *other, at })?;
                    Some((pc + 1, at))
                }
                Instruction::Jump(to) => Some((*to, at)),
                Instruction::LoopInit { counter } => {
                    self.register(counter * 2, 0)?;
                    Some((pc + 1, at))
                }
                Instruction::Loop { counter, min, max, greedy, exit } => {
                    let rounds = self.registers[counter * 2];
                    if rounds < *min as usize {
                        Some((pc + 1, at))
                    } else if *max != u32::MAX && rounds >= *max as usize {
                        Some((*exit, at))
                    } else if *greedy {
                        self.push(Entry::Choice { pc: *exit, at })?;
                        Some((pc + 1, at))
                    } else {
                        self.push(Entry::Choice { pc: pc + 1, at })?;
                        Some((*exit, at))
                    }
                }
                Instruction::LoopEnter { counter, groups } => {
                    let rounds = self.registers[counter * 2];
                    self.register(counter * 2, rounds + 1)?;
                    self.register(counter * 2 + 1, at)?;
                    for group in groups.0..groups.1 {
                        self.bound(group * 2, UNSET)?;
                        self.bound(group * 2 + 1, UNSET)?;
                    }
                    Some((pc + 1, at))
                }
                Instruction::LoopEnd { counter, min, start } => {
                    let empty = self.registers[counter * 2 + 1] == at;
                    let beyond = self.registers[counter * 2] > *min as usize;
                    (!(empty && beyond)).then_some((*start, at))
                }
                Instruction::Look { negated, next } => {
                    let before = self.bounds.clone();
                    let registers = self.registers.clone();
                    let level = self.stack.len();
                    let found = self.run(pc + 1, at)?.is_some();
                    // A look-around is not entered again: its choices go, what it captured
                    // stays, to be put back from outside.
                    self.stack.truncate(level);
                    self.registers = registers;
                    if found && !*negated {
                        for (index, was) in before.iter().enumerate() {
                            if self.bounds[index] != *was {
                                self.push(Entry::Bound { index, was: *was })?;
                            }
                        }
                    } else {
                        self.bounds = before;
                    }
                    (found != *negated).then_some((*next, at))
                }
                Instruction::Match => return Ok(Some(at)),
            };
            if let Some(next) = next {
                (pc, at) = next;
                continue;
            }
            match self.back_off(base)? {
                Some(next) => (pc, at) = next,
                None => return Ok(None),
            }
        }
    }

    /// Undoes down to the last choice of this run and takes its other way.
    fn back_off(&mut self, base: usize) -> Result<Option<(usize, usize)>, OutOfSteps> {
        while self.stack.len() > base {
            let Some(entry) = self.stack.pop() else { break };
            match entry {
                Entry::Choice { pc, at } => return Ok(Some((pc, at))),
                Entry::Bound { index, was } => self.bounds[index] = was,
                Entry::Register { index, was } => self.registers[index] = was,
                Entry::Run { pc, at, limit } => {
                    self.step()?;
                    let Instruction::Run { single, greedy, back, .. } = &self.program.code[pc] else {
                        continue;
                    };
                    if *greedy {
                        let given = if *back { self.ahead(at) } else { self.behind(at) };
                        let Some((_, to)) = given else { continue };
                        if to != limit {
                            self.push(Entry::Run { pc, at: to, limit })?;
                        }
                        return Ok(Some((pc + 1, to)));
                    }
                    let Some(to) = self.one(single, at, *back) else { continue };
                    if limit > 1 {
                        self.push(Entry::Run { pc, at: to, limit: limit - 1 })?;
                    }
                    return Ok(Some((pc + 1, to)));
                }
            }
        }
        Ok(None)
    }
}
