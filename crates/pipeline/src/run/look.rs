//! What the loop looks at once a second: lag, and whether an engine that was away is back.

use futures::FutureExt;
use jiff::Timestamp;

use super::{Done, Loop};

impl Loop {
    /// Looks at lag, and, where the engine was away, whether it is back.
    pub(super) fn look(&mut self) {
        let mut total = Some(0);
        let mut oldest: Option<i64> = None;
        for lane in &self.lanes {
            for (tp, held) in &lane.partitions {
                let lag = held.lag(|position| self.consumer.lag(tp, position));
                if let Some(lag) = lag {
                    self.status.metrics.lag(tp, lag);
                }
                total = total.zip(lag).map(|(sum, lag)| sum + lag);
            }
            let timestamp = lane.oldest().map(|r| r.timestamp_ms);
            oldest = oldest.into_iter().chain(timestamp).min();
        }
        let age_seconds =
            |ms: i64| (Timestamp::now().as_millisecond().saturating_sub(ms).max(0)) as f64 / 1e3;
        let seconds = match (oldest, total) {
            (Some(ms), _) => Some(age_seconds(ms)),
            (None, Some(0)) => Some(0.0),
            (None, _) => None,
        };
        self.status.lag(total.filter(|_| !self.owners.is_empty()), seconds);
        let tp = self.owners.keys().next().cloned();
        if let Some(tp) = tp.filter(|_| self.away && !self.probing) {
            self.probing = true;
            let consumer = self.consumer.handle().clone();
            let probe = async move { Done::Probed(consumer.watermarks(&tp).await.map(drop)) };
            self.work.push(probe.boxed());
        }
    }
}
