//! JSON for a terminal, in colours.
//!
//! Invariant: what it shows is JSON of the same value, and no character of it is obeyed by a terminal.

use owo_colors::OwoColorize as _;

use super::super::indent;

/// What fits is shown in one line.
const ONE_LINE_CHARS_MAX: usize = 72;

/// JSON that has no white space, for people.
pub(super) fn painted(json: &str, colours: bool) -> String {
    let json = if json.chars().nth(ONE_LINE_CHARS_MAX).is_some() { &indent::indented(json) } else { json };
    let mut out = String::with_capacity(json.len() * 2);
    let mut rest = json;
    while let Some(first) = rest.chars().next() {
        let end = token_end(rest, first);
        let (token, after) = rest.split_at(end);
        rest = after;
        let shown = harmless(token);
        match first {
            _ if !colours => out.push_str(&shown),
            '"' if rest.starts_with(':') => out.push_str(&shown.blue().to_string()),
            '"' => out.push_str(&shown.green().to_string()),
            '-' | '0'..='9' => out.push_str(&shown.yellow().to_string()),
            't' | 'f' | 'n' => out.push_str(&shown.magenta().to_string()),
            _ => out.push_str(&shown),
        }
    }
    out
}

/// Where the token ends that `text` begins with.
fn token_end(text: &str, first: char) -> usize {
    if first == '"' {
        let mut escaped = false;
        for (at, c) in text.char_indices().skip(1) {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => return at + 1,
                _ => {}
            }
        }
        return text.len();
    }
    let of_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    if of_word(first) { text.find(|c| !of_word(c)).unwrap_or(text.len()) } else { first.len_utf8() }
}

/// JSON leaves DEL and the controls of C1 as they are; a terminal obeys them.
fn harmless(token: &str) -> String {
    let mut shown = String::with_capacity(token.len());
    for c in token.chars() {
        if c.is_control() && c != '\n' {
            shown.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            shown.push(c);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_have_lines_and_short_ones_one() {
        assert_eq!(painted(r#"{"a":[1.50,null]}"#, false), r#"{"a":[1.50,null]}"#);
        let long = format!("[\"{}\"]", "x".repeat(ONE_LINE_CHARS_MAX));
        assert_eq!(painted(&long, false), indent::indented(&long));
    }

    #[test]
    fn tokens_have_colours_and_text_no_power() {
        let shown = painted("{\"a\\\"b\":[\"t\",-1.5e3,true]}", true);
        assert_eq!(
            shown,
            format!(
                "{{{}:[{},{},{}]}}",
                "\"a\\\"b\"".blue(),
                "\"t\"".green(),
                "-1.5e3".yellow(),
                "true".magenta()
            )
        );
        assert_eq!(painted("\"\u{9b}31m\u{7f}\"", false), "\"\\u009b31m\\u007f\"");
    }
}
