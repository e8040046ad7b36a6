//! The crate jsonata-core behind the protocol of `cargo xtask bench jsonata`: the folder of cases is the
//! argument; `show CASE` is answered by the result, `run CASE N` by the nanoseconds that N evaluations took.
//! Bytes in, bytes out: parse, evaluate, serialise.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{BufRead as _, Write as _};
use std::time::Instant;

use jsonata_core::{Expression, value::JValue};

struct Case {
    expression: Expression,
    input: Vec<u8>,
}

fn once(case: &Case) -> Result<String, Box<dyn Error>> {
    let input = JValue::from_json_str(std::str::from_utf8(&case.input)?)?;
    Ok(case.expression.evaluate(&input)?.to_json_string()?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args().nth(1).ok_or("the folder of cases is missing")?;
    let mut cases = BTreeMap::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "jsonata") {
            let expression = Expression::compile(&std::fs::read_to_string(&path)?)?;
            let input = std::fs::read(path.with_extension("json"))?;
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            cases.insert(name, Case { expression, input });
        }
    }
    let mut stdout = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["show", name] => writeln!(stdout, "{}", once(&cases[name])?)?,
            ["run", name, count] => {
                let (case, count) = (&cases[name], count.parse::<u64>()?);
                let started = Instant::now();
                for _ in 0..count {
                    std::hint::black_box(once(case)?);
                }
                writeln!(stdout, "{}", started.elapsed().as_nanos())?;
            }
            _ => return Err(format!("not understood: {line}").into()),
        }
        stdout.flush()?;
    }
    Ok(())
}
