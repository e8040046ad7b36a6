//! Two values side by side, line by line: what is the same stands once, and what is far from any
//! difference is left out.

use control::transform_test::same;
use serde_json::Value;

/// Lines that are shown around a difference.
const CONTEXT_LINES: usize = 3;

/// Whose line it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Both,
    Expected,
    Found,
}

impl Side {
    pub(crate) fn sign(self) -> char {
        match self {
            Self::Both => ' ',
            Self::Expected => '-',
            Self::Found => '+',
        }
    }
}

/// The lines of both, with their sides; `...` stands for lines that are left out.
pub(crate) fn lines(expected: &Value, found: &Value) -> Vec<(Side, String)> {
    let mut lines = Vec::new();
    compare(&mut lines, 0, "", expected, found, "");
    let differs: Vec<usize> =
        lines.iter().enumerate().filter(|(_, (side, _))| *side != Side::Both).map(|(i, _)| i).collect();
    let mut near = vec![false; lines.len()];
    for at in differs {
        let range = at.saturating_sub(CONTEXT_LINES)..(at + CONTEXT_LINES + 1).min(lines.len());
        near[range].fill(true);
    }
    let mut shown = Vec::new();
    let mut left_out: Vec<(Side, String)> = Vec::new();
    let close = |left_out: &mut Vec<_>, shown: &mut Vec<_>| match left_out.len() {
        // One line takes no more room than what would stand for it.
        0 | 1 => shown.append(left_out),
        _ => {
            left_out.clear();
            shown.push((Side::Both, "...".into()));
        }
    };
    for (line, near) in lines.into_iter().zip(near) {
        if near {
            close(&mut left_out, &mut shown);
            shown.push(line);
        } else {
            left_out.push(line);
        }
    }
    close(&mut left_out, &mut shown);
    shown
}

/// `label` is a member's name with its colon, or nothing; `end` is a comma or nothing.
fn compare(
    lines: &mut Vec<(Side, String)>,
    depth: usize,
    label: &str,
    expected: &Value,
    found: &Value,
    end: &str,
) {
    let indent = "  ".repeat(depth);
    if same(expected, found) {
        return put(lines, Side::Both, depth, label, expected, end);
    }
    match (expected, found) {
        (Value::Object(a), Value::Object(b)) => {
            lines.push((Side::Both, format!("{indent}{label}{{")));
            for (name, expected) in a {
                let label = format!("{}: ", Value::from(name.as_str()));
                match b.get(name) {
                    Some(found) => compare(lines, depth + 1, &label, expected, found, ","),
                    None => put(lines, Side::Expected, depth + 1, &label, expected, ","),
                }
            }
            for (name, found) in b.iter().filter(|(name, _)| !a.contains_key(*name)) {
                put(lines, Side::Found, depth + 1, &format!("{}: ", Value::from(name.as_str())), found, ",");
            }
            lines.push((Side::Both, format!("{indent}}}{end}")));
        }
        (Value::Array(a), Value::Array(b)) => {
            lines.push((Side::Both, format!("{indent}{label}[")));
            // What both begin with and end with stays: an element more or less moves no others.
            let front = a.iter().zip(b).take_while(|(a, b)| same(a, b)).count();
            let (rest_a, rest_b) = (&a[front..], &b[front..]);
            let back = rest_a.iter().rev().zip(rest_b.iter().rev()).take_while(|(a, b)| same(a, b)).count();
            let (middle_a, tail) = rest_a.split_at(rest_a.len() - back);
            let middle_b = &rest_b[..rest_b.len() - back];
            a[..front].iter().for_each(|value| put(lines, Side::Both, depth + 1, "", value, ","));
            for i in 0..middle_a.len().max(middle_b.len()) {
                match (middle_a.get(i), middle_b.get(i)) {
                    (Some(a), Some(b)) => compare(lines, depth + 1, "", a, b, ","),
                    (Some(a), None) => put(lines, Side::Expected, depth + 1, "", a, ","),
                    (None, Some(b)) => put(lines, Side::Found, depth + 1, "", b, ","),
                    (None, None) => {}
                }
            }
            tail.iter().for_each(|value| put(lines, Side::Both, depth + 1, "", value, ","));
            lines.push((Side::Both, format!("{indent}]{end}")));
        }
        _ => {
            put(lines, Side::Expected, depth, label, expected, end);
            put(lines, Side::Found, depth, label, found, end);
        }
    }
}

fn put(lines: &mut Vec<(Side, String)>, side: Side, depth: usize, label: &str, value: &Value, end: &str) {
    let text = serde_json::to_string_pretty(value).expect("a value has string keys");
    let indent = "  ".repeat(depth);
    let count = text.lines().count();
    for (i, line) in text.lines().enumerate() {
        let label = if i == 0 { label } else { "" };
        let end = if i + 1 == count { end } else { "" };
        lines.push((side, format!("{indent}{label}{line}{end}")));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn text(expected: &Value, found: &Value) -> String {
        let lines = lines(expected, found);
        lines.iter().map(|(side, text)| format!("{} {text}\n", side.sign())).collect()
    }

    #[test]
    fn only_what_differs_stands_twice() {
        let expected = json!({"a": 1, "b": [1, 2, 3], "c": {"d": null}, "gone": true});
        let found = json!({"a": 1.0, "b": [1, 3], "c": {"d": "x"}, "new": []});
        assert_eq!(
            text(&expected, &found),
            "  {\n    \"a\": 1,\n    \"b\": [\n      1,\n-     2,\n      3,\n    ],\n    \"c\": {\n-     \"d\": null,\n+     \
             \"d\": \"x\",\n    },\n-   \"gone\": true,\n+   \"new\": [],\n  }\n"
        );
        assert_eq!(text(&json!(1), &json!("1")), "- 1\n+ \"1\"\n");
    }

    #[test]
    fn what_is_far_from_any_difference_is_left_out() {
        let expected: Vec<i64> = (0..100).collect();
        let mut found = expected.clone();
        found[50] = -1;
        let shown = text(&json!(expected), &json!(found));
        assert_eq!(
            shown,
            "  ...\n    47,\n    48,\n    49,\n-   50,\n+   -1,\n    51,\n    52,\n    53,\n  ...\n"
        );
    }
}
