//! Programs put together at random: whatever they are, they compile or give a syntax error, and
//! evaluate within their steps to the same result twice.

use std::time::Duration;

use jsonata::{Bindings, Budget, ErrorKind, Evaluator, Outcome, Output, Program};
use proptest::prelude::*;

pub(crate) fn expression() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        prop::sample::select(vec![
            "1",
            "0",
            "-2",
            "1e3",
            "\"x\"",
            "''",
            "true",
            "null",
            "a",
            "b",
            "$",
            "$$",
            "*",
            "**",
            "%",
            "$x",
            "$sum",
            "$string",
            "$uppercase",
            "/a+/i",
            "/(?=a)(a*)*$/",
            "[1..5]",
            "[]",
            "{}",
            "a.b.c",
            "items",
            "$now()",
            "$f",
        ])
        .prop_map(str::to_owned),
        "[a-z$.\\[\\](){}+*/%@#:?<>=^&|~! '\"0-9-]{1,12}",
    ];
    leaf.prop_recursive(5, 60, 4, |inner| {
        let two = (inner.clone(), inner.clone());
        let operators = vec![
            "+", "-", "*", "/", "%", "=", "!=", "<", ">=", "&", " and ", " or ", " in ", ".", "~>", "?:",
            "??", "..",
        ];
        prop_oneof![
            (two.clone(), prop::sample::select(operators)).prop_map(|((a, b), op)| format!("{a}{op}{b}")),
            two.clone().prop_map(|(a, b)| format!("{a}[{b}]")),
            two.clone().prop_map(|(a, b)| format!("{{{a}: {b}}}")),
            two.clone().prop_map(|(a, b)| format!("{a}{{{b}: $}}")),
            two.clone().prop_map(|(a, b)| format!("{a}^(>{b})")),
            two.clone().prop_map(|(a, b)| format!("({a}; {b})")),
            two.clone().prop_map(|(a, b)| format!("($x := {a}; {b})")),
            two.clone().prop_map(|(a, b)| format!("($f := function($x) {{ {a} }}; $f({b}))")),
            two.clone().prop_map(|(a, b)| format!("{a}@$x.{b}#$i")),
            two.clone().prop_map(|(a, b)| format!("$map({a}, function($x, $i) {{ {b} }})")),
            two.clone().prop_map(|(a, b)| format!("$ ~> |{a}|{b}|")),
            two.clone().prop_map(|(a, b)| format!("$reduce({a}, function($x, $y) {{ {b} }})")),
            (two, inner.clone()).prop_map(|((a, b), c)| format!("{a} ? {b} : {c}")),
            (
                prop::sample::select(vec![
                    "sum",
                    "string",
                    "count",
                    "keys",
                    "merge",
                    "distinct",
                    "sort",
                    "reverse",
                    "spread",
                    "each",
                    "sift",
                    "eval",
                    "split",
                    "join",
                    "match",
                    "replace",
                    "contains",
                    "pad",
                    "formatNumber",
                    "formatInteger",
                    "fromMillis",
                    "toMillis",
                    "number",
                    "round",
                    "lookup",
                    "zip",
                    "append",
                    "single",
                    "filter",
                    "clone",
                ]),
                prop::collection::vec(inner, 0..3)
            )
                .prop_map(|(name, args)| format!("${name}({})", args.join(", "))),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_program_ends_within_its_budget(source in expression()) {
        let Ok(program) = Program::compile(&source) else { return Ok(()) };
        let budget = Budget {
            steps: 20_000,
            depth: 200,
            bytes: 1024 * 1024,
            output_bytes: 64 * 1024,
            regex_steps: 20_000,
            wall: Duration::from_secs(60),
        };
        let input = br#"{"a": {"b": {"c": [1, 2, {"d": "aaaa!"}]}}, "b": "x", "items": [{"a": 1}, {"a": 2, "b": [3]}]}"#;
        let bindings = Bindings::new(1_700_000_000_000, 3).with_number("x", 1.0);
        let (mut first, mut second) = (Output::new(), Output::new());
        let mut evaluator = Evaluator::new();
        let (one, usage) = evaluator.eval_counted(&program, Some(input), &bindings, &budget, &mut first);
        let (two, again) = evaluator.eval_counted(&program, Some(input), &bindings, &budget, &mut second);
        prop_assert_eq!(&one, &two);
        prop_assert_eq!(usage, again);
        prop_assert_eq!(first.as_bytes(), second.as_bytes());
        prop_assert!(usage.steps <= budget.steps);
        prop_assert!(usage.bytes <= budget.bytes);
        prop_assert!(first.as_bytes().len() <= budget.output_bytes);
        if one.is_ok() && !first.as_bytes().is_empty() {
            prop_assert!(serde_json::from_slice::<serde_json::Value>(first.as_bytes()).is_ok()
                || first.as_bytes().windows(2).any(|w| w == b"\\u"));
        }
        // What a program reads of its input is all that it needs: with all of the input at hand the result
        // is the same.
        let whole = Program::compile(&format!("{{\"all\": $$, \"it\": ({source})}}"));
        if let (Ok(Outcome::Null | Outcome::Value), Ok(whole)) = (&one, whole) {
            let mut all = Output::new();
            if evaluator.eval(&whole, input, &bindings, &budget, &mut all).is_ok()
                && let Ok(all) = serde_json::from_slice::<serde_json::Value>(all.as_bytes())
            {
                let alone = serde_json::from_slice::<serde_json::Value>(first.as_bytes()).ok();
                prop_assert_eq!(all.get("it"), alone.as_ref());
            }
        }
        if let Err(e) = &one {
            prop_assert!(!matches!(e.kind(), ErrorKind::InvalidJson(_)));
            prop_assert!(!e.to_string().is_empty());
        }
    }
}
