//! The command line. Every subcommand says by example how it is used.

mod backtest;
mod dlq;
mod gitops;
mod jsonata;

use std::path::PathBuf;

pub(crate) use backtest::*;
use clap::{Args, Parser, Subcommand};
pub(crate) use dlq::*;
pub(crate) use gitops::*;
pub(crate) use jsonata::*;

/// A Kafka-native event streaming and integration platform in one binary.
#[derive(Debug, Parser)]
#[command(
    name = "vltava",
    version,
    after_help = "Examples:\n  vltava demo                      see the whole path at work\n  vltava up --apply flows/         run it, with the manifests of a folder\n  vltava status                    what runs, and what it lacks"
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs the platform in this process: broker, ingest, pipelines, connectors, API.
    #[command(
        after_help = "Examples:\n  vltava up\n  vltava up --data-dir /var/lib/vltava --apply flows/webhooks\n  vltava up --kafka-bootstrap kafka-1:9092,kafka-2:9092"
    )]
    Up(Up),
    /// Shows the whole path on a fresh data directory: ingest, transform, delivery, dead letters, redrive.
    #[command(
        after_help = "Examples:\n  vltava demo\n  vltava demo --once --json\n  vltava demo --events deliveries.ndjson --count file --rate 500"
    )]
    Demo(Demo),
    /// Shows what applying a folder of manifests would change. Writes nothing.
    #[command(
        long_about = "Shows what applying a folder of manifests would change: each change with old and new, what it entails (data that goes, offsets that move), and every problem at once, with its file and line. Nothing is written.\n\nThe exit status is 0; 1 where there are problems; with --exit-code 2 where something would change.",
        after_help = "Examples:\n  vltava plan -f flows/\n  vltava plan -f flows/ --source github.com/acme/flows --prune --exit-code\n  cat flow.yaml | vltava plan -f - --json | jq '.summary'"
    )]
    Plan(Plan),
    /// Makes what exists be as a folder of manifests says, in the order that references demand.
    #[command(
        long_about = "Makes what exists be as a folder of manifests says, in the order that references demand. A set with a problem isn't applied at all. Applying again changes nothing, or does what failed before.\n\nWhat is applied belongs to its source (--source) from then on; what another source owns is refused. The exit status is 0 only if everything is as the folder says.",
        after_help = "Examples:\n  vltava apply -f examples/webhooks\n  vltava apply -f flows/ --source github.com/acme/flows --prune\n  vltava apply -f flows/ --source team-b --take-ownership\n  vltava apply -f flows/ --dry-run"
    )]
    Apply(Apply),
    /// Writes what exists as manifests, a file a resource, that plan to no change.
    #[command(
        long_about = "Writes what exists as manifests, a file a resource: WORKSPACE/topics/NAME.yaml and so on. What the server fills in is left out; references to secrets stay references. Written again, only what has changed differs.\n\nEach file says in its first line who wrote it. A file that doesn't is never overwritten, unless --force is said; with one such file nothing is written.",
        after_help = "Examples:\n  vltava export\n  vltava export -f flows/ --workspace demo\n  vltava export -f flows/ --source github.com/acme/flows --kind topic --kind pipeline"
    )]
    Export(Export),
    /// Shows topics that somebody changed in the engine, behind the control plane's back.
    #[command(
        long_about = "Shows topics that in the engine aren't as their resources say, and what was put back: somebody changed them by Kafka's protocol, behind the control plane's back. What a folder of manifests would change is another question: `vltava plan --exit-code` answers it.\n\nA setting of the spec is put back within seconds and then shown as reverted; more partitions can't be taken away, and a setting that no spec names is left as it is: both are drift. The exit status is 0; 1 where nobody could look; with --exit-code 2 where there is drift.",
        after_help = "Examples:\n  vltava drift\n  vltava drift --workspace demo --exit-code\n  vltava drift --json | jq '.items[].drift[]'"
    )]
    Drift(Drift),
    /// Topics of the engine.
    Topics(Topics),
    /// Sends events to a topic by HTTP, one JSON value a line.
    #[command(
        after_help = "Examples:\n  vltava send dev.demo.github.raw events.ndjson\n  echo '{\"id\":1}' | vltava send dev.demo.github.raw"
    )]
    Send(Send),
    /// Prints a topic's records, and goes on as they come.
    #[command(
        after_help = "Examples:\n  vltava tail dev.demo.github.enriched\n  vltava tail dev.demo.github.raw --from earliest --json --limit 10\n  vltava tail dev.demo.github.raw --from 2026-03-01T00:00:00Z"
    )]
    Tail(Tail),
    /// What runs, in which state and why, and how far it lags.
    Status(Status),
    /// Pipelines: pause, resume, restart, go back to earlier versions, read again from elsewhere.
    #[command(visible_alias = "pipeline")]
    Pipelines(Pipelines),
    /// Tries a transform's candidate on recorded input, beside the version that runs. Writes nothing.
    #[command(
        long_about = "Tries a transform's candidate on recorded input, beside the version that runs: which records stay the same, change, fail, don't fail any more, or are dropped, with samples. Nothing is written, and no offset is moved.\n\nOutputs are compared as JSON: the order of names and how a number is spelled don't count, digits do. The header x-transform, which names the version, doesn't count either. $now(), $millis() and $random() are the record's, so they differ by nothing but the expression.\n\nThe exit status is 0 where no more records changed or failed anew than may; 1 where more did, where the time was over before the end, or there was nothing to compare; 2 if the command line is wrong.",
        after_help = "Examples:\n  vltava backtest github --transform examples/webhooks-fixed/normalize.yaml\n  vltava backtest demo/github --transform normalize.jsonata --last 50000 --where 'action = \"opened\"'\n  vltava backtest github --transform normalize.yaml --since 24h --max-changed 1% --max-failed 0 --json\n  vltava backtest github --version 7 --step normalize"
    )]
    Backtest(Backtest),
    /// Connectors: pause, resume, stop, restart, deliver again from elsewhere.
    #[command(visible_alias = "connector")]
    Connectors(Connectors),
    /// Dead letters: list, show, give back to the stage that failed them.
    Dlq(Dlq),
    /// Expressions: evaluate, try, check, test.
    #[command(
        after_help = "Examples:\n  vltava jsonata eval -e 'items[price > 1].name' orders.ndjson\n  vltava jsonata repl order.json\n  vltava jsonata check examples/webhooks/normalize.yaml\n  vltava jsonata test examples/webhooks"
    )]
    Jsonata(Jsonata),
    /// Clients: machine identities that get tokens, and their secrets.
    #[command(visible_alias = "client")]
    Clients(Clients),
    /// Prints a token for the client that VLTAVA_CLIENT_ID and VLTAVA_CLIENT_SECRET name.
    #[command(
        after_help = "Example:\n  curl -H \"Authorization: Bearer $(vltava token)\" http://127.0.0.1:8080/api/v1/status"
    )]
    Token(Url),
    /// Checks a configuration without touching anything.
    Config(Config),
    /// The version.
    Version(Json),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Json {
    /// JSON for programs.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Where the control plane is.
#[derive(Debug, Clone, Args)]
pub(crate) struct Url {
    /// The platform's HTTP address.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    pub(crate) url: String,
}

/// Where the engine is.
#[derive(Debug, Clone, Args)]
pub(crate) struct Engine {
    /// The engine's address, as any Kafka client takes it.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9092")]
    pub(crate) kafka_bootstrap: String,
}

/// Flags that are settings too; `vltava.toml` and `VLTAVA_A__B` say the same.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct SettingsFlags {
    /// The configuration file [default: vltava.toml, where it exists].
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// An Apache Kafka cluster as the engine, in place of the embedded broker.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) kafka_bootstrap: Option<String>,
    /// Where HTTP listens; port 0 takes any free one, "off" none [default: 127.0.0.1:8080].
    #[arg(long, value_name = "ADDR")]
    pub(crate) http: Option<String>,
    /// Where the embedded broker listens; port 0 takes any free one [default: 127.0.0.1:9092].
    #[arg(long, value_name = "ADDR")]
    pub(crate) broker: Option<String>,
    /// Where /metrics listens once more, alone [default: off].
    #[arg(long, value_name = "ADDR")]
    pub(crate) metrics: Option<String>,
    /// What is logged, e.g. "info" or "info,broker=debug".
    #[arg(long, value_name = "FILTER")]
    pub(crate) log: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Up {
    /// Where everything is kept; one process at a time [default: ./vltava-data].
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Manifests to put once it is ready. What is stored already runs without it.
    #[arg(long, value_name = "DIR")]
    pub(crate) apply: Option<PathBuf>,
    /// Who owns them, as of `vltava apply` [default: default].
    #[arg(long, value_name = "NAME", requires = "apply")]
    pub(crate) source: Option<String>,
    #[command(flatten)]
    pub(crate) settings: SettingsFlags,
    /// One JSON line on standard output once it is ready: the addresses.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// End after the proof; exit status 0 only if nothing was lost or doubled.
    #[arg(long)]
    pub(crate) once: bool,
    /// A summary object as the last line.
    #[arg(long)]
    pub(crate) json: bool,
    /// Events to send: NDJSON of {"event", "payload"} [default: the samples in the binary].
    #[arg(long, value_name = "FILE")]
    pub(crate) events: Option<PathBuf>,
    /// How many events; the file is cycled. "file": once through it.
    #[arg(long, default_value = "2000", value_name = "N|file")]
    pub(crate) count: String,
    /// Events a second; 0: as fast as they are taken.
    #[arg(long, default_value_t = 1000, value_name = "N")]
    pub(crate) rate: u32,
    /// Keep the data here [default: a temporary directory, removed at the end].
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) settings: SettingsFlags,
}

