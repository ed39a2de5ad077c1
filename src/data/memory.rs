//! Memory that decoding may take, over all threads together.
//!
//! Invariant: what is held never exceeds [`BYTES`]; a thread that asks for more than is free waits until another gives back, and
//! asks for nothing while it holds some, so that no two wait for each other. Must not know: images.

use std::sync::{Condvar, Mutex, PoisonError};

/// Bytes that all decoders together may hold.
pub(super) const BYTES: u64 = 512 << 20;

static FREE: Mutex<u64> = Mutex::new(BYTES);
static GIVEN_BACK: Condvar = Condvar::new();

/// Bytes taken from the budget, given back when dropped.
pub(super) struct Held(u64);

/// Takes bytes from the budget, waiting for them where others hold them.
///
/// **Errors**: more than the whole budget.
pub(super) fn take(bytes: u64) -> Result<Held, String> {
    if bytes > BYTES {
        return Err(format!("decoding needs {} MiB, expected at most {} MiB", bytes >> 20, BYTES >> 20));
    }
    let free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut free = GIVEN_BACK.wait_while(free, |free| *free < bytes).unwrap_or_else(PoisonError::into_inner);
    *free -= bytes;
    Ok(Held(bytes))
}

impl Drop for Held {
    fn drop(&mut self) {
        *FREE.lock().unwrap_or_else(PoisonError::into_inner) += self.0;
        GIVEN_BACK.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn threads_together_hold_no_more_than_the_budget() {
        let (held, most) = (AtomicU64::new(0), AtomicU64::new(0));
        let part = BYTES / 3;
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        let taken = take(part).expect("a part of the budget");
                        most.fetch_max(held.fetch_add(part, Ordering::SeqCst) + part, Ordering::SeqCst);
                        std::thread::yield_now();
                        held.fetch_sub(part, Ordering::SeqCst);
                        drop(taken);
                    }
                });
            }
        });
        assert!(most.load(Ordering::SeqCst) <= BYTES, "{} bytes were held", most.load(Ordering::SeqCst));
        assert!(take(BYTES + 1).is_err_and(|what| what.starts_with("decoding needs 512 MiB")));
    }
}
