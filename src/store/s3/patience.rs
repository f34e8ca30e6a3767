//! How long a request is tried: short attempts, growing pauses, and an end that is kept.

use super::verdict::Verdict;
use parking_lot::Mutex;
use std::time::{Duration, Instant};

/// How often a store must say that an object is absent, or short, before it is believed: some answer so for a moment after a
/// write, or when a part of them is down.
const CONFIRMATIONS: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// How long a read is tried. Together with [`AFTER_SILENCE`] it stays below half a minute: when the kernel's read-ahead has
/// failed, it asks once more for the page that somebody waits for.
pub(super) const READ: Duration = Duration::from_secs(20);
/// How long a server is tried that was given up and has not answered since.
const AFTER_SILENCE: Duration = Duration::from_secs(4);
/// How long a server is called that cannot be reached and has not answered once since the program began: the address may be wrong.
const STRANGER: Duration = Duration::from_secs(6);

/// The bounds of one operation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// From the first attempt to the last answer.
    pub(super) total: Duration,
    /// One attempt.
    pub(super) attempt: Duration,
    /// Between two attempts, at most.
    pub(super) pause: Duration,
    /// What a good end shows.
    pub(super) shows: Shows,
}

/// What the good end of an operation shows of a server that was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shows {
    /// That it delivers again.
    Delivery,
    /// Only that it is there: the answer has no body, and what is stuck may be the bytes.
    Presence,
}

impl Patience {
    /// For a read of `len` bytes that is tried for `total`.
    pub(super) fn reading(total: Duration, len: usize) -> Self {
        Self {
            total,
            attempt: attempt(Duration::from_secs(6), len),
            pause: Duration::from_secs(2),
            shows: Shows::Delivery,
        }
    }

    /// For a question whose answer has no body.
    pub(super) fn looking(total: Duration) -> Self {
        Self {
            shows: Shows::Presence,
            ..Self::reading(total, 0)
        }
    }

    /// For a write of `len` bytes that shall survive an outage of `total`.
    pub(super) fn writing(total: Duration, len: usize) -> Self {
        Self {
            total,
            attempt: attempt(Duration::from_secs(15), len).min(total),
            pause: Duration::from_secs(15),
            shows: Shows::Delivery,
        }
    }
}

/// Longer for more bytes: 128 KiB a second is the least that is waited for.
fn attempt(least: Duration, len: usize) -> Duration {
    let seconds = u64::try_from(len >> 17).unwrap_or(u64::MAX);
    least.saturating_add(Duration::from_secs(seconds))
}

/// Whether the server answers this process: shared by all its requests.
#[derive(Debug, Default)]
pub(super) struct Rapport(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Whether there was any answer.
    known: bool,
    /// The last time that a request for bytes came to a good or a definite end.
    answered: Option<Instant>,
    /// The last time that one was given up.
    gave_up: Option<Instant>,
}

impl Rapport {
    /// Says whether the server has ever answered.
    pub(super) fn is_known(&self) -> bool {
        self.0.lock().known
    }

    /// Says whether a request was given up and none has been answered since.
    fn is_silent(&self) -> bool {
        let state = self.0.lock();
        state.gave_up.is_some() && state.gave_up > state.answered
    }

    fn answer(&self, shows: Shows) {
        let mut state = self.0.lock();
        state.known = true;
        if shows == Shows::Delivery {
            state.answered = Some(Instant::now());
        }
    }

    /// Notes that a request that began at `began` was given up; others may have been answered meanwhile.
    fn give_up(&self, began: Instant) {
        let mut state = self.0.lock();
        if state.answered.is_none_or(|answered| answered < began) {
            state.gave_up = Some(Instant::now());
        }
    }
}

/// Repeats `attempt` until it succeeds, means something definite, or the time is over.
///
/// Its last failure is returned; `Absent` and `Short` only after several answers. After a server was given up, the next requests
/// give up soon, until one is answered: who reads on in a mount must not wait the whole time again for each piece.
pub(super) async fn insist<T>(
    patience: Patience,
    rapport: &Rapport,
    attempt: impl AsyncFnMut() -> Result<T, Verdict>,
) -> Result<T, Verdict> {
    let began = Instant::now();
    let total = if rapport.is_silent() {
        patience.total.min(AFTER_SILENCE)
    } else {
        patience.total
    };
    let result = repeat(Patience { total, ..patience }, rapport, attempt).await;
    match &result {
        Err(Verdict::Unreached(_) | Verdict::Failed(_)) => rapport.give_up(began),
        _ => rapport.answer(patience.shows),
    }
    result
}

async fn repeat<T>(
    patience: Patience,
    rapport: &Rapport,
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
            Err(_) => Verdict::silence(limit),
        };
        let mut total = patience.total;
        match &verdict {
            Verdict::Absent | Verdict::Short => {
                denials = denials.saturating_add(1);
                if denials >= CONFIRMATIONS {
                    return Err(verdict);
                }
            }
            Verdict::Unreached(_) if !rapport.is_known() => total = total.min(STRANGER),
            Verdict::Failed(_) if !rapport.is_known() => total = total.min(READ),
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
        with(&Rapport::default(), patience, attempt)
    }

    fn with<T>(
        rapport: &Rapport,
        patience: Patience,
        attempt: impl AsyncFnMut() -> Result<T, Verdict>,
    ) -> (Result<T, Verdict>, Duration) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let began = Instant::now();
        let result = runtime.block_on(insist(patience, rapport, attempt));
        (result, began.elapsed())
    }

    async fn silence() -> Result<(), Verdict> {
        std::future::pending().await
    }

    const SHORT: Patience = Patience {
        total: Duration::from_millis(400),
        attempt: Duration::from_millis(100),
        pause: Duration::from_millis(50),
        shows: Shows::Delivery,
    };

    #[test]
    fn a_server_that_never_answers_is_given_up_in_time() {
        let (result, took) = run(SHORT, silence);
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
        assert_eq!((result, tries), (Err(Verdict::Absent), 5));
    }

    #[test]
    fn a_server_that_was_given_up_is_tried_shortly_until_it_answers() {
        let rapport = Rapport::default();
        let long = Patience {
            total: Duration::from_secs(5),
            ..SHORT
        };
        assert!(with(&rapport, SHORT, silence).0.is_err());
        let (result, took) = with(&rapport, long, silence);
        assert!(result.is_err());
        assert!(took < AFTER_SILENCE + Duration::from_millis(500), "{took:?}");
        assert!(rapport.is_silent());
        let glance = Patience {
            shows: Shows::Presence,
            ..SHORT
        };
        assert!(with(&rapport, glance, async || Ok(())).0.is_ok());
        assert!(rapport.is_silent());
        assert!(with(&rapport, SHORT, async || Ok(())).0.is_ok());
        assert!(!rapport.is_silent());
        // Another one that gives up is no sign of silence while this one is answered.
        let began = Instant::now();
        rapport.answer(Shows::Delivery);
        rapport.give_up(began);
        assert!(!rapport.is_silent());
    }

    #[test]
    fn an_address_where_nobody_is_is_given_up_sooner_than_a_server_that_went_away() {
        let nobody = async || Err::<(), _>(Verdict::Unreached(String::new()));
        let patience = Patience {
            total: Duration::from_secs(7),
            pause: Duration::from_secs(1),
            ..SHORT
        };
        let (result, took) = run(patience, nobody);
        assert!(result.is_err() && took <= STRANGER, "{took:?}");
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
