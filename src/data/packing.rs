//! From a source to a pack: what a dataset job does.
//!
//! Input: a [`DataSource`] or an [`EvalSource`]. Output: the files of a pack. Decodes on the current rayon pool, writes in the
//! order of the source. Invariants: the same bytes whatever the pool's size; every sample of the source is packed or counted and
//! listed as skipped; memory holds a block of samples, never a shard's worth of pixels.
//! Must not know: jobs, the store, the terminal (progress goes to a callback).

use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;

use crate::run::{DataSource, EvalSource, ScenesConfig};

use super::decode::Decoder;
use super::order::pool;
use super::pack::{Frame, PackTask, ShardCount, Skip, SkipKind};
use super::pack_writer::{PackSummary, PackWriter, PackedSample};
use super::scenes::World;
use super::tally::Tally;
use super::{DataError, DataResult, benchmark, samples, scenes, shards, table};

/// Most samples decoded between two writes.
const BLOCK: usize = 512;
/// Most bytes of their pixels.
const BLOCK_BYTES: usize = 64 << 20;

/// Which samples of a source are its pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolPart {
    /// So many, the first of a keyed order; `None`: all there are.
    pub size: Option<u64>,
    /// Which order, below 2^32. Pools of the procedural world of different draws have no sample in common.
    pub draw: u64,
}

impl From<Option<u64>> for PoolPart {
    /// The draw of runs whose seeds do not draw the pool.
    fn from(size: Option<u64>) -> Self {
        Self { size, draw: 0 }
    }
}

/// Packs a training pool in a frame: all of a source, or the first of a keyed order. Which samples it holds, and in
/// which order, does not depend on the frame.
///
/// `progress` is called with samples done and in all. Pools nest: a smaller `size` of the same source and draw is part of a larger
/// one. Skipped samples are not replaced, so [`PackSummary::samples`] is the achieved size.
///
/// **Errors**: unreadable, damaged or missing files; a pool larger than its source; no usable sample; a declared source.
pub fn pack_training(
    source: &DataSource,
    part: impl Into<PoolPart>,
    frame: Frame,
    dir: &Path,
    progress: &dyn Fn(u64, u64),
) -> DataResult<PackSummary> {
    let PoolPart { size, draw } = part.into();
    let writer = || PackWriter::create(dir, PackTask::Training, frame);
    match source {
        DataSource::Scenes(world) => {
            let what = "the procedural world has no end: its pool needs a size".to_owned();
            let size = size.ok_or(DataError::Unsupported { what })?;
            let world = World::new(world);
            let mut packing = Packing::new(writer()?, frame, size, progress);
            packing.writer.classes(world.classnames(), scenes::templates());
            packing.run_range(size, |i| Ok(world.training((draw << 32) | i).pack(frame.side)))?;
            packing.finish()
        }
        DataSource::Webdataset { shards } => {
            let present = shards::present(shards)?;
            let mut counts = Vec::with_capacity(present.paths.len());
            for path in &present.paths {
                counts.push(shards::Shard::open(path)?.groups.len());
            }
            let chosen = chosen(counts.iter().sum(), size, draw)?;
            let mut packing = Packing::new(writer()?, frame, chosen.len() as u64, progress);
            packing.shards(&present);
            let mut base = 0;
            for (path, count) in present.paths.iter().zip(counts) {
                let within = chosen.partition_point(|&i| i < base)..chosen.partition_point(|&i| i < base + count);
                let here: Vec<usize> = chosen[within].iter().map(|i| i - base).collect();
                packing.run_shard(path, Some(&here), samples::training)?;
                base += count;
            }
            packing.finish()
        }
        DataSource::Table { file, image_column, caption_column } => {
            let table = table::Table::read(Path::new(file), image_column, caption_column)?;
            let rows = chosen(table.rows.len(), size, draw)?;
            let mut packing = Packing::new(writer()?, frame, rows.len() as u64, progress);
            packing.warn_all(table.warnings.clone());
            packing.run(&rows, |decoder, &row| table.sample(row, decoder))?;
            packing.finish()
        }
        DataSource::Declared { samples } => {
            let what = format!("a declared data set of {samples} samples can be planned, not read");
            Err(DataError::Unsupported { what })
        }
    }
}

/// Packs an evaluation set at side S.
///
/// **Errors**: as [`pack_training`]; a folder that lacks the files of its layout.
pub fn pack_eval(source: &EvalSource, side: usize, dir: &Path, progress: &dyn Fn(u64, u64)) -> DataResult<PackSummary> {
    let frame = Frame::centre(side);
    match source {
        EvalSource::Scenes { world_seed, variant, samples, shifts } => {
            let world = World::new(&ScenesConfig::of_evaluation(*world_seed, *shifts));
            let variant = variant.parse()?;
            let mut packing = Packing::new(PackWriter::create(dir, PackTask::Classification, frame)?, frame, *samples, progress);
            packing.writer.classes(world.eval_classnames(variant), scenes::templates());
            packing.run_range(*samples, |i| Ok(world.evaluation(variant, i).pack(side)))?;
            packing.finish()
        }
        EvalSource::Folder { path, split } => {
            let folder = benchmark::Folder::open(Path::new(path), split)?;
            let mut packing = Packing::new(PackWriter::create(dir, folder.task, frame)?, frame, folder.count()?, progress);
            packing.warn_all(folder.warnings.clone());
            packing.writer.classes(folder.classnames.clone(), folder.templates.clone());
            packing.writer.shards(ShardCount { listed: folder.shards.len() as u64, missing: 0 });
            for shard in &folder.shards {
                packing.run_shard(shard, None, |shard, group, decoder| folder.sample(shard, group, decoder))?;
            }
            packing.finish()
        }
        EvalSource::Shards { shards, class_field, classnames, templates } => {
            let present = shards::present(shards)?;
            let (classnames, warnings) = benchmark::read_classnames(Path::new(classnames))?;
            let templates = benchmark::read_templates(Path::new(templates))?;
            let total =
                present.paths.iter().map(|path| Ok(shards::Shard::open(path)?.groups.len() as u64)).sum::<DataResult<u64>>()?;
            let mut packing = Packing::new(PackWriter::create(dir, PackTask::Classification, frame)?, frame, total, progress);
            packing.warn_all(warnings);
            packing.shards(&present);
            let classes = classnames.len();
            packing.writer.classes(classnames, templates);
            for path in &present.paths {
                packing.run_shard(path, None, |shard, group, decoder| {
                    samples::labelled(shard, group, decoder, class_field, classes)
                })?;
            }
            packing.finish()
        }
    }
}