#[derive(Debug, Args)]
pub(crate) struct Topics {
    #[command(subcommand)]
    pub(crate) command: TopicsCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TopicsCommand {
    /// Lists topics, with partitions and records.
    #[command(after_help = "Example:\n  vltava topics ls --json")]
    Ls {
        /// Also those that belong to the system.
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        engine: Engine,
        #[command(flatten)]
        json: Json,
    },
    /// Makes a topic in the engine. A Topic resource (`vltava apply`) is the lasting way.
    #[command(
        after_help = "Example:\n  vltava topics create orders --partitions 12 --config retention.ms=86400000"
    )]
    Create {
        /// Its name.
        topic: String,
        /// Partitions.
        #[arg(long, default_value_t = 12)]
        partitions: i32,
        /// Copies on a cluster; the embedded broker keeps one [default: the engine's].
        #[arg(long)]
        replication_factor: Option<i16>,
        /// Topic settings, as Kafka names them; may be repeated.
        #[arg(long = "config", value_name = "NAME=VALUE")]
        config: Vec<String>,
        #[command(flatten)]
        engine: Engine,
    },
    /// Shows a topic's partitions and settings.
    #[command(after_help = "Example:\n  vltava topics describe dev.demo.github.raw")]
    Describe {
        /// Its name.
        topic: String,
        #[command(flatten)]
        engine: Engine,
        #[command(flatten)]
        json: Json,
    },
    /// Deletes a topic and its records.
    #[command(after_help = "Example:\n  vltava topics delete orders --yes")]
    Delete {
        /// Its name.
        topic: String,
        /// It is meant: the records are gone for good.
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        engine: Engine,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Send {
    /// The topic.
    pub(crate) topic: String,
    /// NDJSON; standard input where absent or "-".
    pub(crate) file: Option<PathBuf>,
    /// The key of every event (`x-entity-key`); else the topic's own rule holds.
    #[arg(long)]
    pub(crate) key: Option<String>,
    /// A header of every event; may be repeated.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub(crate) headers: Vec<String>,
    /// Requests at once. Above 1 the order of events is not kept.
    #[arg(long, default_value_t = 1)]
    pub(crate) parallel: usize,
    #[command(flatten)]
    pub(crate) url: Url,
    #[command(flatten)]
    pub(crate) json: Json,
}

#[derive(Debug, Args)]
pub(crate) struct Tail {
    /// The topic.
    pub(crate) topic: String,
    /// Where to begin: latest, earliest, -N (the last N of each partition), or a time (RFC 3339).
    #[arg(long, default_value = "latest", allow_hyphen_values = true)]
    pub(crate) from: String,
    /// End after so many records.
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u64>,
    /// End where the topic ends now.
    #[arg(long)]
    pub(crate) no_follow: bool,
    #[command(flatten)]
    pub(crate) engine: Engine,
    #[command(flatten)]
    pub(crate) json: Json,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  vltava status --json | jq '.stages[] | select(.state != \"Running\")'")]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) url: Url,
    #[command(flatten)]
    pub(crate) json: Json,
}

#[derive(Debug, Args)]
pub(crate) struct Pipelines {
    #[command(subcommand)]
    pub(crate) command: PipelinesCommand,
}

#[derive(Debug, Args)]
pub(crate) struct Connectors {
    #[command(subcommand)]
    pub(crate) command: ConnectorsCommand,
}

/// Which pipeline or connector.
#[derive(Debug, Clone, Args)]
pub(crate) struct StageName {
    /// WORKSPACE/NAME; the name alone where no other workspace has one of it.
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) url: Url,
    #[command(flatten)]
    pub(crate) json: Json,
}

