//! Values of one evaluation. They are small, copied freely, and point into the arena, the input
//! or the program; nothing is dropped. Arrays carry the marks that jsonata-js hangs on its
//! arrays (a *sequence* unwraps when it has one element). Objects and arrays of the input are
//! built one level at a time, when something looks at them.

use std::cell::Cell;

use crate::ast::{Name, NodeRef};
use crate::functions::Builtin;
use crate::host::HostFunction;
use crate::regex::Regex;
use crate::signature::Signature;

/// [`Number::source`] of a number that was computed.
pub(crate) const COMPUTED: u64 = u64::MAX;

/// A number, and where its text stands if it is copied from the input: it is then written with
/// the digits that it had.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Number {
    pub(crate) value: f64,
    /// Addresses of the text: its first byte and, above that, what is behind its last; or [`COMPUTED`].
    pub(crate) source: u64,
}

/// Any value. `Copy`, 24 bytes.
///
/// Its tag and all that it holds are whole words: a value is read as words right behind where it was written, and a
/// processor waits for a write of less than what it reads.
#[derive(Clone, Copy)]
#[repr(u64)]
pub(crate) enum Value<'a> {
    Undefined,
    Null,
    Bool(bool),
    Number(Number),
    /// WTF-8.
    String(&'a [u8]),
    Array(&'a Array<'a>),
    Object(&'a Object<'a>),
    Function(&'a Function<'a>),
    /// An element of a tuple stream; never seen outside of a path.
    Tuple(&'a Tuple<'a>),
}

/// A result of it is no larger.
const _: () = assert!(size_of::<Value<'static>>() == 24 && size_of::<crate::eval::R<Value<'static>>>() == 24);

impl<'a> Value<'a> {
    #[inline]
    pub(crate) fn number(value: f64) -> Self {
        Value::Number(Number { value, source: COMPUTED })
    }

    #[inline]
    pub(crate) fn is_undefined(self) -> bool {
        matches!(self, Value::Undefined)
    }

    pub(crate) fn is_function(self) -> bool {
        matches!(self, Value::Function(_))
    }

    /// The letter of its type in a signature.
    pub(crate) fn type_letter(self) -> u8 {
        match self {
            Value::Undefined => b'm',
            Value::Null => b'l',
            Value::Bool(_) => b'b',
            Value::Number(_) => b'n',
            Value::String(_) => b's',
            Value::Array(_) => b'a',
            Value::Object(_) | Value::Tuple(_) => b'o',
            Value::Function(_) => b'f',
        }
    }
}

/// Where the elements of an array or the entries of an object are.
#[derive(Clone, Copy)]
pub(crate) enum Content<T> {
    /// In the arena.
    Built(T),
    /// At this index of the tape, not built yet.
    Tape(u32),
    /// Consecutive numbers, not built yet: the first, and how many. Arrays only.
    Range(f64, u32),
}

/// Marks of arrays, as jsonata-js has them.
pub(crate) mod mark {
    /// A result sequence: one element unwraps, none is undefined.
    pub(crate) const SEQUENCE: u8 = 1;
    /// A sequence that stays an array even with one element.
    pub(crate) const KEEP_SINGLETON: u8 = 2;
    /// Made by an array constructor in a path: is not flattened.
    pub(crate) const CONS: u8 = 4;
    /// Wraps an input that is an array.
    pub(crate) const OUTER: u8 = 8;
    /// Its elements are tuples.
    pub(crate) const TUPLES: u8 = 16;
}

pub(crate) struct Array<'a> {
    pub(crate) content: Cell<Content<&'a [Value<'a>]>>,
    pub(crate) marks: Cell<u8>,
}

impl Array<'_> {
    #[inline]
    pub(crate) fn has(&self, mark: u8) -> bool {
        self.marks.get() & mark != 0
    }

    pub(crate) fn set(&self, mark: u8) {
        self.marks.set(self.marks.get() | mark);
    }
}

/// An entry of an object.
#[derive(Clone, Copy)]
pub(crate) struct Entry<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) value: Value<'a>,
}

pub(crate) struct Object<'a> {
    pub(crate) content: Cell<Content<&'a [Entry<'a>]>>,
    /// Look-ups made while still on the tape; after a few the entries are built.
    pub(crate) looked: Cell<u8>,
    /// No key needs an escape where it is written.
    pub(crate) has_plain_keys: bool,
    /// For many entries: open addressing over their indices, made on demand.
    pub(crate) index: Cell<Option<&'a [u32]>>,
}

/// An element of a tuple stream: the item and what `@`, `#` and `%` bind with it.
pub(crate) struct Tuple<'a> {
    pub(crate) item: Value<'a>,
    pub(crate) bindings: Cell<&'a [(&'a Name, Value<'a>)]>,
}

/// Variables of a block, a function call, or the program.
pub(crate) struct Frame<'a> {
    pub(crate) parent: Option<&'a Frame<'a>>,
    pub(crate) first: Cell<Option<&'a Binding<'a>>>,
}

pub(crate) struct Binding<'a> {
    pub(crate) name: &'a Name,
    pub(crate) value: Cell<Value<'a>>,
    pub(crate) next: Option<&'a Binding<'a>>,
}

/// A function, and where it was last called from: jsonata-js reports that place for errors
/// inside it.
pub(crate) struct Function<'a> {
    pub(crate) kind: FunctionKind<'a>,
    pub(crate) called_at: Cell<crate::error::Span>,
    pub(crate) called_as: Cell<Option<&'a [u8]>>,
}

#[derive(Clone, Copy)]
pub(crate) enum FunctionKind<'a> {
    Builtin(&'static Builtin),
    Lambda(Lambda<'a>),
    Host(&'a HostFunction),
    /// A call in tail position that the caller's loop makes.
    TailCall {
        call: NodeRef<'a>,
        input: Value<'a>,
        env: &'a Frame<'a>,
    },
    /// A lambda or built-in with some arguments given: `None` is still open.
    Partial {
        inner: &'a Function<'a>,
        arguments: &'a [Option<Value<'a>>],
    },
    /// A function passed as an argument.
    Wrapped(&'a Function<'a>),
    Regex {
        regex: &'a Regex,
        node: NodeRef<'a>,
    },
    /// The `next` of a match.
    NextMatch {
        regex: &'a Regex,
        node: NodeRef<'a>,
        text: &'a [u8],
        from: usize,
    },
    Transform {
        node: NodeRef<'a>,
        env: &'a Frame<'a>,
    },
    /// `f ~> g`.
    Chain(&'a Function<'a>, &'a Function<'a>),
}

#[derive(Clone, Copy)]
pub(crate) struct Lambda<'a> {
    pub(crate) parameters: &'a [Name],
    pub(crate) signature: Option<&'a Signature>,
    pub(crate) body: NodeRef<'a>,
    pub(crate) input: Value<'a>,
    pub(crate) env: &'a Frame<'a>,
}