/// Samples that a source lists, before decoding: a walk over headers. `None` for the procedural world, which has no end.
pub fn count(source: &DataSource) -> DataResult<Option<u64>> {
    match source {
        DataSource::Scenes(_) => Ok(None),
        DataSource::Webdataset { shards } => {
            let counts = shards::present(shards)?.paths.into_iter().map(|path| Ok(shards::Shard::open(&path)?.groups.len() as u64));
            counts.sum::<DataResult<u64>>().map(Some)
        }
        DataSource::Table { file, image_column, caption_column } => {
            Ok(Some(table::Table::read(Path::new(file), image_column, caption_column)?.rows.len() as u64))
        }
        DataSource::Declared { samples } => Ok(Some(*samples)),
    }
}

/// Indices of a pool among `available` samples, ascending.
fn chosen(available: usize, size: Option<u64>, draw: u64) -> DataResult<Vec<usize>> {
    match size {
        None => Ok((0..available).collect()),
        Some(asked) if asked > available as u64 => Err(DataError::PoolTooLarge { asked, available: available as u64 }),
        Some(asked) => Ok(pool(available, asked as usize, draw)),
    }
}

/// A pack being made.
struct Packing<'a> {
    writer: PackWriter,
    frame: Frame,
    done: u64,
    total: u64,
    tally: Arc<Tally>,
    progress: &'a dyn Fn(u64, u64),
}

impl<'a> Packing<'a> {
    fn new(writer: PackWriter, frame: Frame, total: u64, progress: &'a dyn Fn(u64, u64)) -> Self {
        progress(0, total);
        Self { writer, frame, done: 0, total, tally: Arc::default(), progress }
    }

    fn shards(&mut self, present: &shards::PresentShards) {
        let missing = present.missing.len() as u64;
        self.writer.shards(ShardCount { listed: present.paths.len() as u64 + missing, missing });
        self.warn_all(present.warnings.clone());
    }

    fn warn_all(&mut self, warnings: Vec<String>) {
        warnings.into_iter().for_each(|warning| self.writer.warn(warning));
    }

    /// Makes samples from items in parallel, and writes them in the order of the items.
    fn run<T: Sync>(
        &mut self,
        items: &[T],
        make: impl Fn(&mut Decoder, &T) -> Result<PackedSample, Skip> + Sync,
    ) -> DataResult<()> {
        let frame = self.frame;
        for block in items.chunks((BLOCK_BYTES / (frame.side * frame.side * 3)).clamp(1, BLOCK)) {
            let decoder = || Decoder::counting(frame, Arc::clone(&self.tally));
            let made: Vec<_> = block.par_iter().map_init(decoder, &make).collect();
            for sample in made {
                match sample {
                    Ok(sample) => self.writer.push(&sample)?,
                    Err(skip) => self.writer.skip(skip),
                }
            }
            self.done += block.len() as u64;
            (self.progress)(self.done, self.total);
        }
        Ok(())
    }

    fn run_range(&mut self, samples: u64, make: impl Fn(u64) -> Result<PackedSample, Skip> + Sync) -> DataResult<()> {
        let mut from = 0;
        while from < samples {
            let block: Vec<u64> = (from..samples.min(from + BLOCK as u64)).collect();
            self.run(&block, |_, &i| make(i))?;
            from += block.len() as u64;
        }
        Ok(())
    }

    /// The samples of a shard: all, or those listed.
    fn run_shard(
        &mut self,
        path: &Path,
        only: Option<&[usize]>,
        make: impl Fn(&shards::Shard, &shards::Group, &mut Decoder) -> Result<PackedSample, (SkipKind, String)> + Sync,
    ) -> DataResult<()> {
        let shard = shards::Shard::open(path)?;
        self.warn_all(shard.warnings.clone());
        self.writer.oddities(&shard.oddities);
        let groups: Vec<&shards::Group> = match only {
            Some(places) => places.iter().map(|&place| &shard.groups[place]).collect(),
            None => shard.groups.iter().collect(),
        };
        let skip = |group, (kind, detail)| Skip { sample: shard.place(group), kind, detail };
        self.run(&groups, |decoder, group| make(&shard, group, decoder).map_err(|reason| skip(group, reason)))
    }

    fn finish(mut self) -> DataResult<PackSummary> {
        self.writer.oddities(&self.tally.oddities());
        self.writer.finish()
    }
}
