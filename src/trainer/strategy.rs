//! Strategies: what a step sees of each sample, and which of them this build can train.

use super::TrainerError;
use super::backend::cuda;
use super::model::{Recipe, build_with};
use super::program::Program;
use crate::data::{Philox, Stream};
use crate::run::{DeviceKind, Precision, RunConfig};

/// Refuses what no backend here can train, before any work is done.
///
/// # Errors
/// [`TrainerError::Unsupported`] with what and what to do instead.
pub fn check_support(config: &RunConfig) -> Result<(), TrainerError> {
    let device = match config.device {
        DeviceKind::Cpu => "the CPU",
        DeviceKind::Cuda => "a GPU",
    };
    let refuse = |what: &str, hint: &str| Err(TrainerError::Unsupported { what: what.into(), device, hint: hint.into() });
    if config.device == DeviceKind::Cpu && config.precision != Precision::F32 {
        return refuse("a run in reduced precision", "the CPU trains in f32");
    }
    if config.device == DeviceKind::Cuda {
        cuda::check_program(&build_with(&config.model, &Recipe::of(&config.train, config.train.strategy.masked)))?;
    }
    Ok(())
}

/// Draws the kept patches of every view of every image of a batch.
pub struct PatchMask {
    philox: Philox,
    patches: usize,
    kept: usize,
    views: usize,
}

impl PatchMask {
    /// The masking of a program's images with a run's seed; `None` where nothing is masked.
    #[must_use]
    pub fn new(program: &Program, seed: u64) -> Option<Self> {
        let (patches, kept) = program.kept_patches()?;
        Some(Self { philox: Philox::new(seed, Stream::Mask), patches, kept, views: program.views() })
    }

    /// Kept patch indices [V, B, kept], ascending: for each image the `kept` smallest of (draw, patch index).
    #[expect(clippy::cast_possible_truncation, reason = "an image has fewer than 2^31 patches, a batch few views")]
    pub fn fill(&self, step: u64, samples: usize, keep: &mut Vec<u32>) {
        keep.clear();
        let mut draws: Vec<(u32, u32)> = Vec::with_capacity(self.patches);
        for (view, sample) in (0..self.views as u32).flat_map(|view| (0_u32..).take(samples).map(move |sample| (view, sample))) {
            // Draws of the views of one image follow one another.
            let mut words = self.philox.at(step, sample).from_draw(view * self.patches as u32);
            draws.clear();
            draws.extend((0_u32..).take(self.patches).map(|patch| (words.word(), patch)));
            if self.kept < draws.len() {
                draws.select_nth_unstable(self.kept - 1);
            }
            let start = keep.len();
            keep.extend(draws[..self.kept].iter().map(|(_, patch)| *patch));
            keep[start..].sort_unstable();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::{ImageEncoderConfig, ModelConfig, Pooling};
    use crate::trainer::model::build;
    use crate::trainer::tests::tiny_model;

    #[test]
    fn a_mask_keeps_a_fresh_ascending_set_for_each_sample_and_step() {
        let mask = PatchMask::new(&build(&tiny_model(Pooling::Mean), 0.5), 3).expect("something is masked");
        let (mut first, mut second, mut again) = (Vec::new(), Vec::new(), Vec::new());
        mask.fill(0, 64, &mut first);
        mask.fill(1, 64, &mut second);
        mask.fill(0, 64, &mut again);
        assert_eq!(first, again);
        assert_ne!(first, second);
        let mut counts = [0; 9];
        for set in first.chunks(4) {
            assert!(set.windows(2).all(|pair| pair[0] < pair[1]), "{set:?}");
            set.iter().for_each(|patch| counts[*patch as usize] += 1);
        }
        assert!(counts.iter().all(|count| (10..50).contains(count)), "every patch is kept about 28 times: {counts:?}");
    }

    #[test]
    fn every_view_has_a_mask_of_its_own_and_the_first_is_that_of_one_view() {
        let program = build(&tiny_model(Pooling::Mean), 0.5);
        let one = PatchMask::new(&program, 3).expect("something is masked");
        let three = PatchMask { views: 3, ..PatchMask::new(&program, 3).expect("something is masked") };
        let (mut single, mut several) = (Vec::new(), Vec::new());
        one.fill(5, 64, &mut single);
        three.fill(5, 64, &mut several);
        let views: Vec<&[u32]> = several.chunks(single.len()).collect();
        assert_eq!(views.len(), 3);
        assert_eq!(views[0], single);
        assert!(views[1] != views[0] && views[2] != views[0] && views[2] != views[1]);
    }

    #[test]
    fn a_call_beyond_the_kernels_is_refused_by_name_with_its_limit_and_a_way_out() {
        let refused = |change: &dyn Fn(&mut ModelConfig)| {
            let mut model = tiny_model(Pooling::Mean);
            change(&mut model);
            cuda::check_program(&build(&model, 0.0)).err().map(|error| match error {
                TrainerError::Unsupported { ref hint, .. } => (error.to_string(), hint.clone()),
                error => panic!("{error}"),
            })
        };
        assert!(refused(&|_| {}).is_none());
        let (message, hint) = refused(&|model| model.text_encoder.width = 4096).expect("it is too wide");
        assert_eq!(message, "`text.block0` (4096 channels of a layer norm, at most 2048) cannot be trained yet on a GPU");
        assert!(hint.contains("--device cpu"), "{hint}");
        let (message, _) = refused(&|model| {
            let ImageEncoderConfig::Vit(vit) = &mut model.image_encoder else { panic!("a ViT") };
            (vit.width, vit.heads) = (512, 2);
        })
        .expect("its heads are too wide");
        assert_eq!(message, "`image.block0` (256 channels of a head, at most 128) cannot be trained yet on a GPU");
    }

    #[test]
    fn nothing_masked_is_no_mask() {
        assert!(PatchMask::new(&build(&tiny_model(Pooling::Mean), 0.0), 3).is_none());
        // A share that leaves out less than a patch.
        assert!(PatchMask::new(&build(&tiny_model(Pooling::Mean), 1e-16), 3).is_none());
    }
}
