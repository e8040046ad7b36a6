//! Holds a connector back from a destination that fails as a whole.
//!
//! Invariant: what happens while the breaker is open costs no record an attempt, and the time it is
//! open doesn't age a record: one rotated token never moves a topic into the DLQ.
//!
//! States: closed; open until a moment; probing (one record is under way, the others wait). A
//! failure of the whole destination opens it, as does a failure rate over the threshold among the
//! first attempts of the last [`WINDOW`] records (retries don't count: one bad key alone can't open it).

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// How many first attempts decide the failure rate.
pub const WINDOW: usize = 100;
/// Below this many first attempts the rate says nothing.
pub const SAMPLES_MIN: usize = 20;
/// First attempts older than this don't count.
pub const WINDOW_AGE_MAX: Duration = Duration::from_secs(60);
/// The first time it opens for this long, then twice as long with every failed probe.
pub const OPEN_MIN: Duration = Duration::from_millis(500);
/// It never stays open for longer without a probe, unless the destination asked for more.
pub const OPEN_MAX: Duration = Duration::from_secs(30);

/// What may be sent now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// Everything.
    Open,
    /// One record, to see whether the destination answers.
    Probe,
    /// Nothing until then (`None`: until the probe returns).
    Wait(Option<Instant>),
}

#[derive(Debug)]
enum State {
    Closed,
    Open { until: Instant, reason: String },
    Probing { reason: String },
}

/// One task's breaker.
#[derive(Debug)]
pub struct Breaker {
    failure_ratio: f64,
    state: State,
    open_for: Duration,
    opened: Option<Instant>,
    open_total: Duration,
    window: VecDeque<(Instant, bool)>,
}

impl Breaker {
    /// Opens where more than this share (0 to 1) of first attempts fail.
    pub fn new(failure_ratio: f64) -> Self {
        Self {
            failure_ratio,
            state: State::Closed,
            open_for: OPEN_MIN,
            opened: None,
            open_total: Duration::ZERO,
            window: VecDeque::with_capacity(WINDOW),
        }
    }

    /// What may be sent now.
    pub fn gate(&self, now: Instant) -> Gate {
        match &self.state {
            State::Closed => Gate::Open,
            State::Open { until, .. } if now >= *until => Gate::Probe,
            State::Open { until, .. } => Gate::Wait(Some(*until)),
            State::Probing { .. } => Gate::Wait(None),
        }
    }

    /// The probe that [`Gate::Probe`] allowed is under way.
    pub fn probe_sent(&mut self) {
        if let State::Open { reason, .. } = &self.state {
            self.state = State::Probing { reason: reason.clone() };
        }
    }

    /// The probe was dropped (its partition was taken away): another may be sent at once.
    pub fn probe_dropped(&mut self, now: Instant) {
        if let State::Probing { reason } = &self.state {
            self.state = State::Open { until: now, reason: reason.clone() };
        }
    }

    /// The destination took a record, or refused this one alone: it answers.
    /// Answers that were under way when the breaker opened don't close it: only the probe's does.
    pub fn answered(&mut self, now: Instant, ok: bool, attempt: u32) {
        if attempt == 1 {
            while self.window.len() >= WINDOW
                || self.window.front().is_some_and(|(at, _)| now.duration_since(*at) > WINDOW_AGE_MAX)
            {
                self.window.pop_front();
            }
            self.window.push_back((now, ok));
        }
        match self.state {
            State::Closed => {
                if let Some(share) = self.failing_share() {
                    self.open(now, None, format!("{:.0}% of the last records were refused", share * 100.0));
                }
            }
            State::Probing { .. } if ok => self.close(now),
            State::Probing { .. } => self.reopen(now, None, None),
            State::Open { .. } => {}
        }
    }

    /// The whole destination fails: opens, or stays open for longer. `after` is the destination's own wish.
    pub fn failed(&mut self, now: Instant, after: Option<Duration>, reason: &str) {
        match self.state {
            State::Closed => self.open(now, after, reason.into()),
            State::Probing { .. } => self.reopen(now, after, Some(reason)),
            // Others that were under way when it opened.
            State::Open { .. } => {}
        }
    }

