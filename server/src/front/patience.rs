//! When something takes long: a timer that is set now and then, rather than for each of many short
//! waits.

use std::pin::Pin;
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// How long a wait may take before it is long. It is noticed by twice that time at the latest.
const SHORT: Duration = Duration::from_millis(20);

/// Notices waits that take long.
#[derive(Debug, Default)]
pub(super) struct Patience {
    timer: Option<Pin<Box<Sleep>>>,
    /// The number of this wait, and of the one in which the timer was set.
    wait: u64,
    set_in: u64,
}

impl Patience {
    /// A wait begins.
    pub(super) const fn begin(&mut self) {
        self.wait += 1;
    }

    /// Resolves when this wait has taken long, and again each time that it has taken that long
    /// again.
    pub(super) async fn runs_out(&mut self) {
        loop {
            let timer = match &mut self.timer {
                Some(timer) => timer,
                timer @ None => {
                    self.set_in = self.wait;
                    timer.insert(Box::pin(tokio::time::sleep(SHORT)))
                }
            };
            timer.as_mut().await;
            timer.as_mut().reset(Instant::now() + SHORT);
            if std::mem::replace(&mut self.set_in, self.wait) == self.wait {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::task::Poll;

    /// Whether the wait has taken long by now.
    async fn has_run_out(patience: &mut Patience) -> bool {
        let mut runs_out = std::pin::pin!(patience.runs_out());
        poll_fn(|context| Poll::Ready(runs_out.as_mut().poll(context).is_ready())).await
    }

    #[tokio::test]
    async fn many_short_waits_do_not_make_a_long_one() {
        let mut patience = Patience::default();
        let start = Instant::now();
        while start.elapsed() < SHORT * 3 {
            patience.begin();
            assert!(!has_run_out(&mut patience).await);
            tokio::time::sleep(SHORT / 4).await;
        }
        patience.begin();
        patience.runs_out().await;
        patience.runs_out().await;
    }
}
