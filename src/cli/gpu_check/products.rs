//! The products that programs need: of the models that are timed whole, and of experiments.

use std::collections::HashMap;
use std::path::Path;

use super::models::{MODELS, configs};
use crate::cli::experiment::{STATED, load_spec};
use crate::error::Error;
use crate::run::{ModelConfig, TrainConfig};
use crate::trainer::TrainerError;
use crate::trainer::backend::cuda::shape::Shape;
use crate::trainer::backend::cuda::survey::products_of;
use crate::trainer::model::{Recipe, build_with};
use crate::trainer::ops::launch::Real;

/// Shapes in the order in which they were met, each with the programs that need it, and what could not be asked.
#[derive(Debug, Default)]
pub(super) struct Needed {
    pub(super) shapes: Vec<(Shape, Vec<String>)>,
    places: HashMap<Shape, usize>,
    pub(super) left_out: Vec<(String, String)>,
}

impl Needed {
    /// Those of every model that is timed and of every model and training of the experiments, in a compute type.
    pub(super) fn of(files: &[impl AsRef<Path>], real: Real) -> Result<Self, Error> {
        let mut needed = Self::default();
        for (name, text) in MODELS {
            let (model, train) = configs(text)?;
            needed.add(name, &model, &train, real)?;
        }
        for file in files {
            let name = file.as_ref().display().to_string();
            match load_spec(file.as_ref(), &[], STATED) {
                Err(error) => {
                    let why = error.to_string().lines().next().unwrap_or_default().to_owned();
                    needed.left_out.push((name, why));
                }
                Ok(spec) => {
                    let mut pairs: Vec<(u32, u32)> = spec.resolved.points.iter().map(|ids| (ids.model, ids.train)).collect();
                    pairs.sort_unstable();
                    pairs.dedup();
                    for (model, train) in pairs {
                        let (model, train) = (&spec.resolved.models[model as usize], &spec.resolved.trains[train as usize]);
                        needed.add(&name, model, train, real)?;
                    }
                }
            }
        }
        Ok(needed)
    }

    fn add(&mut self, name: &str, model: &ModelConfig, train: &TrainConfig, real: Real) -> Result<(), Error> {
        // A masked training may end with whole images.
        let mut shares = vec![train.strategy.masked];
        if train.masked_steps() < train.steps {
            shares.push(0.0);
        }
        for masked in shares {
            match products_of(&build_with(model, &Recipe::of(train, masked)), train, real) {
                Ok(shapes) => shapes.into_iter().for_each(|shape| self.note(shape, name)),
                Err(error @ (TrainerError::Unsupported { .. } | TrainerError::TooLarge { .. })) => {
                    let left_out = (format!("products of {name}"), error.to_string());
                    if !self.left_out.contains(&left_out) {
                        self.left_out.push(left_out);
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn note(&mut self, shape: Shape, name: &str) {
        let place = *self.places.entry(shape).or_insert(self.shapes.len());
        if place == self.shapes.len() {
            self.shapes.push((shape, Vec::new()));
        }
        let names = &mut self.shapes[place].1;
        if names.last().is_none_or(|last| last != name) {
            names.push(name.to_owned());
        }
    }
}
