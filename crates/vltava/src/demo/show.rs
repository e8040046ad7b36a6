//! What a person sees: sentences, and a table that is drawn over itself. All of it on standard
//! error: standard output is for the summary.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use parking_lot::Mutex;

use super::{Counts, Summary, percentile};
use crate::output;

/// Without a terminal, the table is printed this often as a line.
const LINE_INTERVAL: Duration = Duration::from_secs(2);

pub(super) struct Show {
    terminal: bool,
    bar: Mutex<Option<ProgressBar>>,
    line_at: Mutex<Duration>,
}

impl Show {
    pub(super) fn new() -> Self {
        Self { terminal: std::io::stderr().is_terminal(), bar: Mutex::new(None), line_at: Mutex::default() }
    }

    pub(super) fn say(&self, text: std::fmt::Arguments<'_>) {
        self.end();
        output::note(text);
    }

    /// The table as it is now.
    pub(super) fn table(&self, counts: &Counts, latencies: &[f64], elapsed: Duration) {
        let Counts { sent, stored, transformed, delivered, dead_lettered } = *counts;
        #[expect(clippy::cast_precision_loss, reason = "for people, rounded anyway")]
        let rate = |count: u64| format!("{:.0}/s", count as f64 / elapsed.as_secs_f64().max(0.001));
        let (p50, p99) = (percentile(latencies, 50), percentile(latencies, 99));
        if self.terminal {
            let row = |name: &str, count: u64| format!("  {name:<12} {count:>9} {:>10}", rate(count));
            let text = [
                format!("  {:<12} {:>9} {:>10}", "", "events", "rate"),
                row("sent", sent),
                row("stored", stored),
                row("transformed", transformed),
                format!("{}   ingest to delivery: p50 {p50} ms, p99 {p99} ms", row("delivered", delivered)),
                row("dead letters", dead_lettered),
            ]
            .join("\n");
            let mut bar = self.bar.lock();
            bar.get_or_insert_with(table_bar).set_message(text);
        } else {
            let mut next = self.line_at.lock();
            if elapsed < *next {
                return;
            }
            *next = elapsed + LINE_INTERVAL;
            output::note(format_args!(
                "sent {sent}, stored {stored}, transformed {transformed}, delivered {delivered} (p50 {p50} ms, p99 {p99} ms), \
                 dead-lettered {dead_lettered}"
            ));
        }
    }

    /// Leaves the table as it stands.
    pub(super) fn end(&self) {
        if let Some(bar) = self.bar.lock().take() {
            bar.abandon();
        }
        *self.line_at.lock() = Duration::ZERO;
    }

    pub(super) fn result(&self, summary: &Summary, refused: u64) {
        self.end();
        let Summary {
            sent,
            stored,
            transformed,
            delivered,
            dead_lettered,
            redriven,
            lost,
            duplicated,
            repeated_deliveries,
            ready_ms,
            first_delivery_ms,
            p50_ms,
            p99_ms,
            rss_mib,
        } = summary;
        let verdict = if summary.holds() {
            "every event that was sent was delivered; none was lost, none doubled"
        } else {
            "NOT as promised: see the numbers"
        };
        output::note(format_args!(
            "\n{verdict}\n  sent {sent} = stored {stored}; transformed {transformed}; delivered {delivered}; \
             dead-lettered {dead_lettered}, redriven {redriven}\n  lost {lost}, duplicated {duplicated}; delivered \
             again {repeated_deliveries}; bad signatures {refused}\n  ready after {ready_ms} ms, first delivery after \
             {first_delivery_ms} ms; ingest to delivery p50 {p50_ms} ms, p99 {p99_ms} ms; at most {rss_mib} MiB resident"
        ));
    }
}

fn table_bar() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    bar.set_style(ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()));
    bar
}
