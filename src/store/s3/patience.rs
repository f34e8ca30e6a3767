//! How long a request is tried: short attempts, growing pauses, and an end that is kept.

use super::verdict::Verdict;
use std::time::{Duration, Instant};

/// How often a store must say that an object is absent, or short, before it is believed: some answer so for a moment after a write.
const CONFIRMATIONS: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The bounds of one operation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// From the first attempt to the last answer.
    pub(super) total: Duration,
    /// One attempt.
    pub(super) attempt: Duration,
    /// Between two attempts, at most.
    pub(super) pause: Duration,
    /// How long a server is called that has not answered once since the program began.
    pub(super) stranger: Duration,
}

impl Patience {
    /// For what somebody waits for: over within half a minute, with some room for the way back.
    pub(super) fn reading(len: usize) -> Self {
        Self {
            total: Duration::from_secs(27),
            attempt: attempt(Duration::from_secs(6), len),
            pause: Duration::from_secs(2),
            stranger: Duration::from_secs(6),
        }
    }

    /// For a write of `len` bytes that shall survive an outage of `total`.
    pub(super) fn writing(total: Duration, len: usize) -> Self {
        Self {
            total,
            attempt: attempt(Duration::from_secs(15), len).min(total),
            pause: Duration::from_secs(15),
            stranger: Duration::from_secs(6),
        }
    }
}

/// Longer for more bytes: 128 KiB a second is the least that is waited for.
fn attempt(least: Duration, len: usize) -> Duration {
    let seconds = u64::try_from(len >> 17).unwrap_or(u64::MAX);
    least.saturating_add(Duration::from_secs(seconds))
}

/// Whether the server has ever answered this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Acquaintance {
    Known,
    Stranger,
}

/// Repeats `attempt` until it succeeds, means something definite, or the time is over.
///
/// Its last failure is returned; `Absent` and `Short` only after several answers.
pub(super) async fn insist<T>(
    patience: Patience,
    acquaintance: impl Fn() -> Acquaintance,
    mut attempt: impl AsyncFnMut() -> Result<T, Verdict>,
) -> Result<T, Verdict> {
    let began = Instant::now();
    let (mut denials, mut tries) = (0u32, 0u32);
    loop {
        let left = patience.total.saturating_sub(began.elapsed());
        let limit = patience.attempt.min(left);
        let verdict = match tokio::time::timeout(limit, attempt()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(verdict)) => verdict,
            Err(_) => Verdict::Failed(format!("no answer within {} seconds", limit.as_secs().max(1))),
        };
        let mut total = patience.total;
        match &verdict {
            Verdict::Absent | Verdict::Short => {
                denials = denials.saturating_add(1);
                if denials >= CONFIRMATIONS {
                    return Err(verdict);
                }
            }
            Verdict::Unreached(_) if acquaintance() == Acquaintance::Stranger => total = total.min(patience.stranger),
            Verdict::Unreached(_) | Verdict::Failed(_) => {}
            _ => return Err(verdict),
        }
        let pause = pause(tries, patience.pause);
        if began.elapsed().saturating_add(pause) >= total {
            return Err(verdict);
        }
        log::debug!("trying again in {pause:?}: {verdict}");
        tokio::time::sleep(pause).await;
        tries = tries.saturating_add(1);
    }
}

/// The pause after the attempt of this number: doubled each time, and a random part of it, so that many do not come back at once.
fn pause(tries: u32, longest: Duration) -> Duration {
    let full = FIRST_PAUSE.saturating_mul(1 << tries.min(16)).min(longest);
    let mut byte = [0u8];
    // Without randomness the pause is whole.
    if crate::bytes::fill_random(&mut byte).is_err() {
        return full;
    }
    let [byte] = byte;
    full.mul_f32(0.5 + f32::from(byte) / 512.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run<T>(patience: Patience, attempt: impl AsyncFnMut() -> Result<T, Verdict>) -> (Result<T, Verdict>, Duration) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let began = Instant::now();
        let result = runtime.block_on(insist(patience, || Acquaintance::Known, attempt));
        (result, began.elapsed())
    }

    const SHORT: Patience = Patience {
        total: Duration::from_millis(400),
        attempt: Duration::from_millis(100),
        pause: Duration::from_millis(50),
        stranger: Duration::from_millis(100),
    };

    #[test]
    fn a_server_that_never_answers_is_given_up_in_time() {
        let (result, took) = run(SHORT, async || std::future::pending::<Result<(), Verdict>>().await);
        assert!(matches!(result, Err(Verdict::Failed(_))));
        assert!(took < Duration::from_millis(600), "{took:?}");
    }

    #[test]
    fn failures_are_repeated_and_refusals_are_not() {
        let mut tries = 0;
        let (result, _) = run(SHORT, async || {
            tries += 1;
            if tries < 4 {
                Err(Verdict::Failed(String::new()))
            } else {
                Ok(tries)
            }
        });
        assert_eq!(result, Ok(4));
        let mut tries = 0;
        let (result, _) = run(SHORT, async || {
            tries += 1;
            Err::<(), _>(Verdict::Refused(String::new()))
        });
        assert_eq!((result.is_err(), tries), (true, 1));
    }

    #[test]
    fn absence_is_believed_only_when_it_is_confirmed() {
        let mut tries = 0;
        let (result, _) = run(SHORT, async || {
            tries += 1;
            if tries == 2 { Ok(()) } else { Err(Verdict::Absent) }
        });
        assert_eq!(result, Ok(()));
        let mut tries = 0;
        let (result, _) = run(SHORT, async || {
            tries += 1;
            Err::<(), _>(Verdict::Absent)
        });
        assert_eq!((result, tries), (Err(Verdict::Absent), 3));
    }

    #[test]
    fn pauses_grow_and_are_bounded() {
        for tries in 0..40 {
            let longest = Duration::from_secs(2);
            assert!(pause(tries, longest) <= longest);
            assert!(pause(tries, longest) >= FIRST_PAUSE / 2);
        }
    }
}
