//! Every way to harm that is known, by name: each ends in a value or an ordinary error, holds no more
//! memory than its budget says, and leaves other threads alone. Memory is what the global allocator
//! was asked for, not what the engine says of itself.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jsonata::{Bindings, Budget, ErrorKind, EvalError, Evaluator, Limit, Outcome, Output, Program};

use crate::allocations::most_held;

/// Bytes and output bytes. What comes of a case is said for the first; the others show buffers that
/// are large beside them.
const BUDGETS: [(usize, usize); 3] = [(8 << 20, 1 << 20), (1 << 20, 64 << 10), (2 << 20, 16 << 20)];
/// What an evaluation may hold besides: caches of regular expressions, scratch of fixed size.
const FIXED_BYTES: usize = 512 * 1024;

fn budget((bytes, output_bytes): (usize, usize)) -> Budget {
    Budget {
        steps: 3_000_000,
        depth: 1_000,
        bytes,
        output_bytes,
        regex_steps: 1_000_000,
        wall: Duration::from_secs(60),
    }
}

/// What must come of a case.
#[derive(Clone, Copy)]
enum Ends {
    /// One of the limits.
    Over,
    /// An error of the expression with this code.
    Fails(&'static str),
    /// A value.
    Well,
    /// The input is refused.
    NoJson,
    /// Any of these, as chance has it.
    Somehow,
}

fn shared(step: &str, last: &str) -> String {
    format!("($d := function($x, $n) {{ $n = 0 ? $x : $d({step}, $n - 1) }}; {last})")
}

/// The cases: a name, the expression, the input, what comes of it.
fn cases() -> Vec<(&'static str, String, Vec<u8>, Ends)> {
    use Ends::{Fails, NoJson, Over, Somehow, Well};
    let deep =
        |open: &str, close: &str, n: usize| format!("{}1{}", open.repeat(n), close.repeat(n)).into_bytes();
    let long = |text: &str, n: usize| format!("\"{}\"", text.repeat(n)).into_bytes();
    let list = |item: &str, n: usize| format!("[{}]", vec![item; n].join(",")).into_bytes();
    let null = || b"null".to_vec();
    let s = str::to_owned;
    vec![
        ("pad", s("$pad('x', 1e15)"), null(), Over),
        ("pad to the left", s("$pad('x', -1e15, 'abc')"), null(), Over),
        ("a range", s("[1..1e9]"), null(), Fails("D2014")),
        ("a range that is looked at", s("$sum([1..1e7])"), null(), Over),
        ("nested ranges", s("[1..1e6].[1..1e6]"), null(), Over),
        ("ranges in ranges", s("[[1..1e7], [1..1e7], [1..1e7]]"), null(), Over),
        ("shared strings", shared("$x & $x", "$d('x', 60)"), null(), Over),
        ("shared arrays through $string", shared("[$x, $x]", "$string($d('x', 60))"), null(), Over),
        (
            "shared arrays through $string, pretty",
            shared("[[$x], [$x]]", "$string($d('x', 60), true)"),
            null(),
            Over,
        ),
        ("shared arrays through $join", shared("[$x, $x]", "$join($d('xxxxxxxx', 60))"), null(), Over),
        ("shared objects in the output", shared("{'a': $x, 'b': $x}", "$d('x', 60)"), null(), Over),
        ("$map recursion", s("($f := function($x) { $map([1, 2], $f) }; $f(1))"), null(), Over),
        ("recursion that is no tail call", s("($f := function($n) { 1 + $f($n + 1) }; $f(0))"), null(), Over),
        (
            "mutual recursion",
            s("($f := function($n) { [$g($n)] }; $g := function($n) { {'a': $f($n)} }; $f(0))"),
            null(),
            Over,
        ),
        ("tail recursion", s("($f := function($n) { $f($n + 1) }; $f(0))"), null(), Over),
        (
            "mutual tail recursion",
            s("($f := function($n) { $g($n + 1) }; $g := function($n) { $f($n + 1) }; $f(0))"),
            null(),
            Over,
        ),
        (
            "tail recursion that ends",
            s("($f := function($n) { $n = 0 ? 'end' : $f($n - 1) }; $f(20000))"),
            null(),
            Well,
        ),
        (
            "deep nesting in the expression",
            format!("{}1{}", "[".repeat(2400), "]".repeat(2400)),
            null(),
            Over,
        ),
        ("deep arrays in the input", s("$"), deep("[", "]", 100_000), Over),
        ("deep objects in the input", s("$"), deep("{\"a\":", "}", 100_000), Over),
        ("deep arrays, equal", s("$ = [$][0]"), deep("[", "]", 100_000), Over),
        ("deep arrays that are left", s("$count($)"), deep("[", "]", 100_000), Well),
        ("$split at nothing", s("$split($, '')"), long("a", 300_000), Over),
        ("$split at empty matches", s("$split($, /x*/)"), long("a", 300_000), Somehow),
        (
            "$replace of empty matches",
            s("$replace($, /x*/, 'yyyyyyyyyyyyyyyy')"),
            long("a", 300_000),
            Somehow,
        ),
        ("$replace that grows", s("$replace($, 'a', $pad('', 100, 'b'))"), long("a", 300_000), Over),
        (
            "$replace of matches that grows",
            s("$replace($, /a/, $pad('', 100, 'b'))"),
            long("a", 100_000),
            Over,
        ),
        ("$match of everything", s("$match($, /a/)"), long("a", 300_000), Over),
        ("a catastrophic regex", s("$contains($, /^(?=a)(a+)+$/)"), long("a", 5_000), Somehow),
        ("a catastrophic regex that fails", s("$contains($ & 'b', /^(?=a)(a+)+$/)"), long("a", 5_000), Over),
        (
            "a catastrophic regex of the linear kind",
            s("$contains($ & 'b', /^(a+)+$/)"),
            long("a", 300_000),
            Well,
        ),
        ("back-references", s("$match($, /(.*)\\1$x/)"), long("ab", 50_000), Over),
        (
            "a regex of many states",
            s("$contains($, /(a?){1000}(a{1,1000}){1,100}b/)"),
            long("a", 2_000),
            Somehow,
        ),
        (
            "an inconsistent comparator",
            s("$sort($, function($a, $b) { $random() > 0.5 })"),
            list("1", 20_000),
            Somehow,
        ),
        (
            "a comparator that is always true",
            s("$sort($, function($a, $b) { true })"),
            list("1", 20_000),
            Somehow,
        ),
        ("$eval of itself", s("($e := '$eval($e)'; $eval($e))"), null(), Over),
        (
            "$eval of itself in a loop",
            s("($e := '1'; $map([1..100000], function() { $eval($e) }))"),
            null(),
            Over,
        ),
        ("$eval of much", s("$eval($pad('', 1000000, '[1],') & '1')"), null(), Somehow),
        (
            "$distinct of strings",
            s("$distinct($map([1..1000000], function($x) { $string($x) }))"),
            null(),
            Over,
        ),
        ("$distinct of numbers", s("$distinct([1..100000])"), null(), Somehow),
        ("$distinct of objects", s("$distinct([1..100000].{'a': $})"), null(), Over),
        ("deep equality", shared("[[$x], [$x]]", "$d('x', 60) = $d('x', 60)"), null(), Over),
        ("drop of deep values", s("$count($reduce([1..10000], function($a, $v) { [[$a]] }))"), null(), Well),
        ("serialisation of much", s("$"), list("12345678", 300_000), Over),
        (
            "serialisation of many pieces",
            s("$map([1..60000], function($x) { 'aaaaaaaaaaaaaaaaaaaaaaaaaa' })"),
            null(),
            Over,
        ),
        ("serialisation of escapes", s("$"), long("\\u0001", 300_000), Over),
        ("huge exponents", s("1e308 * 1e308"), null(), Fails("D1001")),
        ("huge exponents that are copied", s("$"), b"1e999999999".to_vec(), Well),
        ("$power", s("$power(10, 1e300)"), null(), Fails("D3061")),
        ("$formatNumber with a huge exponent", s("$formatNumber(1e308, '0')"), null(), Well),
        (
            "$formatNumber with a picture of a megabyte",
            s("$formatNumber(1, $pad('', 1000000, '0'))"),
            null(),
            Somehow,
        ),
        (
            "$formatNumber with a picture of a megabyte of groups",
            s("$formatNumber(1, $pad('', 1000000, '#,##0'))"),
            null(),
            Somehow,
        ),
        (
            "$formatInteger with a picture of a megabyte",
            s("$formatInteger(1, $pad('', 1000000, '0'))"),
            null(),
            Somehow,
        ),
        ("$formatInteger in Roman", s("$formatInteger(1e15, 'I')"), null(), Over),
        ("$formatInteger in words", s("$formatInteger(1e300, 'w')"), null(), Somehow),
        (
            "$fromMillis with a picture of a megabyte",
            s("$fromMillis(0, $pad('', 1000000, '[Y]'))"),
            null(),
            Somehow,
        ),
        (
            "$fromMillis with a width of a megabyte",
            s("$fromMillis(0, '[Y,1000000-1000000]')"),
            null(),
            Somehow,
        ),
        (
            "$fromMillis with one marker of a megabyte",
            s("$fromMillis(0, '[Y' & $pad('', 1000000, '0') & ']')"),
            null(),
            Somehow,
        ),
        (
            "$toMillis with a picture of a megabyte",
            s("$toMillis('2020', $pad('', 1000000, '[Y]'))"),
            null(),
            Somehow,
        ),
        (
            "$toMillis with much text in the picture",
            s("$toMillis('2020', $pad('[Y]', 1000000, 'x'))"),
            null(),
            Somehow,
        ),
        ("lone surrogates", s("$ & $ & $uppercase($)"), long("\\ud800", 100_000), Over),
        ("lone surrogates in a split", s("$count($split($, ''))"), long("\\ud800x", 1_000), Well),
        ("invalid UTF-8", s("$"), [b"\"", &[0xff; 1000][..], b"\""].concat(), NoJson),
        ("duplicate keys", s("$"), format!("{{{}\"a\":1}}", "\"a\":1,".repeat(20_000)).into_bytes(), Well),
        (
            "many keys",
            s("$keys($)"),
            format!("{{{}\"a\":1}}", (0..50_000).map(|i| format!("\"k{i}\":1,")).collect::<String>())
                .into_bytes(),
            Somehow,
        ),
        (
            "__proto__",
            s("$merge([$, {'__proto__': $}, {'constructor': 1}]).__proto__.__proto__"),
            br#"{"__proto__": {"__proto__": 1}}"#.to_vec(),
            Well,
        ),
        ("escaped strings", s("$length($)"), long("\\n", 2_000_000), Well),
        ("an escaped string that is copied", s("$length($)"), long("\\n", 4_000_000), Somehow),
        ("serialisation of escapes that are short", s("$"), list("\"\\u0001\\u0001\"", 30_000), Somehow),
        ("serialisation of single digits", s("$"), list("1", 200_000), Somehow),
        ("$string of escapes", s("$length($string([$]))"), long("\\u0001", 500_000), Somehow),
        ("$string of much", s("$length($string($))"), list("12345678", 100_000), Somehow),
        ("escaped strings that are many", s("$sum($map($, $length))"), list("\"\\n\"", 100_000), Somehow),
        ("an input that is much for its budget", s("1"), list("1", 2_000_000), Over),
        ("an input of brackets", s("1"), [b"[".repeat(2_000_000), b"]".repeat(2_000_000)].concat(), Over),
        ("group-by with many keys", s("[1..1000000]{$string($): $}"), null(), Over),
        ("group-by of one key", s("[1..100000]{'a': $count($)}"), null(), Somehow),
        ("$merge of many", s("$merge([1..1000000].{$string($): 1})"), null(), Over),
        (
            "an object of many keys",
            format!("{{{}'a': 1}}", (0..20_000).map(|i| format!("'k{i}': {i}, ")).collect::<String>()),
            null(),
            Well,
        ),
        ("$zip", s("$zip([1..1000000], [1..1000000])"), null(), Over),
        ("$shuffle", s("$shuffle([1..10000000])"), null(), Over),
        ("$uppercase", s("$uppercase($)"), long("ß", 1_500_000), Over),
        ("$base64encode", s("$length($base64encode($))"), long("a", 3_000_000), Somehow),
        ("$base64encode of what is not ASCII", s("$base64encode($)"), long("é", 1_000_000), Somehow),
        ("$base64decode", s("$length($base64decode($))"), long("aaaa", 1_000_000), Somehow),
        ("$encodeUrlComponent", s("$length($encodeUrlComponent($))"), long("é", 1_000_000), Over),
        ("$decodeUrlComponent", s("$length($decodeUrlComponent($))"), long("%41", 1_000_000), Somehow),
        ("$number of much", s("$number($)"), long("1", 3_000_000), Somehow),
        ("$parseInteger of much", s("$parseInteger($, '0')"), long("1", 1_000_000), Somehow),
        ("$parseInteger in words", s("$parseInteger($, 'w')"), long("one ", 300_000), Somehow),
        ("$error of much", s("$error($)"), long("e", 3_000_000), Fails("D3137")),
        ("an error of much", s("$ + 1"), long("e", 3_000_000), Fails("T2001")),
        ("strings joined", s("$join($split($, ''), $)"), long("a", 3_000), Over),
        (
            "$spread and $each",
            s("$each($spread($)[0], function($v, $k) { $v })"),
            format!("{{{}\"a\":1}}", (0..20_000).map(|i| format!("\"k{i}\":1,")).collect::<String>())
                .into_bytes(),
            Somehow,
        ),
        ("tuples", s("$@$a.$@$b.$@$c.$@$d.{'a': $a, 'b': $b}"), list("1", 100), Over),
        ("parents", s("*.*.*.{'p': %, 'q': %.%}"), deep("{\"a\":", "}", 500), Somehow),
        ("a transform of much", s("$ ~> |**|{'a': $}|"), list("{\"b\":[{\"c\":1}]}", 20_000), Over),
        ("a value within itself", s("$ ~> |$|{'self': $}|"), br#"{"a": 1}"#.to_vec(), Over),
        (
            "partial applications",
            s("$reduce([1..100000], function($f, $i) { $append(?, $i) }, $sum)"),
            null(),
            Somehow,
        ),
        (
            "chained functions",
            s("$reduce([1..100000], function($f, $i) { $f ~> $uppercase }, $lowercase)('x')"),
            null(),
            Somehow,
        ),
    ]
}

fn judge(ends: Ends, result: &Result<Outcome, EvalError>) -> bool {
    match (ends, result) {
        (Ends::Somehow, Ok(_)) | (Ends::Well, Ok(_)) => true,
        (Ends::Somehow, Err(e)) => !matches!(e.kind(), ErrorKind::InvalidJson(_)),
        (Ends::Over, Err(e)) => matches!(e.kind(), ErrorKind::OverBudget(o) if o.limit != Limit::WallTime),
        (Ends::Fails(code), Err(e)) => e.code() == code,
        (Ends::NoJson, Err(e)) => matches!(e.kind(), ErrorKind::InvalidJson(_)),
        _ => false,
    }
}

#[test]
fn whatever_means_harm_ends_within_its_memory_and_time() {
    // On a stack as small as any thread's.
    let all = || {
        let mut wrong = Vec::new();
        for (name, source, input, ends) in cases() {
            let program = Program::compile(&source).unwrap_or_else(|e| panic!("{name}: {e}"));
            for sizes in BUDGETS {
                let budget = budget(sizes);
                let started = Instant::now();
                let (result, held) = most_held(|| {
                    let mut output = Output::new();
                    Evaluator::new().eval(&program, &input, &Bindings::new(0, 0), &budget, &mut output)
                });
                let shown = result.as_ref().map_or_else(|e| format!("{e:.100}"), |o| format!("{o:?}"));
                if sizes == BUDGETS[0] && !judge(ends, &result) {
                    wrong.push(format!("{name}: {shown}"));
                }
                let allowed = (sizes.0 + sizes.1) / 10 * 11 + FIXED_BYTES;
                if held > allowed {
                    wrong.push(format!("{name}: {held} bytes, {allowed} are allowed; {shown}"));
                }
                assert!(started.elapsed() < budget.wall, "{name} took {:?}", started.elapsed());
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    };
    let thread = std::thread::Builder::new().stack_size(512 * 1024).spawn(all).expect("spawn");
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn other_threads_go_on_meanwhile() {
    let done = AtomicBool::new(false);
    let completed = AtomicU64::new(0);
    let bad = Program::compile("($f := function($n) { $f($n + 1) }; $f(0))").expect("compiles");
    let good = Program::compile("{'n': $sum(items.price)}").expect("compiles");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut evaluator, mut output) = (Evaluator::new(), Output::new());
            while !done.load(Ordering::Relaxed) {
                let input = br#"{"items": [{"price": 1}, {"price": 2}]}"#;
                evaluator
                    .eval(&good, input, &Bindings::new(0, 0), &Budget::default(), &mut output)
                    .expect("evaluates");
                assert_eq!(output.as_bytes(), br#"{"n":3}"#);
                completed.fetch_add(1, Ordering::Relaxed);
            }
        });
        // A harmful evaluation lasts until the other thread has completed many: nothing that it
        // holds makes others wait. It would not end by itself.
        let endless = Budget {
            steps: u64::MAX,
            bytes: usize::MAX / 2,
            wall: Duration::from_millis(5),
            ..Budget::default()
        };
        let mut evaluator = Evaluator::new();
        let mut during = 0;
        while during < 1_000 {
            let before = completed.load(Ordering::Relaxed);
            let error = evaluator
                .eval(&bad, b"1", &Bindings::new(0, 0), &endless, &mut Output::new())
                .expect_err("endless");
            assert!(matches!(error.kind(), ErrorKind::OverBudget(o) if o.limit == Limit::WallTime));
            during += completed.load(Ordering::Relaxed) - before;
        }
        done.store(true, Ordering::Relaxed);
    });
}