/// Where a stage is to read on.
#[derive(Debug, Clone, Args)]
pub(crate) struct Place {
    /// earliest, latest, or a time such as 2026-01-31T12:00:00Z.
    #[arg(long, required_unless_present = "shift", conflicts_with = "shift")]
    pub(crate) to: Option<String>,
    /// So many records of each partition forward, or back where it is negative.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) shift: Option<i64>,
    /// Only of this source; may be given again [default: all].
    #[arg(long = "topic", value_name = "TOPIC")]
    pub(crate) topics: Vec<String>,
    /// Say what would be moved, and move nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PipelinesCommand {
    /// Ends and commits what is under way, and reads no more. It outlives restarts of the process.
    #[command(
        after_help = "Examples:\n  vltava pipelines pause github\n  vltava pipelines pause demo/github"
    )]
    Pause(StageName),
    /// Goes on where it was paused.
    #[command(after_help = "Example:\n  vltava pipelines resume github")]
    Resume(StageName),
    /// Begins anew, also where it had stopped for a reason.
    #[command(after_help = "Example:\n  vltava pipelines restart github")]
    Restart(StageName),
    /// Shows which versions of its transforms it was put with, from when to when.
    #[command(after_help = "Example:\n  vltava pipelines versions github")]
    Versions(StageName),
    /// Gives its steps the versions that they had before; all else stays. It comes into force at the next batch.
    #[command(
        after_help = "Examples:\n  vltava pipelines rollback github --reason 'amounts are wrong'\n  vltava pipelines versions github; vltava pipelines rollback github --to 3"
    )]
    Rollback(RollBack),
    /// Moves where it reads on, while it is paused. Going back makes its results again.
    #[command(
        after_help = "Examples:\n  vltava pipelines reset-offsets github --to earliest --dry-run\n  vltava pipelines reset-offsets github --shift -100\n  vltava pipelines reset-offsets github --to 2026-03-01T00:00:00Z --topic dev.demo.github.raw"
    )]
    ResetOffsets {
        #[command(flatten)]
        stage: StageName,
        #[command(flatten)]
        reset: Place,
    },
}

