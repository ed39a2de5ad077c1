//! Makes the next batch while the last one is used.
//!
//! Input: a source of batches and the steps that are asked for. Output: their batches, those of [`BatchSource`] whatever was made
//! ahead. Bounded: at most one batch is made ahead, in the buffers of the one before the last. Must not know: tensors, devices.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::batch::{Batch, BatchSource};

/// A batch, with its images or their places in the pool.
#[derive(Debug, Default)]
pub struct Made {
    /// Its images mean nothing where they are places.
    pub batch: Batch,
    /// As [`BatchSource::fill_places`] gives them; else empty.
    pub places: Vec<u32>,
    /// As [`BatchSource::fill_places`] gives them; else empty.
    pub crops: Vec<f32>,
}

/// The batches of a source, the next one on threads of its own.
#[derive(Debug)]
pub struct Ahead {
    source: Arc<BatchSource>,
    are_places: bool,
    pool: rayon::ThreadPool,
    /// Step and size of the batch that is being made: one result will be received.
    under_way: Option<(u64, usize)>,
    sender: Sender<thread::Result<Made>>,
    receiver: Receiver<thread::Result<Made>>,
    /// The batch that was asked for last.
    last: Made,
    waited: Duration,
}

impl Ahead {
    /// Batches with pixels, or with places in the pool, made by `threads` threads beside those of the step.
    ///
    /// # Errors
    /// If the threads cannot be started.
    pub fn new(source: &BatchSource, are_places: bool, threads: usize) -> Result<Self, rayon::ThreadPoolBuildError> {
        let builder = rayon::ThreadPoolBuilder::new().num_threads(threads.max(1));
        let pool = builder.thread_name(|thread| format!("batches-{thread}")).build()?;
        let ((sender, receiver), source) = (channel(), Arc::new(source.clone()));
        let (last, waited) = (Made::default(), Duration::ZERO);
        Ok(Self { source, are_places, pool, under_way: None, sender, receiver, last, waited })
    }

    /// The batch of a step. The one of the next step is then begun, unless this is the last.
    ///
    /// # Panics
    /// As [`BatchSource::fill`], on this thread.
    pub fn next(&mut self, step: u64, samples: usize, is_last: bool) -> &mut Made {
        let start = Instant::now();
        if self.under_way != Some((step, samples)) {
            self.discard();
            let buffers = std::mem::take(&mut self.last);
            self.begin(step, samples, buffers);
        }
        self.under_way = None;
        let made = self.receiver.recv().expect("a sender is kept here").unwrap_or_else(|panic| resume_unwind(panic));
        self.waited = start.elapsed();
        let buffers = std::mem::replace(&mut self.last, made);
        if !is_last {
            self.begin(step + 1, samples, buffers);
        }
        &mut self.last
    }

    /// How long the last [`Self::next`] waited for its batch.
    #[must_use]
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// Starts to make a batch in given buffers.
    fn begin(&mut self, step: u64, samples: usize, mut made: Made) {
        let (source, sender, are_places) = (Arc::clone(&self.source), self.sender.clone(), self.are_places);
        self.under_way = Some((step, samples));
        self.pool.spawn(move || {
            // A panic that leaves a thread of the pool ends the program; here the one who asks for the batch gets it.
            let filled = catch_unwind(AssertUnwindSafe(move || {
                let Made { batch, places, crops } = &mut made;
                if are_places {
                    source.fill_places(step, samples, batch, places, crops);
                } else {
                    source.fill(step, samples, batch);
                }
                made
            }));
            // Nobody receives it where the batches are dropped.
            let _ = sender.send(filled);
        });
    }

    /// Waits for what is under way, and throws it away.
    fn discard(&mut self) {
        if self.under_way.take().is_some() {
            let _ = self.receiver.recv();
        }
    }
}

/// No thread is left at work on a batch.
impl Drop for Ahead {
    fn drop(&mut self) {
        self.discard();
    }
}
