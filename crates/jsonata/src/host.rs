//! Functions and constants of the host: what a program may use besides the language's own. They
//! are given when it is compiled, so that their names and the calls to them are checked then.
//! Invariant: what goes to a host function and what comes back is charged to the evaluation's
//! budget before it is built; what the function itself does is the host's own affair, and it can
//! charge that too.

use std::fmt;
use std::sync::Arc;

use serde_json::Value as Json;

use crate::arena::ArenaVec;
use crate::budget::Limit;
use crate::error::Raise;
use crate::eval::{Fail, R, Run, lossy};
use crate::messages;
use crate::signature::Signature;
use crate::value::{COMPUTED, Entry, Value};

/// How many names a host can register.
pub const HOST_NAMES_MAX: usize = 10_000;
/// How deeply values may nest that go to or come from a host function.
pub const HOST_VALUE_DEPTH_MAX: u32 = 128;
/// What a value of `serde_json` is charged besides its text.
const BYTES_PER_VALUE: usize = 128;

type Native = dyn Fn(&HostCall<'_>) -> Result<Option<Json>, HostError> + Send + Sync;

/// A registered function.
pub(crate) struct HostFunction {
    pub(crate) signature: Signature,
    run: Box<Native>,
}

#[derive(Clone)]
pub(crate) enum HostItem {
    Function(Arc<HostFunction>),
    Constant(Arc<Json>),
}

/// Functions and constants that programs may use by name, as `$name`. Variables and bindings of
/// the same name are seen first; built-in functions cannot be replaced.
///
/// ```
/// use jsonata::{Bindings, Budget, Evaluator, Host, HostError, Output, Program};
///
/// let mut host = Host::new();
/// host.function("vat", "<n-s:n>", |call| match call.arg(1).and_then(|v| v.as_str()) {
///     Some("CZ") => Ok(call.arg(0).and_then(|v| v.as_f64()).map(|n| (n * 0.21).into())),
///     _ => Err(HostError::new("H0001", "no rate is known for this country")),
/// })?;
/// host.constant("currency", "CZK".into())?;
/// let program = Program::compile_with("{ 'vat': $vat(total, 'CZ'), 'in': $currency }", &host)?;
/// let mut output = Output::new();
/// let input = br#"{"total": 100}"#;
/// Evaluator::new().eval(&program, input, &Bindings::new(0, 0), &Budget::default(), &mut output)?;
/// assert_eq!(output.as_bytes(), br#"{"vat":21,"in":"CZK"}"#);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
pub struct Host {
    /// Sorted by name.
    items: Arc<Vec<(Box<str>, HostItem)>>,
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.items.iter().map(|(name, _)| name)).finish()
    }
}

/// Why a name cannot be registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostNameError {
    name: String,
    reason: String,
}

impl fmt::Display for HostNameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cannot be registered: {}", crate::error::quote(&self.name), self.reason)
    }
}

impl std::error::Error for HostNameError {}

/// A call of a host function.
pub struct HostCall<'c> {
    args: &'c [Option<Json>],
    now_millis: i64,
    spend: &'c dyn Fn(u64, usize) -> Result<(), Limit>,
}

impl HostCall<'_> {
    /// The arguments, as the function's signature lets them through; `None` is undefined.
    /// Functions are undefined, lone surrogates U+FFFD, and numbers what `serde_json` has.
    pub fn args(&self) -> &[Option<Json>] {
        self.args
    }

    /// An argument; `None` if it is undefined or was not given.
    pub fn arg(&self, index: usize) -> Option<&Json> {
        self.args.get(index).and_then(Option::as_ref)
    }

    /// The evaluation's clock, Unix time in milliseconds. A function that uses this one gives the
    /// same on a replay.
    pub fn now_millis(&self) -> i64 {
        self.now_millis
    }

    /// Charges steps of work and bytes of memory to the evaluation.
    ///
    /// # Errors
    /// They are not left; the function returns this error on.
    pub fn spend(&self, steps: u64, bytes: usize) -> Result<(), HostError> {
        (self.spend)(steps, bytes).map_err(HostError::Over)
    }
}

/// Why a host function gives no value.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum HostError {
    /// It failed. The evaluation ends with this code and message.
    Failed {
        /// A code of the host's own, as `H0001`.
        code: &'static str,
        /// What is wrong, as a lowercase fragment.
        message: String,
    },
    /// The evaluation would exceed this limit.
    Over(Limit),
}

impl HostError {
    /// A failure with a code of the host's own, as `H0001`, and a message.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self::Failed { code, message: message.into() }
    }
}

