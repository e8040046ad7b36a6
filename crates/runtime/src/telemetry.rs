//! Logs: lines for people on a terminal, JSON objects otherwise, always on stderr (stdout belongs to
//! what a command prints).
//!
//! Invariants: one event is one line; a place in the code that fires without end costs a bounded
//! number of lines (see [`limit`]); an error is written once with its whole chain of sources.
//! A JSON line has `timestamp`, `level`, `service`, `message`, `request_id` (where one is known),
//! `target`, then the event's fields and those of the spans around it.

mod fields;
mod limit;

use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::str::FromStr;

use jiff::Timestamp;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tracing::{Event, Level, Subscriber, span};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Registry};

use fields::Fields;
use limit::{Limiter, Verdict};

/// How lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Human on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// A text that says no format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no log format: give auto, human or json")]
pub struct FormatError(String);

impl FromStr for Format {
    type Err = FormatError;
    fn from_str(text: &str) -> Result<Self, FormatError> {
        match text {
            "auto" => Ok(Self::Auto),
            "human" => Ok(Self::Human),
            "json" => Ok(Self::Json),
            other => Err(FormatError(other.chars().take(64).collect())),
        }
    }
}

/// Settings of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How lines look.
    pub format: Format,
    /// What is logged: a level, or `target=level` directives separated by commas
    /// (`info,broker=debug`).
    pub filter: String,
    /// The service's name on JSON lines.
    #[serde(skip)]
    pub service: String,
}

impl Default for Config {
    fn default() -> Self {
        Self { format: Format::Auto, filter: "info".into(), service: "vltava".into() }
    }
}

/// Why logging couldn't start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter isn't understood.
    #[error("log filter {filter:?}: {reason}; write e.g. \"info\" or \"info,broker=debug\"")]
    Filter {
        /// As given.
        filter: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Called twice in a process.
    #[error("logging was started already")]
    Twice,
}

/// Starts logging for the process.
pub fn init(config: &Config) -> Result<(), Error> {
    let filter = EnvFilter::builder().parse(&config.filter).map_err(|reason| Error::Filter {
        filter: config.filter.clone(),
        reason: crate::shutdown::chain(&reason),
    })?;
    let terminal = std::io::stderr().is_terminal();
    let style = match config.format {
        Format::Json => Style::Json,
        Format::Auto if !terminal => Style::Json,
        Format::Auto | Format::Human => Style::Human { color: terminal },
    };
    let lines = Lines::new(style, config.service.clone(), Box::new(std::io::stderr()));
    tracing::subscriber::set_global_default(Registry::default().with(filter).with(lines))
        .map_err(|_| Error::Twice)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Human { color: bool },
    Json,
}

/// The layer that writes.
struct Lines {
    style: Style,
    service: String,
    limiter: Limiter,
    out: Mutex<Box<dyn Write + Send>>,
}

impl Lines {
    fn new(style: Style, service: String, out: Box<dyn Write + Send>) -> Self {
        Self { style, service, limiter: Limiter::default(), out: Mutex::new(out) }
    }

    fn json(&self, line: &mut String, event: &Event<'_>, fields: Fields) {
        let Fields { message, request_id, rest } = fields;
        let mut member = |name: &str, value: &serde_json::Value| {
            line.push(if line.is_empty() { '{' } else { ',' });
            // Writing to a String can't fail, nor can a Value fail to serialise.
            let _ = write!(line, "{}:{}", serde_json::Value::from(name), value);
        };
        let metadata = event.metadata();
        member("timestamp", &format!("{:.6}", Timestamp::now()).into());
        member("level", &metadata.level().as_str().into());
        member("service", &self.service.as_str().into());
        member("message", &message.into());
        if let Some(request_id) = request_id {
            member("request_id", &request_id.into());
        }
        member("target", &metadata.target().into());
        for (name, value) in rest.iter().filter(|(name, _)| !STANDARD.contains(name)) {
            member(name, value);
        }
        line.push_str("}\n");
    }

    fn human(line: &mut String, color: bool, event: &Event<'_>, fields: Fields) {
        let Fields { message, request_id, rest } = fields;
        let (level, paint) = match *event.metadata().level() {
            Level::ERROR => ("ERROR", "\x1b[31m"),
            Level::WARN => (" WARN", "\x1b[33m"),
            Level::INFO => (" INFO", "\x1b[32m"),
            Level::DEBUG => ("DEBUG", "\x1b[34m"),
            Level::TRACE => ("TRACE", "\x1b[35m"),
        };
        let (paint, dim, off) = if color { (paint, "\x1b[2m", "\x1b[0m") } else { ("", "", "") };
        let now = Timestamp::now().strftime("%H:%M:%S%.3f");
        let target = event.metadata().target();
        let _ = write!(line, "{dim}{now}{off} {paint}{level}{off} {dim}{target}:{off} ");
        push_visible(line, &message);
        let request_id = request_id.map(|id| ("request_id", serde_json::Value::String(id)));
        for (name, value) in rest.iter().chain(request_id.iter()) {
            let _ = write!(line, " {dim}{name}={off}");
            match value {
                serde_json::Value::String(text) => push_visible(line, text),
                other => {
                    let _ = write!(line, "{other}");
                }
            }
        }
        line.push('\n');
    }
}

