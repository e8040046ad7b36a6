//! Signatures of functions, as `<s-n?:s>`: which types an argument may have, which may be left
//! out, which the context value stands in for. Matching follows jsonata-js, which turns a
//! signature into a regular expression over the letters of the arguments' types; here it is a
//! table walk, so that no signature makes it slow.

use crate::error::Raise;

/// How often a parameter may occur.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Times {
    One,
    Optional,
    Many,
}

#[derive(Debug, Clone)]
struct Parameter {
    /// Bit set of type letters.
    types: u32,
    times: Times,
    /// The context value is used if the argument is missing.
    context: bool,
    is_array: bool,
    takes_types: bool,
    subtype: Option<Box<[u8]>>,
}

/// A parsed signature.
#[derive(Debug, Clone)]
pub(crate) struct Signature {
    parameters: Vec<Parameter>,
}

/// What becomes of one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slot {
    /// The argument with this index, or undefined if there are fewer.
    Argument(usize),
    /// The argument with this index, put into an array.
    Wrapped(usize),
    /// The argument with this index is undefined where an array is wanted.
    Undefined,
    Context,
}

fn bit(letter: u8) -> u32 {
    if letter.is_ascii_lowercase() { 1 << (letter - b'a') } else { 0 }
}

fn bits(letters: &[u8]) -> u32 {
    letters.iter().fold(0, |set, letter| set | bit(*letter))
}

/// The index of the bracket that closes the one before `start`.
fn closing(text: &[u8], start: usize, open: u8, close: u8) -> usize {
    let mut depth = 1;
    let mut at = start;
    while at < text.len() {
        at += 1;
        match text.get(at) {
            Some(b) if *b == close => {
                depth -= 1;
                if depth == 0 {
                    break;
                }
            }
            Some(b) if *b == open => depth += 1,
            _ => {}
        }
    }
    at
}

impl Signature {
    /// Parses a signature with its angle brackets; an error comes with its offset.
    pub(crate) fn parse(text: &str) -> Result<Self, (Box<Raise>, usize)> {
        let text = text.as_bytes();
        let mut parameters: Vec<Parameter> = Vec::new();
        let mut at = 1;
        while at < text.len() && text[at] != b':' {
            let letter = text[at];
            let simple = |types: &[u8]| Parameter {
                types: bits(types),
                times: Times::One,
                context: false,
                is_array: letter == b'a',
                takes_types: letter == b'a' || letter == b'f',
                subtype: None,
            };
            match letter {
                b's' | b'n' | b'b' | b'l' | b'o' => parameters.push(simple(&[letter, b'm'])),
                b'a' | b'x' => parameters.push(simple(b"asnblfom")),
                b'f' => parameters.push(simple(b"f")),
                b'j' => parameters.push(simple(b"asnblom")),
                b'-' => {
                    if let Some(last) = parameters.last_mut() {
                        last.context = true;
                        last.times = Times::Optional;
                    }
                }
                b'?' => {
                    if let Some(last) = parameters.last_mut() {
                        last.times = Times::Optional;
                    }
                }
                b'+' => {
                    if let Some(last) = parameters.last_mut() {
                        last.times = Times::Many;
                    }
                }
                b'(' => {
                    let end = closing(text, at, b'(', b')');
                    let choice = &text[at + 1..end.min(text.len())];
                    if choice.contains(&b'<') {
                        let value = String::from_utf8_lossy(choice).into_owned();
                        return Err((Raise::new("S0402").value(value), at));
                    }
                    let mut parameter = simple(choice);
                    parameter.types |= bit(b'm');
                    parameters.push(parameter);
                    at = end;
                }
                b'<' => {
                    let end = closing(text, at, b'<', b'>');
                    match parameters.last_mut() {
                        Some(last) if last.takes_types => {
                            last.subtype = Some(text[at + 1..end.min(text.len())].into());
                        }
                        _ => {
                            let value = text
                                .get(at.wrapping_sub(1))
                                .map_or(String::new(), |b| char::from(*b).to_string());
                            return Err((Raise::new("S0401").value(value), at));
                        }
                    }
                    at = end;
                }
                _ => {}
            }
            at += 1;
        }
        Ok(Self { parameters })
    }

    /// How many parameters there are.
    pub(crate) fn len(&self) -> usize {
        self.parameters.len()
    }

    /// Whether a call with this many arguments can take the context value for one that it lacks,
    /// and use more of it than that it is a string or number.
    pub(crate) fn may_take_context(&self, arguments: usize) -> bool {
        let required = self.parameters.iter().filter(|p| p.context || p.times != Times::Optional).count();
        self.parameters.iter().any(|p| {
            let containers = bits(b"ao");
            let takes_any = p.types & bits(b"asnblo") == bits(b"asnblo");
            p.context
                && p.types & containers != 0
                && arguments < if takes_any { required } else { self.parameters.len() }
        })
    }

    /// Which argument cannot be let through, whatever the values are that are not known: from 1.
    /// `letters` has `None` for those.
    pub(crate) fn misfit(&self, letters: &[Option<u8>]) -> Option<usize> {
        let masks: Vec<u32> = letters.iter().map(|letter| letter.map_or(u32::MAX, bit)).collect();
        if self.matches(self.parameters.len(), &masks, true).is_some() {
            return None;
        }
        Some(self.good_to(&masks) + 1)
    }

