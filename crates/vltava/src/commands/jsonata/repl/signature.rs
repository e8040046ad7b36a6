//! Signatures of built-in functions for people: `<s-(sf)n?:a<s>>` is `(string = $, string or function,
//! number?) → array`.

use jsonata::builtin_functions;

/// What a built-in function takes and gives; `name` without `$`.
pub(super) fn of(name: &str) -> Option<String> {
    let (_, signature) = builtin_functions().find(|(known, _)| *known == name)?;
    Some(spelled(signature))
}

fn spelled(signature: &str) -> String {
    let inner = signature.strip_prefix('<').and_then(|s| s.strip_suffix('>')).unwrap_or(signature);
    let mut parameters: Vec<String> = Vec::new();
    let mut result = None;
    let mut rest = inner.chars();
    while let Some(c) = rest.next() {
        match c {
            ':' => result = rest.next().map(word),
            '(' => {
                let words: Vec<&str> = rest.by_ref().take_while(|c| *c != ')').map(word).collect();
                parameters.push(words.join(" or "));
            }
            // What is in an array, or what a function takes and gives, is left out.
            '<' => {
                let mut depth = 1;
                rest.by_ref().find(|c| {
                    depth += i32::from(*c == '<') - i32::from(*c == '>');
                    depth == 0
                });
            }
            '-' | '?' | '+' => {
                if let Some(last) = parameters.last_mut() {
                    last.push_str(match c {
                        '-' => " = $",
                        '?' => "?",
                        _ => "...",
                    });
                }
            }
            c if result.is_none() => parameters.push(word(c).to_owned()),
            _ => {}
        }
    }
    let parameters = parameters.join(", ");
    result.map_or_else(|| format!("({parameters})"), |result| format!("({parameters}) → {result}"))
}

fn word(letter: char) -> &'static str {
    match letter {
        's' => "string",
        'n' => "number",
        'b' => "boolean",
        'l' => "null",
        'a' => "array",
        'o' => "object",
        'f' => "function",
        'j' => "value",
        _ => "any",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_spelled_out() {
        assert_eq!(spelled("<s-(sf)n?:a<s>>"), "(string = $, string or function, number?) → array");
        assert_eq!(spelled("<s-f<s:o>n?:a<o>>"), "(string = $, function, number?) → array");
        assert_eq!(spelled("<a<n>:n>"), "(array) → number");
        assert_eq!(spelled("<a+>"), "(array...)");
        assert_eq!(spelled("<:n>"), "() → number");
        assert_eq!(spelled("<(nsb)-:n>"), "(number or string or boolean = $) → number");
        assert_eq!(of("nothing"), None);
        for (name, _) in builtin_functions() {
            let spelled = of(name).unwrap();
            assert!(!spelled.contains(['<', '>', '-']), "{name}: {spelled}");
        }
    }
}
