//! What a program says of itself: what it reads of its input, and the variables it needs.

use std::collections::BTreeMap;
use std::time::Duration;

use jsonata::{Bindings, Budget, Evaluator, Host, Output, Program, Reads};
use serde_json::Value;

use crate::suite;

fn reads(source: &str) -> String {
    match Program::compile(source).expect(source).reads() {
        Reads::Everything => "everything".to_owned(),
        Reads::Fields(paths) => paths.iter().map(|path| path.join(".")).collect::<Vec<_>>().join(" "),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_program_says_which_fields_it_reads() {
    for (source, expected) in [
        ("1 + 1", ""),
        ("a.b.c", "a.b.c"),
        ("$", "everything"),
        ("$$.a", "a"),
        ("{'x': a.b, 'y': $uppercase(c) & d, 'z': e ? f : g.h}", "a.b c d e f g.h"),
        ("items[price > 10].{'n': name, 'p': price * quantity}", "items.name items.price items.quantity"),
        ("a.b ~> $sum", "a.b"),
        ("items.(price * $$.rate)", "items.price rate"),
        ("items^(>price).name", "items.name items.price"),
        ("items{kind: $sum(price)}", "items.kind items.price"),
        ("orders.items.{'order': %.id, 'sku': sku}", "orders.id orders.items.sku"),
        ("orders@$o.customers[id = $o.customer].name", "customers.id customers.name orders.customer"),
        ("$map(items, function($i) { $i.sku & suffix })", "items.sku suffix"),
        ("items ~> $filter(function($i) { $i.on }) ~> $map(function($i) { $i.id })", "items.id items.on"),
        ("$reduce(xs, function($a, $b) { {'n': $a.n + $b.n} }, start)", "start xs"),
        ("($x := a.b; $f := function($y) { $y.z & $x.c }; $f(d))", "a.b.c d"),
        ("($f := function() { $x.c }; $x := a.b; $f())", "a.b.c"),
        ("a.*", "a"),
        ("a.**.b", "a"),
        ("**.b", "everything"),
        ("a.$length()", "a"),
        ("a.b.$keys()", "a.b"),
        ("a.$lookup('b')", "a"),
        ("$substring(a, 1)", "a"),
        ("a.($k := $keys; $k())", "a"),
        ("$eval(a)", "everything"),
        ("($e := $eval; 1)", "everything"),
        ("($x := a; $x := $x.next; $x.v)", "everything"),
        ("a.b ~> |c|{'d': e}|", "a.b"),
        ("a.`b c`", "a.b c"),
        ("a.b & a", "a"),
        ("[a, b.c].d", "a.d b.c.d"),
        ("a ?? b", "a b"),
        ("(a; b)", "a b"),
    ] {
        assert_eq!(reads(source), expected, "{source}");
    }
    let many = (0..5000).map(|i| format!("f{i}")).collect::<Vec<_>>().join(", ");
    assert_eq!(reads(&format!("[{many}]")), "everything");
}

/// Fields to keep; none: all below.
#[derive(Default)]
struct Keep(BTreeMap<String, Keep>);

fn prune(value: &mut Value, keep: &Keep) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| prune(item, keep)),
        Value::Object(fields) => {
            fields.retain(|name, _| keep.0.contains_key(name));
            for (name, field) in fields.iter_mut() {
                let below = &keep.0[name];
                if !below.0.is_empty() {
                    prune(field, below);
                }
            }
        }
        _ => {}
    }
}

#[test]
fn what_is_not_read_has_no_influence() {
    let (mut cases, mut pruned_of_more) = (0, 0);
    for (source, input) in suite::expressions_with_input() {
        let (Ok(program), Some(input)) = (Program::compile(&source), input) else { continue };
        let Reads::Fields(paths) = program.reads() else { continue };
        let mut keep = Keep::default();
        for path in &paths {
            let mut at = &mut keep;
            for name in path {
                at = at.0.entry(name.clone()).or_default();
            }
        }
        let mut less = input.clone();
        prune(&mut less, &keep);
        cases += 1;
        pruned_of_more += usize::from(less != input);
        let budget = Budget { steps: 2_000_000, wall: Duration::from_secs(60), ..Budget::default() };
        // An evaluation passes over what is not read; one that may read anything does not.
        let all = Program::compile(&format!("($eval; {source})")).expect(&source);
        assert_eq!(all.reads(), Reads::Everything);
        let eval = |program: &Program, input: &Value| {
            let mut output = Output::new();
            let result =
                Evaluator::new().eval_value(program, input, &Bindings::new(0, 0), &budget, &mut output);
            (result.map_err(|e| e.code()), output.as_bytes().to_vec())
        };
        let expected = eval(&all, &input);
        assert_eq!(expected, eval(&program, &less), "{source} reads {paths:?}");
        assert_eq!(expected, eval(&program, &input), "{source} reads {paths:?}");
    }
    println!("{cases} programs read fields, {pruned_of_more} of them not all there are");
    assert!(cases > 0 && pruned_of_more > 0);
}

#[test]
fn a_program_says_which_variables_it_needs() {
    let mut host = Host::new();
    host.constant("rate", 2.into()).expect("a name");
    for (source, expected) in [
        ("($x := a.b; $x + $y.c + $sum(d) + $map(e, function($v) { $v.f }))", &["y"][..]),
        ("($a := 1; $b) + $a", &["a", "b"]),
        ("($y := $x; $x := 1; $y)", &["x"]),
        ("($f := function($n) { $g($n) }; $g := function($n) { $f($n) }; $f(1))", &[]),
        ("($f := function($n) { $m }; ($m := 1); $f(1))", &["m"]),
        ("function($p) { ($q := $p; $q & $r) }", &["r"]),
        ("a@$v#$i.b[$v.c = $i].{'x': $v, 'y': $w} ~> $append($v)", &["v", "w"]),
        ("$$.a & $now() & $rate", &[]),
        ("$sum := 1", &[]),
        ("$partition ? $topic : $ ~> |$|{'k': $key}|", &["key", "partition", "topic"]),
    ] {
        let program = Program::compile_with(source, &host).expect(source);
        assert_eq!(program.variables(), expected, "{source}");
    }
}
