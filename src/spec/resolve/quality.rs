//! `data.quality:` to its config and, where it can be known, the size of what it leaves.

use super::super::diagnostic::{Code, quoted_list};
use super::super::scalar::{Count, FilePath};
use super::super::types::{
    BasicSpec, FileSpec, FilterSpec, ImageClusterSpec, KeepChoice, KeepSpec, NegClipLossSpec, NormSimSpec, NormSpec, QualityBySpec,
    QualitySpec, ScalarOr, SemDedupSpec, SimilaritySpec, TargetSpec, TrainedOn,
};
use super::evaluate::{SCENES_SAMPLES, SHIFTS};
use super::{Outside, Problem};
use crate::run::{
    Basic, Clustering, DataSource, EvalSource, EvalTask, FeatureRule, FilterConfig, Keep, NegClipLoss, Norm, QualityBy,
    QualityConfig, RunConfig, ScoreFile,
};

/// The pool that is chosen from.
#[derive(Clone, Copy)]
pub(super) struct Pool<'a> {
    pub source: &'a DataSource,
    /// The size that the file states.
    pub size: Option<u64>,
    /// Samples, where that is known.
    pub samples: Option<u64>,
    /// Whether its files can be looked into.
    pub is_readable: bool,
}

/// Key of the section.
const QUALITY: &str = "data.quality";

/// The filters and the size that they leave; a filter that keeps everything is no filter. What a person should know of their files
/// goes to `warnings`. `None` where a problem or a scorer that is
/// still to be read stands in the way.
pub(super) fn quality_config(
    spec: QualitySpec,
    pool: &Pool<'_>,
    outside: &mut Outside<'_>,
    (problems, warnings): (&mut Vec<Problem>, &mut Vec<Problem>),
) -> Option<(Option<QualityConfig>, Option<u64>)> {
    let QualitySpec { keep, by, then, size } = spec;
    let mut context = Context { pool, outside, problems, warnings };
    let mut filters = Vec::new();
    let mut left = pool.samples;
    let first = std::iter::once((QUALITY.to_owned(), keep, by));
    let later = then.unwrap_or_default().into_iter().enumerate();
    let later = later.map(|(idx, FilterSpec { keep, by })| (format!("{QUALITY}.then.{idx}"), keep, Some(by)));
    for (path, keep, by) in first.chain(later) {
        // A measure is looked at even where all is kept, so that what is wrong with it is said at every point of a sweep.
        let by = match by {
            Some(by) => Some(context.measure(&format!("{path}.by"), by)?),
            None => None,
        };
        let Some((keep, kept)) = context.keep(&path, &keep, by.as_ref(), left)? else { continue };
        let Some(by) = by else {
            let message = format!("missing key `by` in `{path}`: part of the pool is kept, expected the measure it is ranked by");
            let problem = Problem::new(Code::MissingKey, path, message);
            context.problems.push(problem.hint("write `by: random`, `by: {field: NAME}` or `by: {similarity: {scorer: FILE}}`"));
            return None;
        };
        filters.push(FilterConfig { keep, by });
        left = kept;
    }
    let size = match size {
        None => None,
        Some(Count(size)) if size == 0 || left.is_some_and(|left| size > left) => {
            let most = left.map_or(String::new(), |left| format!(" to {left}, which the filters leave"));
            let message = format!("`{QUALITY}.size`: found {size}, expected from 1{most}");
            let hint = "`data.train.size` is taken before the filters, `data.quality.size` after them";
            context.problems.push(Problem::new(Code::Data, format!("{QUALITY}.size"), message).hint(hint));
            return None;
        }
        Some(Count(size)) => Some(size).filter(|_| Some(size) != left),
    };
    let left = size.or(left);
    let mut filters = filters.into_iter();
    Some(match (filters.next(), size) {
        (Some(FilterConfig { keep, by }), size) => (Some(QualityConfig { keep, by, then: filters.collect(), size }), left),
        (None, Some(size)) => (Some(QualityConfig::single(Keep::Count(size), QualityBy::Random)), left),
        (None, None) => (None, left),
    })
}

/// What the parts of the section are resolved with.
struct Context<'a, 'o> {
    pool: &'a Pool<'a>,
    outside: &'a mut Outside<'o>,
    problems: &'a mut Vec<Problem>,
    warnings: &'a mut Vec<Problem>,
}

impl Context<'_, '_> {
    fn problem<T>(&mut self, path: &str, message: String, hint: Option<&str>) -> Option<T> {
        let problem = Problem::new(Code::Data, path, message);
        self.problems.push(match hint {
            Some(hint) => problem.hint(hint),
            None => problem,
        });
        None
    }

