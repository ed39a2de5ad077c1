//! Algorithms of products chosen by time, where SCALEDOWN_AUTOTUNE=1 asks for it.
//!
//! Input: candidates and a way to run one. Output: the one to use. Off by default: times differ from run to run, and another
//! algorithm means other bytes. Invariant: a choice is kept on disk with the kernels, by device, library and shape, and the first
//! one kept is used by every process from then on. Must not know matrices.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cudarc::cublaslt::sys::cublasLtMatmulAlgo_t as Algorithm;
use cudarc::driver::sys::CUdevice_attribute;
use cudarc::driver::{CudaContext, DriverError};

use super::cache::Cache;
use super::libraries::cublaslt_version;
use crate::trainer::TrainerError;

/// Timed runs of each candidate; the fastest counts.
const RUNS: usize = 5;

/// Chooses by time.
pub(super) struct Tuner {
    cache: Cache,
    /// What times depend on besides the shape.
    machine: String,
}

impl Tuner {
    /// One for a device, where the environment asks for it.
    pub(super) fn from_environment(context: &Arc<CudaContext>, cache: &Cache) -> Result<Option<Self>, DriverError> {
        if std::env::var_os("SCALEDOWN_AUTOTUNE").is_none_or(|value| value != "1") {
            return Ok(None);
        }
        let processors = context.attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
        let Ok(library) = cublaslt_version() else { return Ok(None) };
        let machine = format!("{} {processors} {:?} {library}", context.name()?, context.compute_capability()?);
        Ok(Some(Self { cache: cache.clone(), machine }))
    }

    /// The algorithm for a subject: the one kept on disk where it is still usable, else the fastest, which is then kept.
    ///
    /// # Errors
    /// Only where no candidate runs: the last one's error.
    pub(super) fn choose(
        &self,
        subject: &str,
        candidates: &[Algorithm],
        is_usable: impl Fn(&Algorithm) -> bool,
        run: &mut dyn FnMut(&Algorithm) -> Result<(), TrainerError>,
    ) -> Result<Algorithm, TrainerError> {
        let name = format!("algorithm-{}", &blake3::hash(format!("{} {subject}", self.machine).as_bytes()).to_hex()[..32]);
        let kept = || self.cache.read(&name).and_then(|bytes| from_bytes(&bytes)).filter(&is_usable);
        if let Some(algorithm) = kept() {
            return Ok(algorithm);
        }
        let mut best: Option<(Duration, Algorithm)> = None;
        let mut last = Ok(());
        for candidate in candidates {
            match time(candidate, run) {
                Ok(time) if best.is_none_or(|(least, _)| time < least) => best = Some((time, *candidate)),
                Ok(_) => {}
                Err(error) => last = Err(error),
            }
        }
        let Some((_, fastest)) = best else { return last.map(|()| candidates[0]) };
        self.cache.write(&name, &fastest.data.map(u64::to_le_bytes).concat());
        // Another process may have been first; without a cache the choice holds for this process.
        Ok(kept().unwrap_or(fastest))
    }
}

/// The least time of a few runs after a first one.
fn time(candidate: &Algorithm, run: &mut dyn FnMut(&Algorithm) -> Result<(), TrainerError>) -> Result<Duration, TrainerError> {
    run(candidate)?;
    let mut least = Duration::MAX;
    for _ in 0..RUNS {
        let start = Instant::now();
        run(candidate)?;
        least = least.min(start.elapsed());
    }
    Ok(least)
}

fn from_bytes(bytes: &[u8]) -> Option<Algorithm> {
    let words: Vec<u64> = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
    words.try_into().ok().map(|data| Algorithm { data })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_choice_that_was_kept_stays() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let tuner = Tuner { cache: Cache::at(folder.path().into()), machine: "a machine".into() };
        let [slow, quick] = [Algorithm { data: [1; 8] }, Algorithm { data: [2; 8] }];
        let pause = |algorithm: &Algorithm, slowest: &Algorithm| {
            std::thread::sleep(Duration::from_millis(if algorithm == slowest { 20 } else { 1 }));
            Ok(())
        };
        let first = tuner.choose("shape", &[slow, quick], |_| true, &mut |algorithm| pause(algorithm, &slow))?;
        let again = tuner.choose("shape", &[slow, quick], |_| true, &mut |algorithm| pause(algorithm, &quick))?;
        assert_eq!((first, again), (quick, quick));
        let other = tuner.choose("shape", &[slow], |algorithm| *algorithm == slow, &mut |_| Ok(()))?;
        assert_eq!(other, slow, "a kept algorithm that the library refuses is not used");
        Ok(())
    }
}
