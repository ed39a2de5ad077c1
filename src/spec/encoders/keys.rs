//! What encoders of every family ask of their keys: stated, known by the size's name, or missing; within limits.

use super::super::diagnostic::{Code, nearest, quoted_list};
use super::super::problem::Problem;
use super::super::scalar::{Count, Quantity, size};
use crate::run::counted;

/// What a number may be at most, so that a plan takes seconds; the largest models known are far below.
pub(super) mod most {
    pub const WIDTH: usize = 1 << 15;
    pub const MLP_WIDTH: usize = 1 << 17;
    pub const LAYERS: usize = 1 << 9;
    pub const HEADS: usize = 1 << 10;
    pub const STAGES: usize = 8;
    /// Channels of the first stage.
    pub const STAGE_WIDTH: usize = 1 << 12;
    pub const STRIDE: usize = 64;
    pub const KERNEL: usize = 31;
    pub const WINDOW: usize = 1 << 8;
    /// Samples of a group of batch norm.
    pub const BN_GROUP: usize = 1 << 20;
    /// Side of an image, pixels.
    pub const IMAGE_SIZE: usize = 1 << 12;
    /// Tokens of an image.
    pub const PATCHES: usize = 1 << 16;
}

/// The MLP's hidden channels over the width unless stated. **Source** ViT (Dosovitskiy et al. 2021), CLIP.
const MLP_RATIO: f64 = 4.0;

/// Sides of the images that sizes in millions of multiply-accumulates are made for, pixels.
const SMALL_IMAGES: [usize; 2] = [32, 64];

/// Where the patch size of a named size comes from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Patch {
    /// It is stated beside the name.
    Stated,
    /// From the image, which has 4 x 4 patches.
    OfImage,
}

impl Patch {
    /// What an example of a name ends in.
    pub fn example(self, stated: &'static str) -> &'static str {
        match self {
            Self::Stated => stated,
            Self::OfImage => "",
        }
    }
}

/// Where an encoder stands in the file, and what was found wrong with it.
pub(super) struct Keys<'a> {
    /// Its key path.
    pub path: &'static str,
    pub problems: &'a mut Vec<Problem>,
}

