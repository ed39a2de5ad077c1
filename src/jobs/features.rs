//! Features of a run and a set, computed once for the evaluations that use them.
//!
//! Owns a cache in the memory of this program: whoever asks first computes, whoever asks meanwhile waits. The least recently used
//! give way where all together are larger than [`MOST_BYTES`]; what is computed again has the same bytes. Must not know tasks.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::executor::JobError;
use crate::plan::Key;
use crate::run::{DeviceKind, Precision};
use crate::trainer::eval::ImageFeatures;

/// Bytes of features that are kept.
const MOST_BYTES: usize = 512 << 20;

/// What decides features: the training, the packed set, and where and how exactly they are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FeaturesOf {
    pub train: Key,
    /// Steps after which; `None`: the last.
    pub at: Option<u64>,
    pub set: Key,
    pub device: DeviceKind,
    pub precision: Precision,
}

/// Features, once somebody has computed them.
type Slot = Arc<Mutex<Option<Arc<ImageFeatures>>>>;

/// Features that were computed lately.
#[derive(Debug, Default)]
pub struct FeatureCache {
    /// The most recently used last.
    slots: Mutex<Vec<(FeaturesOf, Slot)>>,
}

impl FeatureCache {
    /// The features of a set, which `compute` gives where nobody has asked for them lately.
    ///
    /// # Errors
    /// As `compute`; the next one who asks tries again.
    pub(super) fn of(
        &self,
        of: FeaturesOf,
        compute: impl FnOnce() -> Result<ImageFeatures, JobError>,
    ) -> Result<Arc<ImageFeatures>, JobError> {
        let slot = self.slot(of);
        let mut held = unpoisoned(&slot);
        if let Some(features) = held.as_ref() {
            return Ok(Arc::clone(features));
        }
        let features = Arc::new(compute()?);
        *held = Some(Arc::clone(&features));
        drop(held);
        self.make_room(MOST_BYTES);
        Ok(features)
    }

    /// The place of some features, which becomes the most recently used.
    fn slot(&self, of: FeaturesOf) -> Slot {
        let mut slots = unpoisoned(&self.slots);
        let known = slots.iter().position(|(known, _)| *known == of).map(|at| slots.remove(at).1);
        let slot = known.unwrap_or_default();
        slots.push((of, Arc::clone(&slot)));
        slot
    }

    /// Forgets the least recently used until the rest takes no more than `most` bytes. What is being computed has no size yet.
    fn make_room(&self, most: usize) {
        let mut slots = unpoisoned(&self.slots);
        let mut left = most;
        let bytes = |slot: &Slot| slot.try_lock().ok().and_then(|held| held.as_ref().map(|features| features.bytes())).unwrap_or(0);
        let kept = slots.iter().rev().take_while(|(_, slot)| {
            let bytes = bytes(slot);
            let fits = bytes <= left;
            left = left.saturating_sub(bytes);
            fits
        });
        let forgotten = slots.len() - kept.count();
        slots.drain(..forgotten);
    }
}

/// A slot is either empty or whole, also after a panic of whoever held it.
fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(set: &str) -> FeaturesOf {
        let (device, precision) = (DeviceKind::Cpu, Precision::F32);
        FeaturesOf { train: Key::of(b"train"), at: None, set: Key::of(set.as_bytes()), device, precision }
    }

    fn features(value: f32) -> ImageFeatures {
        ImageFeatures::new(vec![value; 4], vec![value; 4], 2)
    }

    #[test]
    fn features_are_computed_once_by_whoever_asks_first() {
        let cache = FeatureCache::default();
        let computed = Mutex::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let found = cache.of(of("a"), || {
                        *unpoisoned(&computed) += 1;
                        Ok(features(1.0))
                    });
                    assert_eq!(*found.expect("it computes"), features(1.0));
                });
            }
        });
        assert_eq!(*unpoisoned(&computed), 1);
        assert_eq!(*cache.of(of("b"), || Ok(features(2.0))).expect("another set"), features(2.0));
    }

    #[test]
    fn what_fails_is_tried_again() {
        let cache = FeatureCache::default();
        assert!(cache.of(of("a"), || Err(JobError::failed("no memory"))).is_err());
        assert_eq!(*cache.of(of("a"), || Ok(features(1.0))).expect("it computes"), features(1.0));
    }

    #[test]
    fn the_least_recently_used_give_way() {
        let cache = FeatureCache::default();
        for set in ["a", "b", "c"] {
            cache.of(of(set), || Ok(features(0.0))).expect("it computes");
        }
        cache.of(of("a"), || Err(JobError::failed("it is known"))).expect("it is known");
        cache.make_room(2 * features(0.0).bytes());
        let is_known = |set| cache.of(of(set), || Err(JobError::failed("forgotten"))).is_ok();
        assert_eq!(["a", "c", "b"].map(is_known), [true, true, false]);
    }
}
