//! The procedural world: images with captions that the program makes itself.
//!
//! Input: a world seed and a sample number. Output: a [`Scene`], which renders at any side. Invariants: sample i is a pure function
//! of (world seed, i), alone or among others; the same scene at every resolution; training and every evaluation variant draw
//! from streams that do not meet (`relabelled` shows the very images of `iid`).
//! Must not know: pools, packs beyond one sample.
//!
//! A sample shows one of [`difficulty::CLASSES`] kinds of thing ("striped red triangle"), some frequent and most rare, on a
//! background, perhaps with a smaller thing beside it. A share of the training samples have a fault of caption or image; the true
//! quality is kept as the fields `quality` and `fault`. Evaluation sets are clean and balanced over classes. The shares of faults and
//! shifts and the long tail are settings of [`ScenesConfig`]; everything else is in [`difficulty`].

mod captions;
pub mod difficulty;
mod faults;
mod finish;
mod layout;
mod paint;
mod shapes;
mod vocabulary;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::DataError;
use super::pack_writer::{PackedSample, Picture};
use super::philox::{Draws, Philox, Stream};
use crate::run::ScenesConfig;

use faults::Fault;
use layout::SceneLayout;
use vocabulary::{Classes, Kind};

/// Version of the world: part of every fingerprint. Raised whenever a scene's bytes or captions change.
pub const VERSION: u32 = 2;

/// First draws of a sample's parts, far enough apart never to meet.
const LAYOUT_DRAWS: u32 = 0;
const CAPTION_DRAWS: u32 = 1 << 10;
const FAULT_DRAWS: u32 = 2 << 10;
const SHIFT_DRAWS: u32 = 3 << 10;
const PAINT_DRAWS: u32 = 4 << 10;

/// Evaluation sets of the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Variant {
    /// As training, without faults.
    Iid,
    /// A fresh sample of a slightly different world, as ImageNet-V2.
    Fresh,
    /// Line drawings, as ImageNet-Sketch.
    Sketch,
    /// Other arts and palettes, as ImageNet-R.
    Rendition,
    /// Small, covered, faded, as ImageNet-A.
    Hard,
    /// Turned and foreshortened on new backgrounds, as ObjectNet.
    Viewpoint,
    /// The images of `iid` under other names, as ImageNet-ReaL.
    Relabelled,
    /// Other images, distributed as those of `iid`: what probes and few-shot classifiers are fitted on.
    Train,
}

impl Variant {
    /// All of them, `iid` first.
    pub const ALL: [Self; 8] =
        [Self::Iid, Self::Fresh, Self::Sketch, Self::Rendition, Self::Hard, Self::Viewpoint, Self::Relabelled, Self::Train];

