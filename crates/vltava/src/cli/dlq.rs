//! `vltava dlq` on the command line.

use clap::{Args, Subcommand};
use deadletter::{Expression, LetterId, Predicate};
use jiff::{SignedDuration, Timestamp};

use super::{Engine, Json, Url};

#[derive(Debug, Args)]
pub(crate) struct Dlq {
    #[command(subcommand)]
    pub(crate) command: DlqCommand,
}

/// Which dead letters: all that is said must hold.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Selection {
    /// Only those of this stage, e.g. pipeline/demo/github; a prefix up to a "/" or "@" is enough.
    #[arg(long)]
    pub(crate) stage: Option<String>,
    /// Only those with this reason, e.g. `transform_error`.
    #[arg(long)]
    pub(crate) reason: Option<String>,
    /// Only those with this key.
    #[arg(long)]
    pub(crate) key: Option<String>,
    /// Only those with this header.
    #[arg(long, value_name = "NAME=VALUE", value_parser = header)]
    pub(crate) header: Option<(String, String)>,
    /// Only those dead-lettered then or later: a time such as 2026-01-31T12:00:00Z, or so long ago: 90m, 2h, 7d.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) since: Option<Timestamp>,
    /// Only those dead-lettered before then, likewise.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) until: Option<Timestamp>,
    /// Only those for which the expression is true. Its input is the value; `$key`, `$headers`, `$stage`, `$reason`, `$message`,
    /// the origin's `$topic`, `$partition`, `$offset`, `$timestamp`, and `$text` (a value that is no JSON) are there, too.
    #[arg(long = "where", value_name = "JSONATA", value_parser = predicate)]
    pub(crate) predicate: Option<Predicate>,
    /// Only this one, as `dlq show` prints it: TOPIC/PARTITION/OFFSET. May be said several times.
    #[arg(long = "id", value_name = "ID")]
    pub(crate) ids: Vec<LetterId>,
}

impl Selection {
    /// As the engine of redrives takes it.
    pub(crate) fn of(&self, limit: Option<u64>) -> deadletter::Selection {
        let Self { stage, reason, key, header, since, until, predicate, ids } = self.clone();
        let ids = ids.into_iter().collect();
        deadletter::Selection { stage, reason, ids, since, until, key, header, predicate, limit }
    }
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("it is NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// A time, or how long ago.
fn moment(text: &str) -> Result<Timestamp, String> {
    let ago = |text: &str| -> Option<Timestamp> {
        let days = text.strip_suffix('d').and_then(|days| days.parse::<u32>().ok());
        let ago = match days {
            Some(days) => SignedDuration::from_hours(i64::from(days) * 24),
            None => text.parse().ok()?,
        };
        Timestamp::now().checked_sub(ago).ok()
    };
    let why = "it is no time such as 2026-01-31T12:00:00Z, nor so long ago as 90m, 2h or 7d";
    text.parse().ok().or_else(|| ago(text)).ok_or_else(|| why.to_owned())
}

fn predicate(text: &str) -> Result<Predicate, String> {
    Predicate::try_from(text.to_owned()).map_err(|error| error.to_string())
}

/// An expression, or @FILE with one.
fn expression(text: &str) -> Result<Expression, String> {
    let source = match text.strip_prefix('@') {
        Some(file) => std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?,
        None => text.to_owned(),
    };
    Expression::try_from(source).map_err(|error| error.to_string())
}

#[derive(Debug, Subcommand)]
pub(crate) enum DlqCommand {
    /// Counts what is not settled, by stage and reason.
    #[command(
        after_help = "Examples:\n  vltava dlq ls\n  vltava dlq ls dev.demo.github.dlq --since 1h\n  vltava dlq ls dev.demo.github.dlq --json"
    )]
    Ls {
        /// One DLQ; all of them where absent.
        topic: Option<String>,
        #[command(flatten)]
        selection: Selection,
        #[command(flatten)]
        engine: Engine,
        #[command(flatten)]
        json: Json,
    },
    /// Prints dead letters: why, where from, and the value.
    #[command(
        after_help = "Examples:\n  vltava dlq show dev.demo.github.dlq --reason transform_error --limit 3\n  vltava dlq show dev.demo.github.dlq --where 'total > 100 and $headers.tenant = \"a\"'"
    )]
    Show {
        /// The DLQ.
        topic: String,
        #[command(flatten)]
        selection: Selection,
        /// At most so many.
        #[arg(long, default_value_t = 10)]
        limit: usize,
        #[command(flatten)]
        engine: Engine,
        #[command(flatten)]
        json: Json,
    },
    /// Gives dead letters back to the stage that failed them, each once.
    #[command(
        after_help = "Examples:\n  vltava dlq redrive dev.demo.github.dlq --dry-run\n  vltava dlq redrive dev.demo.github.dlq --rate 100\n  vltava dlq redrive dev.demo.github.dlq --where 'body = null' --repair '$ ~> |$|{\"body\": \"\"}|'"
    )]
    Redrive(RedriveArgs),
    /// Gives dead letters up: they are settled, and nothing is sent.
    #[command(
        after_help = "Examples:\n  vltava dlq discard dev.demo.github.dlq --until 30d --dry-run\n  vltava dlq discard dev.demo.github.dlq --id dev.demo.github.dlq/3/42"
    )]
    Discard(DiscardArgs),
    /// Lists redrives: those that run or wait, and what became of others.
    #[command(after_help = "Example:\n  vltava dlq runs demo")]
    Runs {
        /// The workspace.
        workspace: String,
        #[command(flatten)]
        url: Url,
        #[command(flatten)]
        json: Json,
    },
    /// Pauses a run: what is under way is committed first.
    #[command(after_help = "Example:\n  vltava dlq pause demo/01a21ad1-dea0-75a9-bc04-eae5b02509a3")]
    Pause(RunName),
    /// Goes on with a run that was paused.
    #[command(after_help = "Example:\n  vltava dlq resume demo/01a21ad1-dea0-75a9-bc04-eae5b02509a3")]
    Resume(RunName),
    /// Ends a run for good. What it has settled stays settled.
    #[command(after_help = "Example:\n  vltava dlq cancel demo/01a21ad1-dea0-75a9-bc04-eae5b02509a3")]
    Cancel(RunName),
}

