//! What stands in front of the cursor, as characters: is it code, and which calls are open.
//!
//! Invariant: any text is read to its end, in one pass. Regular expressions are taken as code, which costs a
//! suggestion where one has a quote in it.

/// What the cursor is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Within {
    Code,
    /// A name in backquotes that begins at this byte.
    Name(usize),
    /// A string or a comment: nothing is suggested.
    Text,
}

#[derive(Debug)]
pub(super) struct Before<'t> {
    pub(super) within: Within,
    /// The innermost variable whose argument list is open, without `$`.
    pub(super) call: Option<&'t str>,
}

pub(super) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The word that the text ends with; empty if it ends with none.
pub(super) fn last_word(text: &str) -> &str {
    &text[text.trim_end_matches(is_word).len()..]
}

pub(super) fn before(text: &str) -> Before<'_> {
    let mut within = Within::Code;
    let mut quote = ' ';
    let mut escaped = false;
    // For each open bracket the function before it, if it is one.
    let mut open: Vec<Option<&str>> = Vec::new();
    let mut previous = ' ';
    for (at, c) in text.char_indices() {
        match within {
            Within::Name(_) if c == '`' => within = Within::Code,
            Within::Name(_) => {}
            Within::Text if quote == '*' => {
                if previous == '*' && c == '/' {
                    within = Within::Code;
                }
            }
            Within::Text if escaped => escaped = false,
            Within::Text if c == '\\' => escaped = true,
            Within::Text if c == quote => within = Within::Code,
            Within::Text => {}
            Within::Code => match c {
                '`' => within = Within::Name(at),
                '"' | '\'' => (within, quote) = (Within::Text, c),
                '*' if previous == '/' => {
                    (within, quote) = (Within::Text, c);
                    // `/*/` doesn't end what it begins.
                    previous = ' ';
                    continue;
                }
                '(' => {
                    let name = last_word(&text[..at]);
                    let called = !name.is_empty() && text[..at - name.len()].ends_with('$');
                    open.push(called.then_some(name));
                }
                '[' | '{' => open.push(None),
                ')' | ']' | '}' => {
                    open.pop();
                }
                _ => {}
            },
        }
        previous = c;
    }
    Before { within, call: open.last().copied().flatten() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_comments_and_names_are_told_from_code() {
        let within = |text| before(text).within;
        assert_eq!(within("a.b[c = 'x' and \"it's\"]"), Within::Code);
        assert_eq!(within("a & 'it\\'s"), Within::Text);
        assert_eq!(within("a /* b"), Within::Text);
        assert_eq!(within("a /*/"), Within::Text);
        assert_eq!(within("a /* 'b */ c"), Within::Code);
        assert_eq!(within("a.`net ki"), Within::Name(2));
        assert_eq!(within("a.`net kind`."), Within::Code);
        assert_eq!(within("ř.'"), Within::Text);
    }

    #[test]
    fn the_open_call_is_known() {
        let call = |text| before(text).call;
        assert_eq!(call("$substring(name, "), Some("substring"));
        assert_eq!(call("$map(a, $uppercase(b)"), Some("map"));
        assert_eq!(call("$map(a, ("), None);
        assert_eq!(call("$f()"), None);
        assert_eq!(call("f("), None);
        assert_eq!(call(")]}("), None);
    }
}