    /// How many letters the longest run of parameters takes that takes any.
    fn good_to(&self, letters: &[u32]) -> usize {
        let mut good_to = 0;
        for n in 1..=self.parameters.len() {
            match self.matches(n, letters, false) {
                Some(taken) => good_to = taken.iter().sum(),
                None => break,
            }
        }
        good_to
    }

    /// How many letters each parameter takes, if all letters are taken (`whole`) or as far as
    /// `parameters` reach.
    fn matches(&self, parameters: usize, letters: &[u32], whole: bool) -> Option<Vec<usize>> {
        // failed[p][i]: parameters from p on cannot match letters from i on.
        let width = letters.len() + 1;
        let mut failed = vec![false; (parameters + 1) * width];
        let mut taken = Vec::with_capacity(parameters);
        if self.walk(0, 0, parameters, letters, whole, &mut failed, &mut taken) { Some(taken) } else { None }
    }

    #[expect(clippy::too_many_arguments, reason = "one recursive walk over a small table")]
    fn walk(
        &self,
        p: usize,
        i: usize,
        parameters: usize,
        letters: &[u32],
        whole: bool,
        failed: &mut [bool],
        taken: &mut Vec<usize>,
    ) -> bool {
        if p == parameters {
            return !whole || i == letters.len();
        }
        let cell = p * (letters.len() + 1) + i;
        if failed[cell] {
            return false;
        }
        let parameter = &self.parameters[p];
        let run = letters[i..].iter().take_while(|l| parameter.types & **l != 0).count();
        let (least, most) = match parameter.times {
            Times::One => (1, run.min(1)),
            Times::Optional => (0, run.min(1)),
            Times::Many => (1, run),
        };
        let mut n = most;
        loop {
            if n < least {
                break;
            }
            taken.push(n);
            if crate::stack::grow(|| self.walk(p + 1, i + n, parameters, letters, whole, failed, taken)) {
                return true;
            }
            taken.pop();
            if n == 0 {
                break;
            }
            n -= 1;
        }
        failed[cell] = true;
        false
    }

    /// Says for each parameter what it receives. `letter_of` gives the types of the elements of
    /// an argument that is an array.
    pub(crate) fn validate(
        &self,
        letters: &[u8],
        context: u8,
        mut elements_are: impl FnMut(usize, u8) -> Result<bool, Box<Raise>>,
    ) -> Result<Vec<Slot>, Box<Raise>> {
        let masks: Vec<u32> = letters.iter().map(|letter| bit(*letter)).collect();
        let Some(taken) = self.matches(self.parameters.len(), &masks, true) else {
            return Err(Raise::new("T0410").index(self.good_to(&masks) + 1));
        };
        let mut slots = Vec::with_capacity(self.parameters.len());
        // jsonata-js counts an optional argument that is left out as taken, so that the index of
        // arguments can run ahead of the letters.
        let mut at = 0;
        let mut letter_at = 0;
        for (parameter, n) in self.parameters.iter().zip(taken) {
            if n == 0 {
                if parameter.context {
                    if parameter.types & bit(context) == 0 {
                        return Err(Raise::new("T0411").index(at + 1));
                    }
                    slots.push(Slot::Context);
                } else {
                    slots.push(Slot::Argument(at));
                    at += 1;
                }
                continue;
            }
            let group = &letters[letter_at..letter_at + n];
            letter_at += n;
            for letter in group {
                slots.push(if !parameter.is_array {
                    Slot::Argument(at)
                } else if *letter == b'm' {
                    Slot::Undefined
                } else {
                    if let Some(subtype) = &parameter.subtype {
                        let ok = if *letter == b'a' {
                            elements_are(at, subtype.first().copied().unwrap_or(0))?
                        } else {
                            group == &**subtype
                        };
                        if !ok {
                            return Err(Raise::new("T0412").index(at + 1).text(plural(subtype)));
                        }
                    }
                    if *letter == b'a' { Slot::Argument(at) } else { Slot::Wrapped(at) }
                });
                at += 1;
            }
        }
        Ok(slots)
    }
}

fn plural(subtype: &[u8]) -> &'static str {
    match subtype {
        b"a" => "arrays",
        b"b" => "booleans",
        b"f" => "functions",
        b"n" => "numbers",
        b"o" => "objects",
        b"s" => "strings",
        _ => "the given type",
    }
}

impl Signature {
    /// Whether arguments fit one by one as they are, so that nothing need be filled in: the
    /// common case, decided without allocating. `elements_are` tells whether all elements of an
    /// array have a type.
    pub(crate) fn fits<'a, E>(
        &self,
        args: &[crate::value::Value<'a>],
        mut elements_are: impl FnMut(&'a crate::value::Array<'a>, u8) -> Result<bool, E>,
    ) -> Result<bool, E> {
        if args.len() > self.parameters.len() {
            return Ok(false);
        }
        let (given, rest) = self.parameters.split_at(args.len());
        if !rest.iter().all(|p| p.times == Times::Optional && !p.context) {
            return Ok(false);
        }
        for (arg, p) in args.iter().zip(given) {
            if p.types & bit(arg.type_letter()) == 0 || p.times == Times::Many {
                return Ok(false);
            }
            if !p.is_array {
                continue;
            }
            let crate::value::Value::Array(array) = arg else { return Ok(false) };
            if let Some(subtype) = &p.subtype
                && !elements_are(array, subtype.first().copied().unwrap_or(0))?
            {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