    /// How much is kept, and how many that is, of what is left so far; `Some(None)` where it is all.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a count below 2^53"
    )]
    fn keep(
        &mut self,
        path: &str,
        keep: &KeepSpec,
        by: Option<&QualityBy>,
        left: Option<u64>,
    ) -> Option<Option<(Keep, Option<u64>)>> {
        let at = format!("{path}.keep");
        let all = self.pool.samples;
        // The first three measures round to the nearest sample, as they always have; the others round down.
        let rounds_down =
            matches!(by, Some(QualityBy::File(_) | QualityBy::Uids { .. } | QualityBy::Basic(_) | QualityBy::Rule { .. }));
        let (keep, kept) = match keep {
            ScalarOr::Scalar(share) | ScalarOr::Map(KeepChoice::Datacomp(share)) if share.0 <= 0.0 => {
                let message = format!("`{at}`: found 0%, expected a share above 0%");
                return self.problem(&at, message, Some("leave `data.quality` out to keep all"));
            }
            ScalarOr::Map(KeepChoice::Datacomp(share)) if share.0 >= 1.0 => {
                let message = format!("`{at}.datacomp`: found 100%, expected a share below 100%");
                return self.problem(
                    &at,
                    message,
                    Some("the rule takes the score behind the share as its threshold; write `keep: 100%`"),
                );
            }
            ScalarOr::Scalar(share) if share.0 >= 1.0 => return Some(None),
            ScalarOr::Scalar(share) if rounds_down => {
                let kept = all.map(|n| (n as f64 * share.0 * (1.0 + 4.0 * f64::EPSILON)).floor() as u64);
                (Keep::WholeShare(share.0), kept)
            }
            ScalarOr::Scalar(share) => (Keep::Share(share.0), all.map(|n| ((n as f64 * share.0).round() as u64).max(1))),
            ScalarOr::Map(KeepChoice::Count(count)) if Some(count.0) == left => return Some(None),
            ScalarOr::Map(KeepChoice::Count(count)) if count.0 == 0 => {
                let message = format!("`{at}.count`: found 0, expected 1 or more");
                return self.problem(&at, message, None);
            }
            ScalarOr::Map(KeepChoice::Count(count)) => (Keep::Count(count.0), Some(count.0)),
            ScalarOr::Map(KeepChoice::AtLeast(score)) => (Keep::AtLeast(*score), None),
            ScalarOr::Map(KeepChoice::Datacomp(share)) => (Keep::Datacomp(share.0), None),
        };
        if let (Some(kept), Some(left)) = (kept, left)
            && kept > left
        {
            let whose = if left == all.unwrap_or(0) { "the size of the pool" } else { "which the filters before it leave" };
            let message = match keep {
                Keep::Count(count) => format!("`{at}.count`: found {count}, expected from 1 to {left}, {whose}"),
                _ => format!("`{at}`: found {kept} samples, expected at most {left}, {whose}"),
            };
            return self.problem(&at, message, Some("shares are of the whole pool, also those of later filters"));
        }
        if by == Some(&QualityBy::Random) && matches!(keep, Keep::AtLeast(_) | Keep::Datacomp(_)) {
            let what = if matches!(keep, Keep::AtLeast(_)) { "at_least" } else { "datacomp" };
            let message = format!("`{at}.{what}` needs a score, and `by: random` has none");
            let hint = "write `by: {field: ..}` or `by: {similarity: ..}`, or keep a share";
            return self.problem(&format!("{path}.by"), message, Some(hint));
        }
        let yes_or_no = match by {
            Some(QualityBy::Basic(_)) => Some("basic"),
            Some(QualityBy::Uids { .. }) => Some("uids"),
            _ => None,
        };
        if let Some(name) = yes_or_no.filter(|_| keep != Keep::AtLeast(1.0)) {
            let message = format!("`{at}`: a part of what `{name}` ranks, which says yes (1) or no (0) and nothing between");
            return self.problem(&at, message, Some("write `keep: {at_least: 1}`, and a share in a filter under `then`"));
        }
        if matches!((by, kept), (Some(_), Some(0))) {
            let message = format!("`{at}`: leaves no sample of {}", all.unwrap_or(0));
            return self.problem(&at, message, Some("keep a larger share"));
        }
        Some(Some((keep, kept)))
    }

    fn measure(&mut self, path: &str, by: QualityBySpec) -> Option<QualityBy> {
        Some(match by {
            QualityBySpec::Random => QualityBy::Random,
            QualityBySpec::Field(name) => {
                self.field(path, &name);
                QualityBy::Field(name)
            }
            QualityBySpec::File(FileSpec { path: file, score_column, id_column }) => {
                let id_column = id_column.unwrap_or_else(|| "uid".to_owned());
                let scores = ScoreFile { file: file.0, id_column, score_column };
                if self.pool.is_readable {
                    let fault = self.outside.files.scores(self.pool.source, &scores);
                    self.problems.extend(fault.map(|fault| Problem::of_file(Code::Data, &format!("{path}.file"), fault)));
                }
                QualityBy::File(scores)
            }
            QualityBySpec::Uids(file) => {
                if self.pool.is_readable {
                    let found = self.outside.files.uids(self.pool.source, &file.0);
                    let at_file = |fault| Problem::of_file(Code::Data, path, fault);
                    self.problems.extend(found.faults.into_iter().map(at_file));
                    self.warnings.extend(found.warnings.into_iter().map(at_file));
                }
                QualityBy::Uids { file: file.0 }
            }
            QualityBySpec::Basic(spec) => QualityBy::Basic(self.basic(path, &spec)?),
            QualityBySpec::Similarity(SimilaritySpec { scorer, seed, trained_on }) => {
                let at = format!("{path}.similarity");
                QualityBy::Similarity { scorer: Box::new(self.scorer(&at, &scorer, seed, trained_on)?) }
            }
            QualityBySpec::NegClipLoss(spec) => {
                let at = format!("{path}.neg_clip_loss");
                let NegClipLossSpec { scorer, seed, trained_on, temperature, batch, permutations } = spec;
                let default = NegClipLoss::default();
                let how = NegClipLoss {
                    temperature: temperature.map_or(default.temperature, |t| t.0),
                    batch: batch.map_or(default.batch, |c| c.0),
                    permutations: permutations.map_or(default.permutations, |c| c.0),
                };
                if how.temperature <= 0.0 {
                    let message = format!("`{at}.temperature`: found {}, expected a number above 0", how.temperature);
                    return self.problem(&format!("{at}.temperature"), message, Some("0.01 unless stated"));
                }
                if how.batch < 2 {
                    let message = format!("`{at}.batch`: found {}, expected 2 pairs or more", how.batch);
                    return self.problem(&format!("{at}.batch"), message, Some("a pair that meets no other has a score of 0"));
                }
                if how.permutations == 0 {
                    let message = format!("`{at}.permutations`: found 0, expected 1 or more");
                    return self.problem(&format!("{at}.permutations"), message, Some("10 unless stated"));
                }
                self.rule(&at, FeatureRule::NegClipLoss(how), (&scorer, seed, trained_on), None)?
            }
            QualityBySpec::NormSim(NormSimSpec { scorer, seed, trained_on, target, norm }) => {
                let norm = match norm.unwrap_or(NormSpec::L2) {
                    NormSpec::L2 => Norm::Two,
                    NormSpec::Linf => Norm::Inf,
                };
                self.rule(&format!("{path}.norm_sim"), FeatureRule::NormSim { norm }, (&scorer, seed, trained_on), Some(target))?
            }
            QualityBySpec::ImageCluster(ImageClusterSpec { scorer, seed, trained_on, target, clusters, iterations }) => {
                let at = format!("{path}.image_cluster");
                let rule = FeatureRule::ImageCluster(self.clustering(&at, clusters, iterations, 20)?);
                self.rule(&at, rule, (&scorer, seed, trained_on), Some(target))?
            }
            QualityBySpec::SemDedup(SemDedupSpec { scorer, seed, trained_on, clusters, iterations }) => {
                let at = format!("{path}.sem_dedup");
                let rule = FeatureRule::SemDedup(self.clustering(&at, clusters, iterations, 100)?);
                self.rule(&at, rule, (&scorer, seed, trained_on), None)?
            }
        })
    }

    fn field(&mut self, path: &str, name: &str) {
        if self.pool.is_readable {
            let fault = self.outside.files.field(self.pool.source, name);
            self.problems.extend(fault.map(|fault| Problem::of_file(Code::Data, path, fault)));
        }
    }

    fn basic(&mut self, path: &str, spec: &BasicSpec) -> Option<Basic> {
        let BasicSpec { min_words, min_characters, min_side, max_aspect } = spec;
        let default = Basic::default();
        let count = |stated: &Option<Count>, default| stated.as_ref().map_or(default, |count| count.0);
        let least = Basic {
            min_words: count(min_words, default.min_words),
            min_characters: count(min_characters, default.min_characters),
            min_side: count(min_side, default.min_side),
            max_aspect: max_aspect.map_or(default.max_aspect, |most| Some(most.0).filter(|most| *most != 0.0)),
        };
        if let Some(most) = least.max_aspect.filter(|most| *most < 1.0) {
            let at = format!("{path}.basic.max_aspect");
            return self.problem(&at, format!("`{at}`: found {most}, expected 1 or more, or 0 for any aspect"), None);
        }
        if least.needs_size() && self.pool.is_readable {
            for field in Basic::SIZE_FIELDS {
                if let Some(fault) = self.outside.files.field(self.pool.source, field) {
                    let at = format!("{path}.basic");
                    let message = format!("`{at}`: sizes of pictures: {}", fault.message);
                    return self.problem(&at, message, Some("write `min_side: 0, max_aspect: 0` to look at captions alone"));
                }
            }
        }
        Some(least)
    }

    fn clustering(&mut self, path: &str, clusters: Count, iterations: Option<Count>, default: u64) -> Option<Clustering> {
        let (at, clusters) = (format!("{path}.clusters"), clusters.0);
        if clusters == 0 || self.pool.samples.is_some_and(|samples| clusters > samples) {
            let most = self.pool.samples.map_or(String::new(), |samples| format!(" to {samples}, the size of the pool"));
            let hint = "clusters start from samples of the pool";
            return self.problem(&at, format!("`{at}`: found {clusters}, expected from 1{most}"), Some(hint));
        }
        Some(Clustering { clusters, iterations: iterations.map_or(default, |count| count.0) })
    }

    fn rule(
        &mut self,
        path: &str,
        rule: FeatureRule,
        (scorer, seed, trained_on): (&FilePath, u64, Option<TrainedOn>),
        target: Option<TargetSpec>,
    ) -> Option<QualityBy> {
        let target = match target {
            Some(target) => Some(self.target(path, target)?),
            None => None,
        };
        let scorer = Box::new(self.scorer(path, scorer, seed, trained_on)?);
        Some(QualityBy::Rule { rule, scorer, target })
    }

    fn target(&mut self, path: &str, target: TargetSpec) -> Option<EvalSource> {
        let source = match target {
            TargetSpec::Scenes { variant, samples } => {
                let variant = variant.unwrap_or_else(|| "iid".to_owned());
                if variant != "iid" && !SHIFTS.contains(&variant.as_str()) {
                    let known: Vec<&str> = std::iter::once("iid").chain(SHIFTS).collect();
                    let at = format!("{path}.target.variant");
                    let message = format!("`{at}`: found `{variant}`, expected one of {}", quoted_list(&known));
                    return self.problem(&at, message, None);
                }
                let samples = samples.map_or(SCENES_SAMPLES, |count| count.0);
                if samples == 0 {
                    let at = format!("{path}.target.samples");
                    return self.problem(&at, format!("`{at}`: found 0, expected 1 or more"), None);
                }
                let mut set = EvalSource::scenes(&variant, samples);
                if let DataSource::Scenes(world) = self.pool.source {
                    set.in_world(world);
                }
                set
            }
            TargetSpec::Folder { folder, split } => {
                EvalSource::Folder { path: folder.0, split: split.unwrap_or_else(|| "train".to_owned()) }
            }
        };
        let found = self.outside.files.eval_set(&source, EvalTask::Zeroshot);
        let at_file = |fault| Problem::of_file(Code::Data, &format!("{path}.target"), fault);
        self.problems.extend(found.faults.into_iter().map(at_file));
        Some(source)
    }

    fn scorer(&mut self, path: &str, file: &FilePath, seed: u64, trained_on: Option<TrainedOn>) -> Option<RunConfig> {
        let scorer = (self.outside.scorer)(&file.0, seed)?;
        let wrong = match trained_on {
            None => None,
            Some(TrainedOn::Pool) => {
                let is_pool = scorer.data.source == *self.pool.source && scorer.data.size == self.pool.size;
                (!is_pool).then_some(("pool", "the scorer's file states other data than the pool that it scores"))
            }
            Some(TrainedOn::Disjoint) => may_overlap(&scorer.data.source, self.pool.source).map(|why| ("disjoint", why)),
        };
        match wrong {
            None => Some(scorer),
            Some((stated, why)) => {
                let at = format!("{path}.trained_on");
                let message = format!("`{at}`: found `{stated}`, but {why}");
                self.problem(&at, message, Some("change `data.train` of the scorer's file, or leave `trained_on` out"))
            }
        }
    }
}

/// Why two sources may have samples in common; `None` where they have none by what they state.
fn may_overlap(one: &DataSource, other: &DataSource) -> Option<&'static str> {
    match (one, other) {
        (DataSource::Scenes(one), DataSource::Scenes(other)) => {
            (one.world_seed == other.world_seed).then_some("the scorer learns from the same world as the pool is of")
        }
        (DataSource::Webdataset { shards: one }, DataSource::Webdataset { shards: other }) => {
            one.iter().any(|shard| other.contains(shard)).then_some("the scorer learns from shards of the pool")
        }
        (DataSource::Table { file: one, .. }, DataSource::Table { file: other, .. }) => {
            (one == other).then_some("the scorer learns from the table of the pool")
        }
        (DataSource::Declared { .. }, DataSource::Declared { .. }) => Some("both are declared, and nothing says what they hold"),
        _ => None,
    }
}
