//! `vltava jsonata` on the command line.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Json;

#[derive(Debug, Args)]
pub(crate) struct Jsonata {
    #[command(subcommand)]
    pub(crate) command: JsonataCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum JsonataCommand {
    /// Evaluates an expression over records, one result a line.
    #[command(
        long_about = "Evaluates an expression over records, one result a line.\n\nA file is NDJSON, a record a line, if its first line is JSON by itself. If that line is only the beginning of a JSON value, the whole file is one document. `--lines` takes every line as a record in any case.\n\nOn a terminal, where no input is given, expressions are asked for line by line, as by `vltava jsonata repl`; -n evaluates one and ends.\n\nA record that fails is reported on standard error with its line, and the next is taken. The exit status is 1 if anything failed, 2 if the command line is wrong. Records have at most 16 MiB.",
        after_help = "Examples:\n  vltava jsonata eval -e '$sum(items.price)' orders.ndjson\n  curl -s https://example.com/order.json | vltava jsonata eval mapping.jsonata --pretty\n  vltava jsonata eval -e '$uppercase(name) & $n' --bindings '{\"n\": 7}' people.ndjson\n  vltava jsonata eval -n -e '[1..3] ~> $map($string)'\n  vltava jsonata eval"
    )]
    Eval(JsonataEval),
    /// Tries expressions on a sample, line by line, with history and completion.
    #[command(
        long_about = "Tries expressions on a sample, line by line, with history and completion.\n\nThe sample is a document, or the first record of an NDJSON file. An expression that isn't complete goes on in the next line. `$x := ...` keeps $x for the lines that follow. Tab completes functions, variables, and the fields that the sample has where the cursor is; `:help` lists commands. Ctrl-C cancels a line or stops an evaluation, Ctrl-D leaves.\n\nLines are kept in $XDG_STATE_HOME/vltava/jsonata_history (~/.local/state where that is unset), for this user only; a line that begins with a space isn't.",
        after_help = "Examples:\n  vltava jsonata repl order.json\n  vltava jsonata repl orders.ndjson --bindings '{\"limit\": 10}' --budget wall=2000\n  vltava jsonata repl <(vltava tail dev.demo.github.raw --from -1 --limit 1 --json) --no-history"
    )]
    Repl(JsonataRepl),
    /// Finds the syntax errors of expressions.
    #[command(
        long_about = "Finds the syntax errors of expressions, each with its line and a caret. Of a file of manifests (*.yaml, *.yml, *.json) the expressions of its transforms and the target keys of its pipelines are checked; any other file is one expression.",
        after_help = "Examples:\n  vltava jsonata check mapping.jsonata\n  vltava jsonata check -v examples/webhooks/*.yaml\n  echo 'a.[b' | vltava jsonata check -"
    )]
    Check(JsonataCheck),
    /// Runs the test cases of transforms.
    #[command(
        long_about = "Runs the test cases that transforms have in their manifests (`spec.tests`), by the rules by which applying them does. A record of a test has no key and no headers, and its time is 1970-01-01T00:00:00Z. Fails if a case fails, and if there is none.",
        after_help = "Examples:\n  vltava jsonata test examples/webhooks\n  vltava jsonata test flows/normalize.yaml --filter issue"
    )]
    Test(JsonataTest),
}

/// What an evaluation is given beside its input.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct JsonataGiven {
    /// Variables: a JSON object, or a file that has one; {"n": 7} binds $n.
    #[arg(long, value_name = "JSON|FILE")]
    pub(crate) bindings: Option<String>,
    /// A limit of each evaluation; may be repeated. Names: steps, depth, bytes, output_bytes, regex_steps,
    /// wall (in ms).
    #[arg(long, value_name = "NAME=N")]
    pub(crate) budget: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct JsonataEval {
    /// The expression. Without it the first file has it: as it is, or in a transform's manifest.
    #[arg(short = 'e', long = "expression", value_name = "EXPR")]
    pub(crate) expression: Option<String>,
    /// The expression's file (without -e), then inputs; "-" is standard input, which is also read where there are none
    /// and it is no terminal.
    #[arg(value_name = "FILE|INPUT")]
    pub(crate) files: Vec<PathBuf>,
    /// Evaluate once, without an input: $ is undefined.
    #[arg(short = 'n', long)]
    pub(crate) no_input: bool,
    /// Every line is a record, also where the first one isn't JSON by itself.
    #[arg(long)]
    pub(crate) lines: bool,
    /// Results indented, over several lines.
    #[arg(long)]
    pub(crate) pretty: bool,
    /// Print "undefined" where there is no result; else nothing is printed.
    #[arg(long)]
    pub(crate) show_undefined: bool,
    /// End at the first record that fails.
    #[arg(long)]
    pub(crate) fail_fast: bool,
    #[command(flatten)]
    pub(crate) given: JsonataGiven,
    #[command(flatten)]
    pub(crate) history: JsonataHistory,
}

/// What is remembered of a session on a terminal.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct JsonataHistory {
    /// On a terminal: neither read nor keep the lines of sessions.
    #[arg(long)]
    pub(crate) no_history: bool,
}

#[derive(Debug, Args)]
pub(crate) struct JsonataRepl {
    /// The sample: a JSON document, or NDJSON, of which the first record is taken.
    #[arg(value_name = "INPUT")]
    pub(crate) input: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) given: JsonataGiven,
    #[command(flatten)]
    pub(crate) history: JsonataHistory,
}

#[derive(Debug, Args)]
pub(crate) struct JsonataCheck {
    /// Expressions, or manifests; "-" is an expression on standard input.
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Also say which fields of the input are read and which variables are needed.
    #[arg(short = 'v', long)]
    pub(crate) verbose: bool,
    #[command(flatten)]
    pub(crate) json: Json,
}

#[derive(Debug, Args)]
pub(crate) struct JsonataTest {
    /// A folder of manifests, or one file.
    #[arg(value_name = "DIR|FILE")]
    pub(crate) path: PathBuf,
    /// Only cases whose name, or whose transform's name, has this text in it.
    #[arg(long, value_name = "TEXT")]
    pub(crate) filter: Option<String>,
    #[command(flatten)]
    pub(crate) json: Json,
}