impl Keys<'_> {
    pub fn push(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// A problem of the encoder as a whole; `says` follows its path.
    pub fn refuse(&mut self, says: &str, hint: impl Into<String>) {
        let Self { path, .. } = *self;
        self.push(Problem::new(Code::Model, path, format!("`{path}`: {says}")).hint(hint));
    }

    /// A problem of one of its keys.
    pub fn refuse_key(&mut self, key: &str, says: &str, hint: impl Into<String>) {
        let path = format!("{}.{key}", self.path);
        let message = format!("`{path}`: {says}");
        self.push(Problem::new(Code::Model, path, message).hint(hint));
    }

    /// The number of a key: as stated, else as the named size has it.
    pub fn count(&mut self, key: &str, stated: Option<Count>, known: Option<usize>, most: usize) -> Option<usize> {
        match stated.map(size).or(known) {
            Some(value) => self.within(key, value, most).then_some(value),
            None => {
                self.missing(key, "a whole number");
                None
            }
        }
    }

    /// The numbers of a key, one a stage: as stated, else as the named size has them.
    pub fn counts(&mut self, key: &str, stated: Option<Vec<Count>>, known: Option<&[usize]>, most: usize) -> Option<Vec<usize>> {
        let stated: Option<Vec<usize>> = stated.map(|list| list.into_iter().map(size).collect());
        let Some(values) = stated.or_else(|| known.map(<[usize]>::to_vec)) else {
            self.missing(key, "a list of whole numbers, one a stage");
            return None;
        };
        if !(1..=most::STAGES).contains(&values.len()) {
            let says = format!("found {}, expected from 1 to {}", counted(values.len(), "stage"), most::STAGES);
            self.refuse_key(key, &says, "state one number a stage");
            return None;
        }
        values.iter().all(|value| self.within(key, *value, most)).then_some(values)
    }

    /// What a named size takes from the image: the side of one of `across` parts of it, pixels.
    pub fn of_image(&mut self, name: &str, key: &str, image_size: usize, across: usize) -> Option<usize> {
        if SMALL_IMAGES.contains(&image_size) {
            return Some(image_size / across);
        }
        let [small, large] = SMALL_IMAGES;
        let says = format!("`{name}` knows its `{key}` for images of {small} and {large} pixels, found {image_size}");
        self.refuse(&says, format!("state `{key}`"));
        None
    }

    /// The patch size: as stated, else as it stands in the name, else as the size has it.
    pub fn patch_size(&mut self, name: &str, stated: Option<usize>, known: Option<Patch>, image_size: usize) -> Option<usize> {
        let named = self.named_patch(name)?;
        match (stated.or(named), known) {
            (Some(patch_size), _) => Some(patch_size),
            (None, Some(Patch::OfImage)) => self.of_image(name, "patch_size", image_size, 4),
            (None, Some(Patch::Stated) | None) => {
                let hint = format!("write `{name}/16`, or `patch_size: 16`");
                self.refuse(&format!("`{name}` states no patch size"), hint);
                None
            }
        }
    }

    /// Reports a key that neither the file nor the name states.
    pub fn missing(&mut self, key: &str, expected: &str) {
        let Self { path, .. } = *self;
        let message = format!("missing key `{key}` in `{path}`, expected {expected}");
        self.push(Problem::new(Code::MissingKey, path, message).hint("or name a known size"));
    }

    fn within(&mut self, key: &str, value: usize, most: usize) -> bool {
        let is_within = (1..=most).contains(&value);
        if !is_within {
            let path = format!("{}.{key}", self.path);
            let message = format!("`{path}`: found {value}, expected from 1 to {most}");
            self.push(Problem::new(Code::Model, path, message));
        }
        is_within
    }

    /// What norms add to the variance: as stated, else as the family has it; above 0.
    pub fn norm_eps(&mut self, stated: Option<Quantity>, default: f64) -> Option<f64> {
        let eps = stated.map_or(default, |q| q.0);
        let is_small = eps > 0.0 && eps < 1.0;
        if !is_small {
            let says = format!("found {eps}, expected a number above 0 and below 1");
            self.refuse_key("norm_eps", &says, format!("for example {default:e}"));
        }
        is_small.then_some(eps)
    }

    /// Hidden channels of an MLP, from its ratio to the width; above `most::MLP_WIDTH` or not whole it is a problem.
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "widths below 2^20")]
    pub fn mlp_width(&mut self, width: usize, ratio: Option<Quantity>) -> Option<usize> {
        let ratio = ratio.map_or(MLP_RATIO, |r| r.0);
        let mlp_width = width as f64 * ratio;
        if mlp_width.fract() == 0.0 && (1.0..=most::MLP_WIDTH as f64).contains(&mlp_width) {
            return Some(mlp_width as usize);
        }
        let path = format!("{}.mlp_ratio", self.path);
        let message = format!(
            "`{path}`: {ratio} times width {width} is {mlp_width}, expected a whole number of channels from 1 to {}",
            most::MLP_WIDTH
        );
        self.push(Problem::new(Code::Model, path, message));
        None
    }

    /// The size that a name states; `Some(None)` where it is the family's name alone, `None` where the size is not known.
    #[expect(clippy::option_option, reason = "a name without a size is no problem, an unknown one is")]
    pub fn known<'s, S>(&mut self, name: &str, family: &str, sizes: &'s [(&str, S)]) -> Option<Option<&'s S>> {
        if name == family {
            return Some(None);
        }
        let found = name.strip_prefix(family).and_then(|rest| rest.strip_prefix('-')).unwrap_or(name);
        if let Some((_, size)) = sizes.iter().find(|(size, _)| *size == found) {
            return Some(Some(size));
        }
        let full: Vec<String> = sizes.iter().map(|(size, _)| format!("{family}-{size}")).collect();
        let (path, list) = (self.path, quoted_list(&full));
        let message = format!("`{path}`: unknown encoder `{name}`, expected one of {list}, or `{family}` with its shape");
        let mut problem = Problem::new(Code::Model, path, message);
        problem.hint = nearest(name, full.iter().map(String::as_str)).map(|n| format!("did you mean `{n}`?"));
        self.push(problem);
        None
    }

    /// The patch size of a name such as `vit-ti/8`; `Some(None)` where it states none, `None` where what it states is none.
    #[expect(clippy::option_option, reason = "a name without a patch size is no problem, another word in its place is")]
    fn named_patch(&mut self, name: &str) -> Option<Option<usize>> {
        let Some((base, patch)) = name.split_once('/') else { return Some(None) };
        let found = patch.parse::<usize>().ok().filter(|patch| *patch > 0);
        if found.is_none() {
            self.refuse(&format!("found `{name}`, expected a patch size in pixels after `/`"), format!("for example `{base}/16`"));
        }
        found.map(Some)
    }

    /// Checks that patches divide the image, and that they are not too many.
    pub fn divides(&mut self, patch_size: usize, image_size: usize) -> bool {
        if patch_size == 0 || !image_size.is_multiple_of(patch_size) || patch_size > image_size {
            let known = divisors(image_size, 2..=64);
            let says = format!("patches of {patch_size} do not divide images of {image_size} x {image_size}");
            self.refuse(&says, format!("images of {image_size} take patches of {known}"));
            return false;
        }
        let patches = (image_size.min(most::IMAGE_SIZE) / patch_size).pow(2);
        if patches > most::PATCHES && image_size <= most::IMAGE_SIZE {
            let says = format!(
                "an image of {image_size} x {image_size} has {patches} patches of {patch_size}, expected at most {}",
                most::PATCHES
            );
            self.refuse(&says, "use larger patches, or smaller images");
            return false;
        }
        true
    }
}

/// The divisors of a number within a range, as they are listed in hints.
pub(super) fn divisors(of: usize, range: std::ops::RangeInclusive<usize>) -> String {
    let found: Vec<String> = range.take_while(|n| *n <= of).filter(|n| of.is_multiple_of(*n)).map(|n| n.to_string()).collect();
    found.join(", ")
}
