//! An expression as a tree, a part a line.
//!
//! Invariant: it is as long as [`LINES_MAX`] allows, whatever the expression is, and is made without recursion.

use jsonata::Syntax;

use crate::output;

/// Parts that are shown.
const LINES_MAX: usize = 1_000;
/// Of a part's text so much.
const TEXT_CHARS_MAX: usize = 60;
/// Deeper levels aren't moved further to the right.
const INDENT_LEVELS_MAX: usize = 30;

pub(super) fn lines(expression: &str) -> Vec<String> {
    let syntax = Syntax::parse(expression);
    let mut lines = Vec::new();
    let mut rest = vec![(0, syntax.root())];
    while let Some((depth, node)) = rest.pop() {
        if lines.len() == LINES_MAX {
            lines.push(format!("... ({LINES_MAX} parts are shown)"));
            break;
        }
        let indent = "  ".repeat(depth.min(INDENT_LEVELS_MAX));
        lines.push(format!("{indent}{:?} {}", node.kind(), output::printable(node.text(), TEXT_CHARS_MAX)));
        rest.extend(node.children().rev().map(|child| (depth + 1, child)));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_under_what_they_are_in_and_have_an_end() {
        assert_eq!(
            lines("a.b[c = 1]"),
            [
                "Path a.b[c = 1]",
                "  Name a",
                "  Filter b[c = 1]",
                "    Name b",
                "    Binary c = 1",
                "      Name c",
                "      Number 1",
            ]
        );
        let long = lines(&vec!["1"; 2_000].join(" + "));
        assert_eq!(long.len(), LINES_MAX + 1);
    }
}