/// Members that a JSON line has anyway.
const STANDARD: [&str; 6] = ["timestamp", "level", "service", "message", "request_id", "target"];

/// Control characters are escaped: what callers send must not forge lines or drive the terminal.
fn push_visible(line: &mut String, text: &str) {
    for c in text.chars() {
        if c.is_control() { line.extend(c.escape_default()) } else { line.push(c) }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lines {
    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let verdict = self.limiter.ask(event.metadata());
        if verdict == Verdict::Hold {
            return;
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        if let Some(scope) = context.event_scope(event) {
            // Innermost first: an inner field wins over an outer one of its name.
            for span in scope {
                if let Some(outer) = span.extensions().get::<Fields>() {
                    fields.inherit(outer);
                }
            }
        }
        match verdict {
            Verdict::Last => fields.rest.push(("note", "more of these are held back for a while".into())),
            Verdict::After(held) => fields.rest.push(("held_back", held.into())),
            Verdict::Write | Verdict::Hold => {}
        }
        let mut line = String::with_capacity(256);
        match self.style {
            Style::Json => self.json(&mut line, event, fields),
            Style::Human { color } => Self::human(&mut line, color, event, fields),
        }
        // A log that can't be written must not stop the process; there is nowhere else to say so.
        let _ = self.out.lock().write_all(line.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tracing::{error, info, info_span, warn};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(style: Style, f: impl FnOnce()) -> Vec<String> {
        let sink = Sink::default();
        let lines = Lines::new(style, "vltava".into(), Box::new(sink.clone()));
        tracing::subscriber::with_default(Registry::default().with(lines), f);
        let bytes = sink.0.lock().clone();
        String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_json_line_has_what_operators_look_for() {
        let lines = logged(Style::Json, || {
            let span = info_span!("stage", pipeline = "github", request_id = "outer");
            let _entered = span.enter();
            info!(request_id = "req-1", offset = 7_i64, name = "a \"quoted\"\nname", "stored {}", 1);
        });
        let line: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
        let members: Vec<_> = line.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(&members[..6], STANDARD);
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["service"], "vltava");
        assert_eq!(line["message"], "stored 1");
        assert_eq!(line["request_id"], "req-1");
        assert_eq!(line["offset"], 7);
        assert_eq!(line["name"], "a \"quoted\"\nname");
        assert_eq!(line["pipeline"], "github");
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
        assert!(line["target"].as_str().unwrap().starts_with("runtime::telemetry"));
    }

    #[test]
    fn a_line_for_people_can_not_be_forged() {
        let lines = logged(Style::Human { color: false }, || {
            warn!(topic = "a\n12:00 ERROR forged \x1b[31m", "refused");
        });
        assert_eq!(lines.len(), 1);
        assert!(
            lines[0].contains(" WARN runtime::telemetry::tests: refused topic=a\\n12:00"),
            "{}",
            lines[0]
        );
        assert!(!lines[0].contains('\x1b'));
    }

    #[test]
    fn an_error_comes_with_its_sources() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] std::io::Error);
        let lines = logged(Style::Json, || {
            let failure = Outer(std::io::Error::other("inner"));
            error!(error = &failure as &(dyn std::error::Error + 'static), "failed");
        });
        let line: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!(line["error"], "outer: inner");
    }

    #[test]
    fn one_noisy_place_costs_a_bounded_number_of_lines_and_others_none() {
        let lines = logged(Style::Json, || {
            for i in 0..10 * limit::LINES_MAX {
                warn!(i, "again");
            }
            warn!("another place");
        });
        assert_eq!(lines.len(), limit::LINES_MAX as usize + 1);
        assert!(lines[limit::LINES_MAX as usize - 1].contains("held back"));
        assert!(lines.last().unwrap().contains("another place"));
    }

    #[test]
    fn a_filter_that_is_not_understood_is_named() {
        let error = init(&Config { filter: "broker=loud".into(), ..Config::default() }).unwrap_err();
        assert!(error.to_string().contains("\"broker=loud\""), "{error}");
    }
}