impl Host {
    /// Nothing but the language.
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers `$name` as a function with a signature, as `<s-n?:s>`. Calls are checked against
    /// it when a program is compiled, as far as it can be told, and when they are made. The
    /// function must give the same for the same arguments if evaluations shall be repeatable.
    ///
    /// # Errors
    /// The name is none, or taken, or the signature is not one.
    pub fn function(
        &mut self,
        name: &str,
        signature: &str,
        run: impl Fn(&HostCall<'_>) -> Result<Option<Json>, HostError> + Send + Sync + 'static,
    ) -> Result<(), HostNameError> {
        let refused = |reason: String| HostNameError { name: name.to_owned(), reason };
        if !(signature.starts_with('<') && signature.ends_with('>')) {
            return Err(refused(format!("the signature {signature} must be in angle brackets, as <s-n?:s>")));
        }
        let signature = Signature::parse(signature)
            .map_err(|(raise, offset)| refused(format!("{} (at {offset})", messages::message(&raise))))?;
        self.add(name, HostItem::Function(Arc::new(HostFunction { signature, run: Box::new(run) })))
    }

    /// Registers `$name` as a constant.
    ///
    /// # Errors
    /// The name is none, or taken.
    pub fn constant(&mut self, name: &str, value: Json) -> Result<(), HostNameError> {
        self.add(name, HostItem::Constant(Arc::new(value)))
    }

    fn add(&mut self, name: &str, item: HostItem) -> Result<(), HostNameError> {
        let refused = |reason: &str| Err(HostNameError { name: name.to_owned(), reason: reason.to_owned() });
        if name.is_empty() || !name.chars().all(|c| c.is_alphanumeric() || c == '_') {
            return refused("a name has letters, digits and _ only, and no $ in front");
        }
        if crate::functions::find(name.as_bytes()).is_some() {
            return refused("a built-in function has this name");
        }
        if self.items.len() == HOST_NAMES_MAX {
            return refused("there are 10,000 names already");
        }
        match self.items.binary_search_by(|(known, _)| (**known).cmp(name)) {
            Ok(_) => refused("it is registered already"),
            Err(at) => {
                Arc::make_mut(&mut self.items).insert(at, (name.into(), item));
                Ok(())
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    pub(crate) fn find(&self, name: &[u8]) -> Option<u16> {
        let at = self.items.binary_search_by(|(known, _)| known.as_bytes().cmp(name)).ok()?;
        u16::try_from(at).ok()
    }

    pub(crate) fn item(&self, index: usize) -> &HostItem {
        &self.items[index].1
    }
}

impl<'a> Run<'a> {
    /// Calls a function of the host.
    pub(crate) fn call_host(&self, function: &HostFunction, args: &[Value<'a>]) -> R<Value<'a>> {
        let mut given = Vec::with_capacity(args.len());
        for arg in args {
            given.push(self.to_host(*arg, 0)?);
        }
        let call = HostCall {
            args: &given,
            now_millis: self.now_millis,
            spend: &|steps, bytes| {
                let limit = |fail| match fail {
                    Fail::Over(limit) => limit,
                    Fail::Raise(_) => Limit::Steps,
                };
                self.tick(steps).map_err(limit)?;
                self.arena.charge(bytes).map_err(|_| Limit::Bytes)
            },
        };
        match (function.run)(&call) {
            Ok(Some(value)) => self.of_host(&value, 0),
            Ok(None) => Ok(Value::Undefined),
            Err(HostError::Failed { code, message }) => Err(Raise::new(code).text(message).into()),
            Err(HostError::Over(limit)) => Err(Fail::Over(limit)),
        }
    }

    fn to_host(&self, value: Value<'a>, depth: u32) -> R<Option<Json>> {
        if depth > HOST_VALUE_DEPTH_MAX {
            return Err(Raise::new("D1905").into());
        }
        self.tick(1)?;
        self.arena.charge(BYTES_PER_VALUE)?;
        Ok(Some(match value {
            Value::Undefined | Value::Function(_) => return Ok(None),
            Value::Null => Json::Null,
            Value::Bool(b) => Json::Bool(b),
            Value::Number(n) => {
                let copied = (n.source != COMPUTED)
                    .then(|| serde_json::from_slice::<serde_json::Number>(self.number_text(n.source)).ok())
                    .flatten();
                let whole = n.value.trunc() == n.value && n.value.abs() < 9e15;
                let computed = || {
                    if whole { Some((n.value as i64).into()) } else { serde_json::Number::from_f64(n.value) }
                };
                match copied.or_else(computed) {
                    Some(number) => Json::Number(number),
                    None => return Err(Raise::new("D1001").value(self.show(value)).into()),
                }
            }
            Value::String(text) => {
                self.tick(text.len() as u64 / 64)?;
                self.arena.charge(text.len())?;
                Json::String(lossy(text))
            }
            Value::Tuple(tuple) => return self.to_host(tuple.item, depth + 1),
            Value::Array(array) => {
                let items = self.items(array)?;
                let mut out = Vec::new();
                for item in items {
                    out.push(self.to_host(*item, depth + 1)?.unwrap_or(Json::Null));
                }
                Json::Array(out)
            }
            Value::Object(object) => {
                let mut out = serde_json::Map::new();
                for entry in self.entries(object)? {
                    self.arena.charge(entry.key.len())?;
                    if let Some(value) = self.to_host(entry.value, depth + 1)? {
                        out.insert(lossy(entry.key), value);
                    }
                }
                Json::Object(out)
            }
        }))
    }

    /// A value of the host as one of the language.
    pub(crate) fn of_host(&self, value: &Json, depth: u32) -> R<Value<'a>> {
        if depth > HOST_VALUE_DEPTH_MAX {
            return Err(Raise::new("D1905").into());
        }
        self.tick(1)?;
        match value {
            Json::Null => Ok(Value::Null),
            Json::Bool(b) => Ok(Value::Bool(*b)),
            Json::Number(n) => Ok(Value::number(n.as_f64().unwrap_or(f64::NAN))),
            Json::String(text) => self.string(text.as_bytes()),
            Json::Array(items) => {
                let mut out = ArenaVec::with_capacity(self.arena, items.len())?;
                for item in items {
                    out.push(self.of_host(item, depth + 1)?)?;
                }
                self.plain(out.finish())
            }
            Json::Object(entries) => {
                let mut out = ArenaVec::with_capacity(self.arena, entries.len())?;
                for (key, value) in entries {
                    let key = self.arena.alloc_slice(key.as_bytes())?;
                    out.push(Entry { key, value: self.of_host(value, depth + 1)? })?;
                }
                self.object(out)
            }
        }
    }
}
