//! Built-in functions: one table with name, signature and the numbers of parameters that
//! jsonata-js' functions have (how many arguments `$map` and the like pass depends on them).

mod array;
mod encode;
mod eval;
mod hof;
mod numeric;
mod object;
mod picture;
mod string;
mod time;

use std::sync::LazyLock;

use crate::eval::{Call, R, Run};
use crate::signature::Signature;
use crate::value::Value;

type Native = for<'a> fn(&Run<'a>, &Call<'a, '_>) -> R<Value<'a>>;

/// A built-in function.
pub(crate) struct Builtin {
    pub(crate) name: &'static str,
    signature: &'static str,
    /// Parameters that a function value shows: what it is passed by `$map` and the like.
    pub(crate) arity: u8,
    /// Parameters that a partial application can fill.
    pub(crate) parameters: u8,
    pub(crate) run: Native,
    index: usize,
}

const fn builtin(
    name: &'static str,
    signature: &'static str,
    arity: u8,
    parameters: u8,
    run: Native,
) -> Builtin {
    Builtin { name, signature, arity, parameters, run, index: 0 }
}

/// Every built-in function, sorted by name.
pub(crate) static TABLE: LazyLock<Vec<Builtin>> = LazyLock::new(|| {
    let mut table = vec![
        builtin("sum", "<a<n>:n>", 1, 1, numeric::sum),
        builtin("count", "<a:n>", 1, 1, array::count),
        builtin("max", "<a<n>:n>", 1, 1, numeric::max),
        builtin("min", "<a<n>:n>", 1, 1, numeric::min),
        builtin("average", "<a<n>:n>", 1, 1, numeric::average),
        builtin("string", "<x-b?:s>", 1, 2, string::string),
        builtin("substring", "<s-nn?:s>", 3, 3, string::substring),
        builtin("substringBefore", "<s-s:s>", 2, 2, string::substring_before),
        builtin("substringAfter", "<s-s:s>", 2, 2, string::substring_after),
        builtin("lowercase", "<s-:s>", 1, 1, string::lowercase),
        builtin("uppercase", "<s-:s>", 1, 1, string::uppercase),
        builtin("length", "<s-:n>", 1, 1, string::length),
        builtin("trim", "<s-:s>", 1, 1, string::trim),
        builtin("pad", "<s-ns?:s>", 3, 3, string::pad),
        builtin("contains", "<s-(sf):b>", 2, 2, string::contains),
        builtin("replace", "<s-(sf)(sf)n?:s>", 4, 4, string::replace),
        builtin("split", "<s-(sf)n?:a<s>>", 3, 3, string::split),
        builtin("join", "<a<s>s?:s>", 2, 2, string::join),
        builtin("number", "<(nsb)-:n>", 1, 1, numeric::number),
        builtin("floor", "<n-:n>", 1, 1, numeric::floor),
        builtin("ceil", "<n-:n>", 1, 1, numeric::ceil),
        builtin("round", "<n-n?:n>", 2, 2, numeric::round),
        builtin("abs", "<n-:n>", 1, 1, numeric::abs),
        builtin("sqrt", "<n-:n>", 1, 1, numeric::sqrt),
        builtin("power", "<n-n:n>", 2, 2, numeric::power),
        builtin("random", "<:n>", 0, 0, numeric::random),
        builtin("boolean", "<x-:b>", 1, 1, object::boolean),
        builtin("not", "<x-:b>", 1, 1, object::not),
        builtin("map", "<af>", 2, 2, hof::map),
        builtin("zip", "<a+>", 0, 0, array::zip),
        builtin("filter", "<af>", 2, 2, hof::filter),
        builtin("single", "<af?>", 2, 2, hof::single),
        builtin("reduce", "<afj?:j>", 3, 3, hof::reduce),
        builtin("sift", "<o-f?:o>", 2, 2, hof::sift),
        builtin("keys", "<x-:a<s>>", 1, 1, object::keys),
        builtin("lookup", "<x-s:x>", 2, 2, object::lookup),
        builtin("append", "<xx:a>", 2, 2, array::append),
        builtin("exists", "<x:b>", 1, 1, object::exists),
        builtin("spread", "<x-:a<o>>", 1, 1, object::spread),
        builtin("merge", "<a<o>:o>", 1, 1, object::merge),
        builtin("reverse", "<a:a>", 1, 1, array::reverse),
        builtin("each", "<o-f:a>", 2, 2, hof::each),
        builtin("error", "<s?:x>", 1, 1, object::error),
        builtin("assert", "<bs?:x>", 2, 2, object::assert),
        builtin("type", "<x:s>", 1, 1, object::type_of),
        builtin("sort", "<af?:a>", 2, 2, hof::sort),
        builtin("shuffle", "<a:a>", 1, 1, array::shuffle),
        builtin("distinct", "<x:x>", 1, 1, array::distinct),
        builtin("clone", "<(oa)-:o>", 1, 1, object::clone),
        builtin("now", "<s?s?:s>", 2, 2, time::now),
        builtin("millis", "<:n>", 0, 0, time::millis),
        builtin("match", "<s-f<s:o>n?:a<o>>", 3, 3, string::matches),
        builtin("formatNumber", "<n-so?:s>", 3, 3, picture::format_number),
        builtin("formatBase", "<n-n?:s>", 2, 2, picture::format_base),
        builtin("formatInteger", "<n-s:s>", 2, 2, time::format_integer),
        builtin("parseInteger", "<s-s:n>", 2, 2, time::parse_integer),
        builtin("base64encode", "<s-:s>", 1, 1, encode::base64_encode),
        builtin("base64decode", "<s-:s>", 1, 1, encode::base64_decode),
        builtin("encodeUrlComponent", "<s-:s>", 1, 1, encode::encode_url_component),
        builtin("encodeUrl", "<s-:s>", 1, 1, encode::encode_url),
        builtin("decodeUrlComponent", "<s-:s>", 1, 1, encode::decode_url_component),
        builtin("decodeUrl", "<s-:s>", 1, 1, encode::decode_url),
        builtin("eval", "<sx?:x>", 2, 2, eval::eval),
        builtin("toMillis", "<s-s?:n>", 2, 2, time::to_millis),
        builtin("fromMillis", "<n-s?s?:s>", 3, 3, time::from_millis),
    ];
    table.sort_by_key(|b| b.name);
    for (index, builtin) in table.iter_mut().enumerate() {
        builtin.index = index;
    }
    table
});

