//! The page of error codes. Codes are those of jsonata-js 2.2.2; the words are this crate's.
//! `S` is found when an expression is compiled, `T` and `D` when it is evaluated. Codes from
//! `S0901` and `D1901` on are this crate's own: limits that jsonata-js does not have.

use crate::error::{Raise, quote, shorten};

/// Every code with what it means, for documentation and tools. In the texts `{token}`, `{value}`,
/// `{value2}`, `{index}` and `{text}` stand for the parts of an error.
pub const ERROR_CODES: &[(&str, &str)] = &[
    ("S0101", "this string has no closing quote"),
    ("S0102", "the number {token} is too large"),
    ("S0103", "unknown escape sequence \\{token}; known are \\\" \\\\ \\/ \\b \\f \\n \\r \\t \\uXXXX"),
    ("S0104", "\\u must be followed by four hexadecimal digits"),
    ("S0105", "this quoted name has no closing backquote (`)"),
    ("S0106", "this comment has no closing */"),
    ("S0201", "{token} is not expected here"),
    ("S0202", "{value} is expected here, not {token}"),
    ("S0203", "the expression ends where {value} is expected"),
    ("S0204", "{token} is not an operator"),
    ("S0207", "the expression ends too early"),
    ("S0208", "parameter {value} of a function must be a variable name (starting with $)"),
    ("S0209", "a predicate cannot follow a grouping expression in a step"),
    ("S0210", "a step can have one grouping expression only"),
    ("S0211", "{token} cannot begin an expression"),
    ("S0212", "the left side of := must be a variable name (starting with $)"),
    ("S0213", "the literal {value} cannot be a step of a path"),
    ("S0214", "the right side of {token} must be a variable name (starting with $)"),
    ("S0215", "a context variable must be bound before the predicates of a step"),
    ("S0216", "a context variable must be bound before the order-by clause of a step"),
    ("S0217", "it cannot be told what the parent (%) of this expression is"),
    ("S0301", "a regular expression cannot be empty"),
    ("S0302", "this regular expression has no closing /"),
    ("S0303", "invalid regular expression: {text}"),
    ("S0401", "only functions (f) and arrays (a) have type parameters, not {value}"),
    ("S0402", "a choice of types cannot contain parameterised types: {value}"),
    ("S0901", "the expression is nested too deeply"),
    ("S0902", "the expression is too long"),
    ("T0410", "argument {index} of {token} has the wrong type: {value}"),
    (
        "T0411",
        "{token} was called without argument {index}, and the context value cannot stand in for it: {value}",
    ),
    ("T0412", "argument {index} of {token} must be an array of {text}"),
    ("D1001", "the number is out of range: {value}"),
    ("D1002", "only a number can be negated, not {value}"),
    ("T1003", "a key of an object must be a string, not {value}"),
    ("D1004", "the regular expression matches the empty string"),
    ("T1005", "{token} is not a function; is ${token} meant?"),
    ("T1006", "{token} is not a function"),
    ("T1007", "{token} is not a function that could be partially applied; is ${token} meant?"),
    ("T1008", "{token} is not a function that could be partially applied"),
    ("D1009", "two expressions of the object give the same key {value}"),
    ("T1010", "the matcher given to {token} does not return a match object"),
    ("D1011", "the recursion is too deep"),
    ("D1012", "the evaluation takes too long"),
    ("D1013", "the key {value} is reserved"),
    ("D1901", "too many evaluation steps"),
    ("D1902", "too many bytes of intermediate values"),
    ("D1903", "too many bytes of output"),
    ("D1904", "too many steps of regular expressions"),
    ("D1905", "a value given to or by a function of the host is nested too deeply"),
    ("T2001", "the left side of {token} must be a number, not {value}"),
    ("T2002", "the right side of {token} must be a number, not {value}"),
    ("T2003", "the left side of the range operator .. must be an integer, not {value}"),
    ("T2004", "the right side of the range operator .. must be an integer, not {value}"),
    ("T2006", "the right side of ~> must be a function, not {value}"),
    ("T2007", "order-by cannot compare {value} with {value2}: they differ in type"),
    ("T2008", "order-by can only compare numbers and strings, not {value}"),
    ("T2009", "{token} cannot compare {value} with {value2}: they differ in type"),
    ("T2010", "{token} can only compare numbers and strings, not {value}"),
    ("T2011", "the update clause of a transform must give an object, not {value}"),
    ("T2012", "the delete clause of a transform must give a string or an array of strings, not {value}"),
    ("T2013", "the transform needs the function $clone, which is bound to something else here"),
    ("D2014", "a range has at most 10,000,000 elements, not {value}"),
    ("D3001", "a number that is not finite has no string: {value}"),
    ("D3010", "the second argument of $replace must not be an empty string"),
    ("D3011", "the fourth argument of $replace must not be negative: {value}"),
    ("D3012", "the replacement function must return a string, not {value}"),
    ("D3020", "the third argument of $split must not be negative: {value}"),
    ("D3030", "this cannot be made a number: {value}"),
    ("D3040", "the third argument of $match must not be negative: {value}"),
    ("D3050", "the second argument of $reduce must be a function of at least two arguments"),
    ("D3060", "a negative number has no square root: {value}"),
    ("D3061", "the power is not a finite number: base {value}, exponent {value2}"),
    ("D3070", "$sort without a function sorts arrays of strings or arrays of numbers only"),
    ("D3080", "a number picture has at most two sub-pictures"),
    ("D3081", "a sub-picture has at most one decimal separator"),
    ("D3082", "a sub-picture has at most one percent sign"),
    ("D3083", "a sub-picture has at most one per-mille sign"),
    ("D3084", "a sub-picture cannot have both a percent and a per-mille sign"),
    ("D3085", "the mantissa of a sub-picture needs at least one digit"),
    ("D3086", "a sub-picture cannot have other characters between its digits"),
    ("D3087", "a grouping separator cannot stand next to the decimal separator"),
    ("D3088", "a grouping separator cannot end the integer part"),
    ("D3089", "two grouping separators cannot stand together"),
    ("D3090", "in the integer part, optional digits (#) stand before mandatory ones"),
    ("D3091", "in the fractional part, optional digits (#) stand after mandatory ones"),
    ("D3092", "a sub-picture with a percent or per-mille sign cannot have an exponent"),
    ("D3093", "the exponent of a sub-picture consists of digits only, and at least one"),
    ("D3100", "the radix must be from 2 to 36, not {value}"),
    ("D3110", "{value} is not an ISO 8601 timestamp"),
    ("D3120", "$eval got an expression with a syntax error: {text}"),
    ("D3121", "$eval failed: {text}"),
    ("D3130", "integers cannot be formatted or parsed as a sequence that starts with {value}"),
    ("D3131", "all digits of a picture must be of the same script"),
    ("D3132", "unknown component {value} in a date and time picture"),
    ("D3133", "only months and days have names, not component {value}"),
    ("D3134", "a timezone picture has at most four digits"),
    ("D3135", "a [ in the date and time picture has no closing ]"),
    ("D3136", "the date and time picture lacks components that are needed to find the time"),
    ("D3137", "{text}"),
    ("D3138", "$single found more than one match"),
    ("D3139", "$single found no match"),
    ("D3140", "{token} cannot encode or decode this malformed text: {value}"),
    ("D3141", "{text}"),
];