/// Which versions a pipeline goes back to.
#[derive(Debug, Clone, Args)]
pub(crate) struct RollBack {
    #[command(flatten)]
    pub(crate) stage: StageName,
    /// Those that were in force at this generation of the pipeline [default: the ones before the present ones].
    #[arg(long, value_name = "GENERATION")]
    pub(crate) to: Option<u64>,
    /// Why; kept with the pipeline, and shown to whoever puts the version again.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConnectorsCommand {
    /// Ends and commits what is under way, and delivers no more. It outlives restarts of the process.
    #[command(after_help = "Example:\n  vltava connectors pause deliver")]
    Pause(StageName),
    /// Goes on where it was paused or stopped.
    #[command(after_help = "Example:\n  vltava connectors resume deliver")]
    Resume(StageName),
    /// As pause, and its tasks end.
    #[command(after_help = "Example:\n  vltava connectors stop deliver")]
    Stop(StageName),
    /// Begins anew, also where its destination was gone.
    #[command(after_help = "Example:\n  vltava connectors restart deliver")]
    Restart(StageName),
    /// Moves where it reads on, while it is paused or stopped. Going back delivers again.
    #[command(
        after_help = "Examples:\n  vltava connectors reset-offsets deliver --to latest --dry-run\n  vltava connectors reset-offsets deliver --shift -100"
    )]
    ResetOffsets {
        #[command(flatten)]
        stage: StageName,
        #[command(flatten)]
        reset: Place,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Clients {
    #[command(subcommand)]
    pub(crate) command: ClientsCommand,
}

/// Which client.
#[derive(Debug, Clone, Args)]
pub(crate) struct ClientName {
    /// Its name: its client_id.
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) url: Url,
    #[command(flatten)]
    pub(crate) json: Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ClientsCommand {
    /// Lists clients, with what they may do.
    #[command(after_help = "Example:\n  vltava clients ls --json | jq .spec")]
    Ls {
        #[command(flatten)]
        url: Url,
        #[command(flatten)]
        json: Json,
    },
    /// Makes a client, and prints its secret, this once.
    #[command(
        after_help = "Examples:\n  vltava clients create shop --scope ingest:write --workspace demo --topic 'dev.demo.*'\n  vltava clients create ops --scope admin --workspace '*' --topic '*'"
    )]
    Create {
        #[command(flatten)]
        client: ClientName,
        /// What it may do: ingest:write, stream:read, control:read, control:write, admin; may be repeated.
        #[arg(long = "scope", required = true)]
        scopes: Vec<String>,
        /// Where; "*": in the whole installation; may be repeated.
        #[arg(long = "workspace", required = true)]
        workspaces: Vec<String>,
        /// On which topics: a name, or how names begin, as in 'dev.demo.*'; may be repeated.
        #[arg(long = "topic", value_name = "PATTERN")]
        topics: Vec<String>,
        /// What its tokens live [default: 15m].
        #[arg(long, value_name = "DURATION")]
        token_lifetime: Option<String>,
    },
    /// Gives it a new secret, and prints it, this once. The one before is taken for a day more.
    #[command(
        after_help = "Examples:\n  vltava clients rotate shop\n  vltava clients rotate shop --previous-valid-seconds 0"
    )]
    Rotate {
        #[command(flatten)]
        client: ClientName,
        /// How long the secret before is still taken; 0: not at all [default: 86400].
        #[arg(long, value_name = "SECONDS")]
        previous_valid_seconds: Option<u64>,
    },
    /// Ends all of its secrets and tokens, at once.
    #[command(after_help = "Example:\n  vltava clients revoke shop; vltava clients rotate shop")]
    Revoke(ClientName),
    /// Refuses it and its tokens, until it is enabled again.
    #[command(after_help = "Example:\n  vltava clients disable shop")]
    Disable(ClientName),
    /// Lets it in again.
    #[command(after_help = "Example:\n  vltava clients enable shop")]
    Enable(ClientName),
    /// Deletes it. Its tokens are refused from then on.
    #[command(after_help = "Example:\n  vltava clients delete shop")]
    Delete(ClientName),
}

#[derive(Debug, Args)]
pub(crate) struct Config {
    #[command(subcommand)]
    pub(crate) command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Checks file, environment and flags, and prints what would hold. Opens nothing.
    #[command(after_help = "Example:\n  vltava config check --config vltava.toml")]
    Check {
        #[command(flatten)]
        settings: SettingsFlags,
        #[command(flatten)]
        json: Json,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::Cli;

    /// Names, groups and defaults of every subcommand, which clap otherwise finds wrong when one is used.
    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