    /// Name in experiment files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Iid => "iid",
            Self::Fresh => "fresh",
            Self::Sketch => "sketch",
            Self::Rendition => "rendition",
            Self::Hard => "hard",
            Self::Viewpoint => "viewpoint",
            Self::Relabelled => "relabelled",
            Self::Train => "train",
        }
    }

    /// Number of its stream of samples; 0 is training.
    fn stream(self) -> u32 {
        match self {
            Self::Iid | Self::Relabelled => 1,
            Self::Fresh => 2,
            Self::Sketch => 3,
            Self::Rendition => 4,
            Self::Hard => 5,
            Self::Viewpoint => 6,
            Self::Train => 7,
        }
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Variant {
    type Err = DataError;

    fn from_str(name: &str) -> Result<Self, DataError> {
        Self::ALL.into_iter().find(|variant| variant.name() == name).ok_or_else(|| DataError::NoSuchVariant {
            variant: name.to_owned(),
            known: Self::ALL.map(|variant| variant.name().to_owned()).to_vec(),
        })
    }
}

/// A world: its classes and its samples.
#[derive(Debug, Clone)]
pub struct World {
    classes: Classes,
    philox: Philox,
    faults: f32,
    shifts: f32,
}

/// One sample, not yet painted.
#[derive(Debug, Clone)]
pub struct Scene {
    /// Class, an index into the world's class names.
    pub label: u32,
    /// One caption in training, three in evaluation sets.
    pub captions: Vec<String>,
    /// True quality in \[0, 1\].
    pub quality: f64,
    fault: Fault,
    strength: f32,
    layout: SceneLayout,
    paint: Draws,
}

impl World {
    /// A world.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "shares")]
    pub fn new(config: &ScenesConfig) -> Self {
        let ScenesConfig { world_seed, faults, long_tail, shifts } = *config;
        Self {
            classes: Classes::new(world_seed, long_tail),
            philox: Philox::new(world_seed, Stream::Scenes),
            faults: faults as f32,
            shifts: shifts as f32,
        }
    }

    /// Names of the classes, most frequent first.
    #[must_use]
    pub fn classnames(&self) -> Vec<String> {
        (0..self.classes.len()).map(|class| self.classes.kind(class).name()).collect()
    }

    /// Names of the classes as a variant gives them: synonyms in `relabelled`.
    #[must_use]
    pub fn eval_classnames(&self, variant: Variant) -> Vec<String> {
        match variant {
            Variant::Relabelled => (0..self.classes.len()).map(|class| self.classes.kind(class).synonym()).collect(),
            _ => self.classnames(),
        }
    }

    /// Training sample i.
    #[must_use]
    pub fn training(&self, i: u64) -> Scene {
        let draws = self.philox.at(i, 0);
        let (class, mut layout) = self.training_layout(&draws);
        let kind = layout.main.kind;
        let mut fault_draws = draws.clone().from_draw(FAULT_DRAWS);
        let (fault, strength) = Fault::draw(self.faults, &mut fault_draws);
        let mut words = draws.clone().from_draw(CAPTION_DRAWS);
        let (caption, said) = match fault {
            Fault::Mismatched => {
                let (_, other) = self.training_layout(&self.philox.at(u64::from(fault_draws.word()), 0));
                (captions::caption(&other, other.main.kind, &mut words), other.main.kind)
            }
            Fault::Vague => (captions::vague(&layout, &mut words), kind),
            Fault::WrongAttribute => {
                let said = faults::wrong(kind, strength, &mut fault_draws);
                (captions::caption(&layout, said, &mut words), said)
            }
            _ => (captions::caption(&layout, kind, &mut words), kind),
        };
        if fault == Fault::Occluded {
            layout.bar = Some(layout::bar(&layout.main, 0.22 + 0.13 * strength, &mut fault_draws));
        }
        if fault == Fault::Faded {
            layout.contrast = 0.4 - 0.25 * strength;
        }
        let quality = fault.quality(strength, kind.shared(said), fault_draws.uniform());
        Scene { label: class, captions: vec![caption], quality, fault, strength, layout, paint: draws.from_draw(PAINT_DRAWS) }
    }

    /// Sample i of an evaluation variant; classes take turns.
    #[must_use]
    pub fn evaluation(&self, variant: Variant, i: u64) -> Scene {
        let draws = self.philox.at(i, variant.stream());
        let class = (i % self.classes.len() as u64) as u32;
        let kind: Kind = self.classes.kind(class as usize);
        let is_shifted = draws.clone().from_draw(SHIFT_DRAWS).uniform() < self.shifts;
        let shown = if is_shifted { variant } else { Variant::Iid };
        let layout = SceneLayout::evaluation(kind, shown, &mut draws.clone().from_draw(LAYOUT_DRAWS));
        let captions = captions::several(&layout, &mut draws.clone().from_draw(CAPTION_DRAWS));
        let paint = draws.from_draw(PAINT_DRAWS);
        Scene { label: class, captions, quality: 1.0, fault: Fault::None, strength: 0.0, layout, paint }
    }

    fn training_layout(&self, draws: &Draws) -> (u32, SceneLayout) {
        let mut draws = draws.clone().from_draw(LAYOUT_DRAWS);
        let class = self.classes.draw(&mut draws);
        (class as u32, SceneLayout::training(self.classes.kind(class), &mut draws))
    }
}

impl Scene {
    /// The image at side S. **Shapes**: \[S, S, 3\].
    #[must_use]
    pub fn render(&self, side: usize) -> Vec<u8> {
        let mut pixels = paint::paint(&self.layout, self.paint.clone(), side);
        finish::finish(&mut pixels, side, &self.layout, self.fault, self.strength, self.paint.clone());
        pixels
    }

    /// The sample as a pack takes it, with its fields `fault`, `quality` and `strength`.
    pub(super) fn pack(&self, side: usize) -> PackedSample {
        let fields = [("fault", f64::from(self.fault as u8)), ("quality", self.quality), ("strength", f64::from(self.strength))];
        PackedSample {
            image: Picture { width: side, pixels: self.render(side) },
            captions: self.captions.clone(),
            label: Some(self.label),
            fields: BTreeMap::from(fields.map(|(name, value)| (name.to_owned(), value))),
            name: None,
        }
    }
}

/// Templates of zero-shot prompts.
#[must_use]
pub fn templates() -> Vec<String> {
    captions::TEMPLATES.map(str::to_owned).to_vec()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn usual(world_seed: u64) -> World {
        World::new(&ScenesConfig::of_seed(world_seed))
    }

    #[test]
    fn a_sample_is_the_same_alone_and_among_others() {
        let all: Vec<(Vec<u8>, Vec<String>)> =
            (0..40).map(|i| usual(7).training(i)).map(|scene| (scene.render(32), scene.captions)).collect();
        let world = usual(7);
        for i in [39u64, 3, 17] {
            let scene = world.training(i);
            assert_eq!((scene.render(32), scene.captions.clone()), all[i as usize]);
            assert_eq!(scene.render(32), all[i as usize].0, "rendering twice");
        }
        assert_ne!(usual(8).training(3).render(32), all[3].0);
    }

    #[test]
    fn faults_and_shifts_are_as_many_as_asked_for_and_leave_the_rest_alone() {
        let with = |faults, shifts| World::new(&ScenesConfig { faults, shifts, ..ScenesConfig::of_seed(1) });
        for share in [0.0, 0.2, 1.0] {
            let world = with(share, share);
            let faulty = (0..2000).filter(|&i| world.training(i).fault != Fault::None).count();
            assert!((faulty as f64 - 2000.0 * share).abs() <= 60.0, "{faulty} of 2000 at {share}");
            let plain = |i| world.evaluation(Variant::Hard, i).layout.contrast == 1.0;
            let shifted = (0..500).filter(|&i| !plain(i)).count();
            assert!((shifted as f64 - 500.0 * share).abs() <= 30.0, "{shifted} of 500 at {share}");
        }
        // A sample that is faulty with fewer faults is with more, and in what it shows it is the same sample.
        let (few, many) = (with(0.2, 1.0), with(0.5, 1.0));
        for i in 0..500 {
            let (few, many) = (few.training(i), many.training(i));
            assert!(few.fault == Fault::None || many.fault != Fault::None);
            assert_eq!((few.label, few.layout.main), (many.label, many.layout.main));
        }
        let iid = |i| with(0.3, 0.5).evaluation(Variant::Iid, i).render(16);
        assert!((0..40).all(|i| iid(i) == usual(1).evaluation(Variant::Iid, i).render(16)));
    }

    #[test]
    fn variants_parse_and_do_not_share_images_but_for_relabelled() {
        let world = usual(1);
        for variant in Variant::ALL {
            assert_eq!(variant.name().parse::<Variant>().unwrap(), variant);
            let is_iid = world.evaluation(variant, 5).render(32) == world.evaluation(Variant::Iid, 5).render(32);
            assert_eq!(is_iid, matches!(variant, Variant::Iid | Variant::Relabelled), "{variant}");
        }
        let error = "photo".parse::<Variant>().unwrap_err().to_string();
        assert!(error.starts_with("unknown variant `photo` of scenes, expected one of `iid`, `fresh`"), "{error}");
        assert_ne!(world.eval_classnames(Variant::Relabelled), world.classnames());
    }

    #[test]
    fn evaluation_sets_are_balanced_and_have_three_different_captions() {
        let world = usual(1);
        let classes = world.classnames().len() as u64;
        for i in 0..2 * classes {
            let scene = world.evaluation(Variant::Fresh, i);
            assert_eq!(u64::from(scene.label), i % classes);
            assert!(scene.captions.len() == 3 && scene.captions[0] != scene.captions[1] && scene.captions[1] != scene.captions[2]);
            assert!(scene.captions.iter().all(|caption| caption.contains(&world.classnames()[scene.label as usize])));
        }
    }

    #[test]
    fn captions_of_clean_samples_name_their_class_or_its_synonym() {
        let world = usual(1);
        let names = world.classnames();
        let clean: Vec<Scene> = (0..2000).map(|i| world.training(i)).filter(|scene| scene.fault == Fault::None).collect();
        let exact = clean.iter().filter(|scene| scene.captions[0].contains(&names[scene.label as usize])).count();
        assert!(clean.len() > 1100 && exact * 10 > clean.len() * 5, "{exact} of {}", clean.len());
    }
}