/// Fills in the message of an error.
pub(crate) fn message(raise: &Raise) -> String {
    let Some((_, template)) = ERROR_CODES.iter().find(|(code, _)| *code == raise.code) else {
        return raise.text.clone().unwrap_or_default();
    };
    let mut out = String::new();
    let mut rest = *template;
    while let Some(open) = rest.find('{') {
        out.push_str(&rest[..open]);
        let Some(close) = rest[open..].find('}') else { break };
        match &rest[open + 1..open + close] {
            "token" => match (&raise.token, out.ends_with('$')) {
                (Some(token), true) => out.push_str(&shorten(token)),
                (Some(token), false) => out.push_str(&quote(token)),
                (None, _) => out.push_str("this"),
            },
            "value" => out.push_str(&shorten(raise.value.as_deref().unwrap_or("nothing"))),
            "value2" => out.push_str(&shorten(raise.value2.as_deref().unwrap_or("nothing"))),
            "index" => out.push_str(&raise.index.map_or_else(String::new, |i| i.to_string())),
            "text" => out.push_str(raise.text.as_deref().unwrap_or("")),
            other => {
                out.push('{');
                out.push_str(other);
                out.push('}');
            }
        }
        rest = &rest[open + close + 1..];
    }
    out.push_str(rest);
    out
}