/// What is asked of a run over dead letters.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The DLQ.
    pub(crate) topic: String,
    #[command(flatten)]
    pub(crate) selection: Selection,
    /// At most so many.
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u64>,
    /// Records a second; 0: as fast as it goes.
    #[arg(long, default_value_t = 0)]
    pub(crate) rate: u32,
    /// Say what would be done, with the first records before and after, and do nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// The workspace of the stages [default: the second part of the DLQ's name].
    #[arg(long)]
    pub(crate) workspace: Option<String>,
    #[command(flatten)]
    pub(crate) url: Url,
    #[command(flatten)]
    pub(crate) json: Json,
}

#[derive(Debug, Args)]
pub(crate) struct RedriveArgs {
    #[command(flatten)]
    pub(crate) run: RunArgs,
    /// Mends the value: an expression over it, or @FILE with one. A record for which it fails or gives nothing stays.
    #[arg(long, value_name = "JSONATA|@FILE", value_parser = expression)]
    pub(crate) repair: Option<Expression>,
    /// Mends headers: an expression that gives an object of those to set, or with null to take away.
    #[arg(long, value_name = "JSONATA|@FILE", value_parser = expression)]
    pub(crate) repair_headers: Option<Expression>,
    /// Elsewhere than to the stage that failed it: `origin` (the topic where it failed first) or a topic. Whoever reads there
    /// gets it, too; the groups are named.
    #[arg(long, value_name = "origin|TOPIC")]
    pub(crate) to: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct DiscardArgs {
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

/// One run.
#[derive(Debug, Args)]
pub(crate) struct RunName {
    /// WORKSPACE/RUN, as `dlq runs` prints it.
    #[arg(value_name = "WORKSPACE/RUN")]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) url: Url,
    #[command(flatten)]
    pub(crate) json: Json,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_time_or_so_long_ago() {
        assert_eq!(moment("2026-01-31T12:00:00Z").unwrap().as_second(), 1_769_860_800);
        let ago = |text: &str| Timestamp::now().as_second() - moment(text).unwrap().as_second();
        assert!((5_400..5_410).contains(&ago("90m")) && (604_800..604_810).contains(&ago("7d")));
        for wrong in ["", "yesterday", "9999999999999999d", "12"] {
            assert!(moment(wrong).is_err(), "{wrong}");
        }
    }
}
