//! `data:` to its config and, where it can be known, the size of the subset.

use super::super::diagnostic::Code;
use super::super::files::{FileFault, Files};
use super::super::scalar::{Count, Share};
use super::super::types::{DataSpec, Named, SourceSpec, TokenizerSpec};
use super::quality::{Pool, quality_config};
use super::{Outside, Problem, shards_of, size as in_memory};
use crate::run::{Augmentation, DataConfig, DataSource, ScenesConfig, TokenizerConfig};

/// Data, resolved.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::spec) struct DataPart {
    /// Its `pack_side` is what the file states; [`pack_side`] gives that of a run.
    pub config: DataConfig,
    /// Samples after size and quality; `None` where only the data itself can tell.
    pub subset: Option<u64>,
    /// The stated size of the pool, where that is all there are of its source.
    pub whole: Option<u64>,
    /// What a person should know of its files.
    pub warnings: Vec<Problem>,
}

/// Resolves `data:`.
pub(in crate::spec) fn data(spec: DataSpec, mut outside: Outside<'_>) -> Result<DataPart, Vec<Problem>> {
    let DataSpec { train, quality, tokenizer, pack_side } = spec;
    let (mut problems, mut warnings) = (Vec::new(), Vec::new());
    let at_file = |fault| Problem::of_file(Code::Data, "data.train", fault);
    let (source, size, max_missing) = source(train, outside.files).map_err(|fault| vec![at_file(fault)])?;
    if let DataSource::Scenes(world) = &source {
        problems.extend(wrong_world(world));
    }
    let at_hand = match &source {
        DataSource::Declared { samples } => Some(*samples),
        DataSource::Scenes(_) => None,
        other => {
            let found = outside.files.pool(other, max_missing);
            problems.extend(found.faults.into_iter().map(at_file));
            warnings.extend(found.warnings.into_iter().map(at_file));
            found.samples.filter(|samples| *samples > 0 || problems.is_empty())
        }
    };
    if let (Some(size), Some(all)) = (size, at_hand)
        && size > all
    {
        let message = format!("`data.train.size`: found {size}, expected at most {all}, which is all there are");
        problems.push(Problem::new(Code::Data, "data.train.size", message));
    }
    if size == Some(0) || at_hand == Some(0) {
        problems.push(Problem::new(
            Code::Data,
            "data.train.size",
            "`data.train.size`: found an empty pool, expected at least 1 sample",
        ));
    }
    let pool = size.or(at_hand);
    let tokenizer = tokenizer_config(tokenizer, &mut problems);
    if let TokenizerConfig::ClipBpe { file } = &tokenizer {
        let fault = outside.files.vocabulary(file);
        problems.extend(fault.map(|fault| Problem::of_file(Code::Data, "data.tokenizer", fault)));
    }
    let of = Pool { source: &source, size, samples: pool, is_readable: problems.is_empty() };
    let (quality, subset) = match quality.map(|q| quality_config(q, &of, &mut outside, (&mut problems, &mut warnings))) {
        Some(Some((quality, subset))) => (quality, subset),
        Some(None) => return Err(problems),
        None => (None, pool),
    };
    if !problems.is_empty() {
        return Err(problems);
    }
    let pack_side = pack_side.map(in_memory);
    let whole = size.filter(|size| Some(*size) == at_hand);
    Ok(DataPart { config: DataConfig { source, size, quality, tokenizer, pack_side }, subset, whole, warnings })
}

/// What a procedural world cannot have; its shares are shares already.
fn wrong_world(world: &ScenesConfig) -> Option<Problem> {
    let (found, most) = (world.long_tail, ScenesConfig::MOST_LONG_TAIL);
    let message = format!("`data.train.long_tail`: found {found}, expected a power from 0 (all classes alike) to {most}");
    (!(0.0..=most).contains(&found)).then(|| Problem::new(Code::Data, "data.train.long_tail", message))
}

/// Image sizes that the side of a pack is at most, unless stated: four times the pixels.
const PACK_LIMIT: usize = 2;
/// Image sizes that the side of a pack may be stated to be at most.
const MOST_PACK: usize = 8;