/// The built-in functions: names without `$`, sorted, and signatures as the language writes them (`<s-(sf):b>`).
/// For completion and documentation.
pub fn builtin_functions() -> impl Iterator<Item = (&'static str, &'static str)> {
    TABLE.iter().map(|builtin| (builtin.name, builtin.signature))
}

static SIGNATURES: LazyLock<Vec<Option<Signature>>> =
    LazyLock::new(|| TABLE.iter().map(|builtin| Signature::parse(builtin.signature).ok()).collect());

/// The index of a built-in function.
pub(crate) fn find(name: &[u8]) -> Option<u16> {
    TABLE.binary_search_by(|b| b.name.as_bytes().cmp(name)).ok().map(|i| i as u16)
}

/// The signature of a built-in function.
pub(crate) fn signature(builtin: &Builtin) -> Option<&'static Signature> {
    SIGNATURES[builtin.index].as_ref()
}

/// An argument that the signature lets through as a string or undefined.
pub(crate) fn text<'a>(value: Value<'a>) -> Option<&'a [u8]> {
    match value {
        Value::String(text) => Some(text),
        _ => None,
    }
}

/// An argument that the signature lets through as a number or undefined.
pub(crate) fn num(value: Value<'_>) -> Option<f64> {
    match value {
        Value::Number(n) => Some(n.value),
        _ => None,
    }
}

/// The elements of an argument that the signature made an array; `None` if undefined.
pub(crate) fn list<'a>(run: &Run<'a>, value: Value<'a>) -> R<Option<&'a [Value<'a>]>> {
    match value {
        Value::Undefined => Ok(None),
        Value::Array(array) => run.items(array).map(Some),
        other => Ok(Some(run.arena.alloc_slice(&[other])?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signature_parses() {
        for builtin in TABLE.iter() {
            assert!(signature(builtin).is_some(), "{}", builtin.name);
            assert_eq!(find(builtin.name.as_bytes()), Some(builtin.index as u16));
        }
    }
}
