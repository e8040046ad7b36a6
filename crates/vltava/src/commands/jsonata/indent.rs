//! JSON over several lines, for people.
//!
//! Invariant: only white space is added: a number keeps the digits that it was written with, which it
//! would not as a parsed value. The text is a result of the engine, so it is JSON without white space.

/// The text with two spaces a level.
pub(super) fn indented(json: &str) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let mut depth = 0_usize;
    let mut rest = json.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '"' => {
                out.push(c);
                while let Some(c) = rest.next() {
                    out.push(c);
                    match c {
                        '"' => break,
                        '\\' => out.extend(rest.next()),
                        _ => {}
                    }
                }
            }
            '{' | '[' => {
                out.push(c);
                match rest.next_if(|next| matches!(next, '}' | ']')) {
                    Some(end) => out.push(end),
                    None => {
                        depth += 1;
                        new_line(&mut out, depth);
                    }
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                new_line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                new_line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            _ => out.push(c),
        }
    }
    out
}

fn new_line(out: &mut String, depth: usize) {
    out.push('\n');
    out.extend(std::iter::repeat_n("  ", depth));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_white_space_is_added() {
        assert_eq!(
            indented(r#"{"a":[1.10,{},[]],"b\"{":"x:,\\"}"#),
            "{\n  \"a\": [\n    1.10,\n    {},\n    []\n  ],\n  \"b\\\"{\": \"x:,\\\\\"\n}"
        );
        assert_eq!(indented("12345678901234567890.0"), "12345678901234567890.0");
    }
}