/// The side that whole pictures are packed for, where a strategy crops, at least to `min_area`: so large that the smallest crop, at its narrowest
/// ratio, has `image_size` pixels along its shorter side, but at most twice `image_size`; or what is stated.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "sides below 2^20")]
pub(in crate::spec) fn pack_side(
    stated: Option<usize>,
    image_size: usize,
    min_area: Option<f64>,
) -> Result<Option<usize>, Problem> {
    let Some(min_area) = min_area else { return Ok(None) };
    let (least, most) = (image_size, MOST_PACK * image_size);
    match stated {
        Some(side) if !(least..=most).contains(&side) => {
            let message = format!("`data.pack_side`: found {side}, expected from {least} to {most}, 1 to {MOST_PACK} image sizes");
            let hint = "a crop of a picture that is packed smaller than the model sees it would be enlarged";
            Err(Problem::new(Code::Data, "data.pack_side", message).hint(hint))
        }
        Some(side) => Ok(Some(side)),
        None => {
            let enough = (image_size as f64 / (min_area / Augmentation::CROP_RATIO).sqrt()).ceil() as usize;
            Ok(Some(enough.min(PACK_LIMIT * image_size)))
        }
    }
}

/// The source, its size where one is stated, and the share of its files that may be missing.
fn source(spec: SourceSpec, files: &dyn Files) -> Result<(DataSource, Option<u64>, f64), FileFault> {
    let count = |size: Option<Count>| size.map(|s| s.0);
    let share = |share: Option<Share>| share.map_or(SourceSpec::DEFAULT_MAX_MISSING, |s| s.0);
    Ok(match spec {
        SourceSpec::Scenes { size, world_seed, faults, long_tail, shifts } => {
            let usual = ScenesConfig::of_seed(world_seed);
            let world = ScenesConfig {
                world_seed,
                faults: faults.map_or(usual.faults, |share| share.0),
                long_tail: long_tail.unwrap_or(usual.long_tail),
                shifts: shifts.map_or(usual.shifts, |share| share.0),
            };
            (DataSource::Scenes(world), Some(size.0), 0.0)
        }
        SourceSpec::Webdataset { shards, size, max_missing } => {
            (DataSource::Webdataset { shards: shards_of(files, shards)? }, count(size), share(max_missing))
        }
        SourceSpec::Table { file, image_column, caption_column, size, max_missing } => {
            (DataSource::Table { file: file.0, image_column, caption_column }, count(size), share(max_missing))
        }
        SourceSpec::Declared { samples, size } => (DataSource::Declared { samples: samples.0 }, count(size), 0.0),
    })
}