    fn failing_share(&self) -> Option<f64> {
        if self.window.len() < SAMPLES_MIN {
            return None;
        }
        let failed = self.window.iter().filter(|(_, ok)| !ok).count();
        #[expect(clippy::cast_precision_loss, reason = "both are at most WINDOW")]
        let share = failed as f64 / self.window.len() as f64;
        (share > self.failure_ratio).then_some(share)
    }

    fn open(&mut self, now: Instant, after: Option<Duration>, reason: String) {
        self.opened = Some(now);
        self.open_for = OPEN_MIN;
        self.window.clear();
        self.state = State::Open { until: now + after.unwrap_or(self.open_for), reason };
    }

    fn reopen(&mut self, now: Instant, after: Option<Duration>, reason: Option<&str>) {
        self.open_for = (self.open_for * 2).min(OPEN_MAX);
        let reason = match (&self.state, reason) {
            (_, Some(reason)) => reason.into(),
            (State::Probing { reason } | State::Open { reason, .. }, None) => reason.clone(),
            (State::Closed, None) => String::new(),
        };
        self.state = State::Open { until: now + after.unwrap_or(self.open_for), reason };
    }

    fn close(&mut self, now: Instant) {
        if let Some(opened) = self.opened.take() {
            self.open_total += now.duration_since(opened);
        }
        self.window.clear();
        self.state = State::Closed;
    }

    /// How long it was open until now, in all: time that doesn't age a record.
    pub fn open_total(&self, now: Instant) -> Duration {
        self.open_total + self.opened.map_or(Duration::ZERO, |opened| now.duration_since(opened))
    }

    /// Whether one record is under way to see whether the destination answers.
    pub fn is_probing(&self) -> bool {
        matches!(self.state, State::Probing { .. })
    }

    /// Why it is open, if it is.
    pub fn reason(&self) -> Option<&str> {
        match &self.state {
            State::Closed => None,
            State::Open { reason, .. } | State::Probing { reason } => Some(reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_destination_that_fails_is_probed_with_backoff_and_closes_by_itself() {
        let mut b = Breaker::new(0.5);
        b.failed(Instant::now(), None, "401 Unauthorized");
        assert_eq!(b.reason(), Some("401 Unauthorized"));
        let mut waited = OPEN_MIN;
        for _ in 0..10 {
            assert_eq!(b.gate(Instant::now()), Gate::Wait(Some(Instant::now() + waited)));
            tokio::time::advance(waited).await;
            assert_eq!(b.gate(Instant::now()), Gate::Probe);
            b.probe_sent();
            assert_eq!(b.gate(Instant::now()), Gate::Wait(None));
            b.failed(Instant::now(), None, "401 Unauthorized");
            waited = (waited * 2).min(OPEN_MAX);
        }
        tokio::time::advance(waited).await;
        b.probe_sent();
        b.answered(Instant::now(), true, 1);
        assert_eq!((b.gate(Instant::now()), b.reason()), (Gate::Open, None));
        let open = b.open_total(Instant::now());
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(b.open_total(Instant::now()), open, "closed time doesn't count");
    }

    #[tokio::test(start_paused = true)]
    async fn a_failing_key_alone_does_not_open_it() {
        let mut b = Breaker::new(0.5);
        for attempt in 1..1000 {
            b.answered(Instant::now(), false, attempt);
        }
        for _ in 0..50 {
            b.answered(Instant::now(), true, 1);
        }
        assert_eq!(b.gate(Instant::now()), Gate::Open);
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_over_the_threshold_opens_it() {
        let mut b = Breaker::new(0.5);
        for _ in 0..SAMPLES_MIN {
            assert_eq!(b.gate(Instant::now()), Gate::Open);
            b.answered(Instant::now(), false, 1);
        }
        assert!(matches!(b.gate(Instant::now()), Gate::Wait(Some(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn late_answers_of_before_do_not_close_it() {
        let mut b = Breaker::new(0.5);
        b.failed(Instant::now(), Some(Duration::from_secs(7)), "asked to wait");
        b.answered(Instant::now(), true, 1);
        assert_eq!(b.gate(Instant::now()), Gate::Wait(Some(Instant::now() + Duration::from_secs(7))));
    }
}
