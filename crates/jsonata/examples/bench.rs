//! This engine behind the protocol of `cargo xtask bench jsonata`: the folder of cases is the argument;
//! `show CASE` is answered by the result, `run CASE N` by the nanoseconds that N evaluations took, and
//! `check CASE N` by those that `serde_json` needs only to check the same bytes N times.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{BufRead as _, Write as _};
use std::time::Instant;

use jsonata::{Bindings, Budget, Evaluator, Output, Program};
use serde::de::IgnoredAny;

struct Case {
    program: Program,
    input: Vec<u8>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args().nth(1).ok_or("the folder of cases is missing")?;
    let mut cases = BTreeMap::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "jsonata") {
            let program = Program::compile(&std::fs::read_to_string(&path)?)?;
            let input = std::fs::read(path.with_extension("json"))?;
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            cases.insert(name, Case { program, input });
        }
    }
    let (mut evaluator, mut output) = (Evaluator::new(), Output::new());
    let (bindings, budget) = (Bindings::new(0, 0), Budget::default());
    let mut stdout = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["show", name] => {
                evaluator.eval(&cases[name].program, &cases[name].input, &bindings, &budget, &mut output)?;
                stdout.write_all(output.as_bytes())?;
                writeln!(stdout)?;
            }
            ["run", name, count] => {
                let (case, count) = (&cases[name], count.parse::<u64>()?);
                let started = Instant::now();
                for _ in 0..count {
                    evaluator.eval(&case.program, &case.input, &bindings, &budget, &mut output)?;
                    std::hint::black_box(output.as_bytes());
                }
                writeln!(stdout, "{}", started.elapsed().as_nanos())?;
            }
            ["check", name, count] => {
                let (case, count) = (&cases[name], count.parse::<u64>()?);
                let started = Instant::now();
                for _ in 0..count {
                    std::hint::black_box(serde_json::from_slice::<IgnoredAny>(&case.input)?);
                }
                writeln!(stdout, "{}", started.elapsed().as_nanos())?;
            }
            _ => return Err(format!("not understood: {line}").into()),
        }
        stdout.flush()?;
    }
    Ok(())
}