fn tokenizer_config(spec: Option<Named<TokenizerSpec>>, problems: &mut Vec<Problem>) -> TokenizerConfig {
    /// Two special tokens and the 256 bytes that any text can be spelt with.
    const MIN_VOCAB_SIZE: u64 = 258;
    const MAX_VOCAB_SIZE: u64 = 1 << 20;
    let mut entries = |stated: Option<Count>| {
        let size = stated.map_or(TokenizerSpec::DEFAULT_VOCAB_SIZE, |s| s.0);
        if !(MIN_VOCAB_SIZE..=MAX_VOCAB_SIZE).contains(&size) {
            let path = "data.tokenizer.vocab_size";
            let message = format!("`{path}`: found {size}, expected from {MIN_VOCAB_SIZE} to {MAX_VOCAB_SIZE}");
            problems.push(Problem::new(Code::Data, path, message).hint("256 bytes and 2 special tokens are always entries"));
        }
        u32::try_from(size).unwrap_or(u32::MAX)
    };
    match spec.map(|Named(t)| t) {
        None => TokenizerConfig::Bpe { vocab_size: entries(None) },
        Some(TokenizerSpec::Bpe { vocab_size }) => TokenizerConfig::Bpe { vocab_size: entries(vocab_size) },
        Some(TokenizerSpec::Unigram { vocab_size }) => TokenizerConfig::Unigram { vocab_size: entries(vocab_size) },
        Some(TokenizerSpec::ClipBpe { file }) => TokenizerConfig::ClipBpe { file: file.0 },
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::super::files::NoFiles;
    use super::*;
    use crate::run::{SslConfig, StrategyConfig};

    fn resolve(json: serde_json::Value) -> Result<DataPart, Vec<Problem>> {
        let spec: DataSpec = serde_json::from_value(json).unwrap();
        data(spec, Outside { files: &NoFiles, scorer: &mut |_, _| None })
    }

    #[test]
    fn a_filter_that_keeps_everything_is_dropped() {
        let all = resolve(serde_json::json!({"train": {"dataset": "scenes", "size": "4k"}})).unwrap();
        for keep in [serde_json::json!("100%"), serde_json::json!({"count": 4000})] {
            let json = serde_json::json!({"train": {"dataset": "scenes", "size": 4000}, "quality": {"keep": keep, "by": "random"}});
            assert_eq!(resolve(json).unwrap(), all);
        }
    }

    #[test]
    fn the_subset_is_known_where_the_file_says_enough() {
        let subset = |json| resolve(json).unwrap().subset;
        let scenes = serde_json::json!({"dataset": "scenes", "size": "4k"});
        assert_eq!(subset(serde_json::json!({"train": scenes, "quality": {"keep": "33%", "by": "random"}})), Some(1320));
        assert_eq!(
            subset(serde_json::json!({"train": scenes, "quality": {"keep": {"at_least": 0.3}, "by": {"field": "s"}}})),
            None
        );
        assert_eq!(subset(serde_json::json!({"train": {"dataset": "declared", "samples": "3.4B"}})), Some(3_400_000_000));
        assert_eq!(subset(serde_json::json!({"train": {"dataset": "webdataset", "shards": "a.tar"}})), None);
    }

    #[test]
    fn where_a_strategy_crops_the_smallest_crop_is_not_enlarged_up_to_twice_the_image_size() {
        let side = |min_area| pack_side(None, 224, Some(min_area)).unwrap().unwrap();
        // The narrowest crop of the least area is side * sqrt(area * 3 / 4) wide.
        for (min_area, expected) in [(1.0, 259), (0.9, 273), (0.5, 366), (0.08, 448)] {
            assert_eq!(side(min_area), expected);
            let narrowest = expected as f64 * (min_area * 0.75).sqrt();
            assert_eq!(narrowest >= 224.0, min_area > 0.3, "{narrowest}");
        }
        let strategy = |augmentation, ssl| StrategyConfig { augmentation, ssl, ..StrategyConfig::clip() }.min_area();
        let stacked = Augmentation::StackedRandAugment { layers: 2, magnitude: 9.0, min_area: 0.5 };
        assert_eq!(pack_side(None, 32, strategy(stacked, None)).unwrap(), Some(53));
        assert_eq!(pack_side(Some(100), 32, Some(0.5)).unwrap(), Some(100));
        // The smallest crops of SLIP are those of its self-supervised views.
        let ssl = Some(SslConfig { weight: 1.0, temperature: 0.1, hidden: 8, out: 8, bn_group: 8 });
        assert_eq!(pack_side(None, 32, strategy(stacked, ssl)).unwrap(), Some(64));
        // What cannot matter is dropped.
        for plain in [Augmentation::None, Augmentation::RandAugment { layers: 2, magnitude: 9.0 }] {
            assert_eq!(pack_side(Some(9), 32, strategy(plain, ssl)).unwrap(), None);
        }
        for wrong in [31, 257] {
            let message = pack_side(Some(wrong), 32, Some(0.5)).unwrap_err().message;
            assert!(message.contains(&format!("found {wrong}, expected from 32 to 256")), "{message}");
        }
    }

    #[test]
    fn a_pool_cannot_be_larger_than_what_is_declared() {
        let problems = resolve(serde_json::json!({"train": {"dataset": "declared", "samples": "1M", "size": "2M"}})).unwrap_err();
        assert!(problems[0].message.contains("at most 1000000"), "{problems:?}");
    }
}
