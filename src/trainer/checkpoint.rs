//! Checkpoints: where a killed run goes on, and the finished model that other tools read.
//!
//! A checkpoint is one file: the digest of the rest, then a safetensors buffer. It is written beside and renamed in, and the
//! one before it is kept, so a kill at any byte leaves a good one. Invariant: a checkpoint whose digest or run does not fit is
//! never loaded, and never passed over without a word. Files have the mode that the umask gives.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use super::TrainerError;
use super::ops::op::whole::{self, StateView};
use super::program::{ParamView, Program};
use crate::run::CurvePoint;

/// Bytes of the digest at the head of a checkpoint.
const DIGEST: usize = 32;

/// Everything a run needs to go on.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// What the run is: a digest of its whole job; another run's checkpoint is not loaded.
    pub run: String,
    /// Steps done.
    pub step: u64,
    /// Flat parameters.
    pub parameters: Vec<f32>,
    /// Running statistics; empty where the model keeps none.
    pub state: Vec<f32>,
    /// Named optimiser buffers.
    pub optimizer: Vec<(String, Vec<f32>)>,
    /// The loss curve so far.
    pub curve: Vec<CurvePoint>,
}

/// What a folder of checkpoints holds for a run.
#[derive(Debug)]
pub struct Newest {
    /// The newest good checkpoint.
    pub found: Option<Checkpoint>,
    /// Why newer ones cannot be used, newest first.
    pub passed_over: Vec<TrainerError>,
}

impl Checkpoint {
    /// As a file: its digest, then the rest.
    fn bytes(&self, folder: &Path) -> Result<([u8; DIGEST], Vec<u8>), TrainerError> {
        let buffers = self.optimizer.iter().map(|(name, values)| (format!("optimizer.{name}"), values));
        let state = (!self.state.is_empty()).then_some(("state".to_string(), &self.state));
        let own = std::iter::once(("parameters".to_string(), &self.parameters)).chain(state);
        let buffers: Vec<_> = own.chain(buffers).collect();
        let bytes: Vec<(String, &[u8])> = buffers.into_iter().map(|(name, values)| (name, bytemuck::cast_slice(values))).collect();
        let views = bytes.iter().map(|(name, bytes)| Ok((name.as_str(), view(&[bytes.len() / 4], bytes, folder)?)));
        let views = views.collect::<Result<Vec<_>, TrainerError>>()?;
        let curve = serde_json::to_string(&self.curve).expect("curve points are plain numbers");
        let meta = [("run", self.run.clone()), ("step", self.step.to_string()), ("curve", curve)];
        let meta: HashMap<String, String> = meta.into_iter().map(|(key, value)| (key.to_string(), value)).collect();
        let body = safetensors::serialize(views, Some(meta)).map_err(|error| broken(folder, &error))?;
        Ok((*blake3::hash(&body).as_bytes(), body))
    }

    /// Writes `checkpoint-<step>` into a folder and removes all but this and the one before it.
    ///
    /// # Errors
    /// If the folder cannot be written; the earlier checkpoints are untouched then.
    pub fn save(&self, folder: &Path) -> Result<(), TrainerError> {
        fs::create_dir_all(folder).map_err(|source| io("create", folder, source))?;
        let (digest, body) = self.bytes(folder)?;
        write_beside(&folder.join(format!("checkpoint-{:012}", self.step)), &[&digest, &body])?;
        let existing = list(folder)?;
        for old in existing.iter().rev().skip(2) {
            fs::remove_file(old).map_err(|source| io("remove", old, source))?;
        }
        Ok(())
    }

    /// The newest good checkpoint of a run in a folder, and why newer ones were passed over. Weights that were to be `kept` after steps
    /// up to its own must be there too: a run that goes on from it makes none of them again.
    ///
    /// # Errors
    /// If the folder exists and cannot be read.
    pub fn load_newest(folder: &Path, run: &str, kept: &[u64]) -> Result<Newest, TrainerError> {
        let mut passed_over = Vec::new();
        for path in list(folder)?.into_iter().rev() {
            match Self::load(&path) {
                Ok(found) if found.run == run => {
                    let lacks = |step: &u64| Weights::load_kept(folder, run, *step).err();
                    match kept.iter().filter(|step| **step <= found.step).find_map(lacks) {
                        None => return Ok(Newest { found: Some(found), passed_over }),
                        Some(error) => passed_over.push(error),
                    }
                }
                Ok(found) => passed_over.push(broken(&path, &format!("it is of another run, {}", found.run))),
                Err(error) => passed_over.push(error),
            }
        }
        Ok(Newest { found: None, passed_over })
    }

    fn load(path: &Path) -> Result<Self, TrainerError> {
        let bytes = fs::read(path).map_err(|source| io("read", path, source))?;
        let (digest, body) = bytes.split_at_checked(DIGEST).ok_or_else(|| broken(path, &"shorter than its digest"))?;
        if blake3::hash(body).as_bytes() != digest {
            return Err(broken(path, &"its digest does not match: the file is damaged"));
        }
        let (_, metadata) = SafeTensors::read_metadata(body).map_err(|error| broken(path, &error))?;
        let meta = metadata.metadata().clone().unwrap_or_default();
        let field = |name: &str| meta.get(name).ok_or_else(|| broken(path, &format!("no `{name}` in its header")));
        let tensors = SafeTensors::deserialize(body).map_err(|error| broken(path, &error))?;
        let mut optimizer = Vec::new();
        let (mut parameters, mut state) = (Vec::new(), Vec::new());
        for (name, tensor) in tensors.iter() {
            let values = bytemuck::pod_collect_to_vec(tensor.data());
            match (name, name.strip_prefix("optimizer.")) {
                (_, Some(name)) => optimizer.push((name.to_string(), values)),
                ("parameters", _) => parameters = values,
                ("state", _) => state = values,
                _ => return Err(broken(path, &format!("tensor `{name}` is none of a checkpoint's"))),
            }
        }
        optimizer.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(Self {
            run: field("run")?.clone(),
            step: field("step")?.parse().map_err(|error| broken(path, &error))?,
            parameters,
            state,
            optimizer,
            curve: serde_json::from_str(field("curve")?).map_err(|error| broken(path, &error))?,
        })
    }
}

/// Checkpoints of a folder, oldest first; none where there is no folder.
fn list(folder: &Path) -> Result<Vec<PathBuf>, TrainerError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(io("read", folder, source)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(|source| io("read", folder, source))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.strip_prefix("checkpoint-").is_some_and(|step| step.bytes().all(|byte| byte.is_ascii_digit())) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// What a model file holds, flat; shapes and names are the program's.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Weights {
    /// Parameters.
    pub parameters: Vec<f32>,
    /// Running statistics; empty where the program keeps none.
    pub state: Vec<f32>,
}

impl Weights {
    /// Those of a program whose parameters and state are the first ones of these: the head of a self-supervised loss comes last, and is
    /// of no use to an evaluation.
    #[must_use]
    pub fn of_first(mut self, program: &Program) -> Self {
        self.parameters.truncate(program.num_params());
        self.state.truncate(program.state.last().map_or(0, |view| view.range().end));
        self
    }

    /// Writes the weights of a run after `step` steps into its folder of checkpoints, beside them.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn keep(self, folder: &Path, run: &str, step: u64) -> Result<(), TrainerError> {
        fs::create_dir_all(folder).map_err(|source| io("create", folder, source))?;
        let Self { parameters, state } = self;
        let kept = Checkpoint { run: run.to_owned(), step, parameters, state, optimizer: Vec::new(), curve: Vec::new() };
        let (digest, body) = kept.bytes(folder)?;
        write_beside(&kept_path(folder, step), &[&digest, &body])
    }

    /// Reads what [`Self::keep`] wrote.
    ///
    /// # Errors
    /// If it is not there, damaged, or of another run or step.
    pub fn load_kept(folder: &Path, run: &str, step: u64) -> Result<Self, TrainerError> {
        let path = kept_path(folder, step);
        let Checkpoint { run: found, step: at, parameters, state, optimizer: _, curve: _ } = Checkpoint::load(&path)?;
        match (found == run, at == step) {
            (true, true) => Ok(Self { parameters, state }),
            (false, _) => Err(broken(&path, &format!("it is of another run, {found}"))),
            (_, false) => Err(broken(&path, &format!("it holds the weights after step {at}"))),
        }
    }
}

/// Where weights after a step are kept.
fn kept_path(folder: &Path, step: u64) -> PathBuf {
    folder.join(format!("weights-{step:012}"))
}

/// Writes the trained parameters, each under its name in the program, and running statistics under theirs with the `steps` that moved
/// them as `num_batches_tracked`, as `PyTorch` has it.
///
/// With a class token these are the names and shapes of `open_clip`'s `CLIP` class, which loads the file as a state dict where its
/// config says the same: `no_ln_pre` where `pre_norm` is false, `quick_gelu` or `act_kwargs` for the activation,
/// `init_logit_bias` for the sigmoid loss. With mean pooling there is no class token: `visual.class_embedding` is not there and
/// `visual.positional_embedding` has a row a patch and none for it, which no config of `open_clip` has; the other names are the
/// same.
///
/// # Errors
/// If the file cannot be written.
pub fn save_model(path: &Path, program: &Program, weights: &Weights, steps: u64) -> Result<(), TrainerError> {
    let values = |param: &ParamView| param.to_exported(&weights.parameters[param.range()]);
    let params = program.params.iter().map(|param| (param.name.clone(), param.shape.clone(), values(param)));
    let state = |view: &StateView| Cow::Borrowed(&weights.state[view.range()]);
    let state = program.state.iter().map(|view| (view.name.clone(), vec![view.len], state(view)));
    let tensors: Vec<(String, Vec<usize>, Cow<[f32]>)> = params.chain(state).collect();
    let floats =
        tensors.iter().map(|(name, shape, values)| Ok((name.clone(), view(shape, bytemuck::cast_slice(values.as_ref()), path)?)));
    let steps = i64::try_from(steps).unwrap_or(i64::MAX).to_le_bytes();
    let counted = program.state.iter().filter_map(|view| view.name.strip_suffix(".running_mean"));
    let counts = counted.map(|norm| {
        let count = TensorView::new(Dtype::I64, Vec::new(), &steps).map_err(|error| broken(path, &error))?;
        Ok((format!("{norm}.num_batches_tracked"), count))
    });
    let views = floats.chain(counts).collect::<Result<Vec<_>, TrainerError>>()?;
    let body = safetensors::serialize(views, None).map_err(|error| broken(path, &error))?;
    write_beside(path, &[&body])
}

/// Reads a model file into the flat buffers of a program; tensors that the program does not name are left alone.
///
/// # Errors
/// If the file cannot be read, or a tensor is missing or has another shape.
pub fn load_model(path: &Path, program: &Program) -> Result<Weights, TrainerError> {
    let bytes = fs::read(path).map_err(|source| io("read", path, source))?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(|error| broken(path, &error))?;
    let read = |name: &str, shape: &[usize]| {
        let tensor = tensors.tensor(name).map_err(|error| broken(path, &format!("tensor `{name}`: {error}")))?;
        if tensor.shape() != shape || tensor.dtype() != Dtype::F32 {
            let found = format!("{:?} {:?}", tensor.dtype(), tensor.shape());
            return Err(broken(path, &format!("tensor `{name}` is {found}, the model has F32 {shape:?}")));
        }
        Ok(bytemuck::pod_collect_to_vec::<u8, f32>(tensor.data()))
    };
    let mut weights = Weights { parameters: vec![0.0; program.num_params()], state: whole::initial(&program.state) };
    for param in &program.params {
        let values = param.from_exported(read(&param.name, &param.shape)?);
        weights.parameters[param.range()].copy_from_slice(&values);
    }
    for view in &program.state {
        weights.state[view.range()].copy_from_slice(&read(&view.name, &[view.len])?);
    }
    Ok(weights)
}

fn view<'a>(shape: &[usize], bytes: &'a [u8], path: &Path) -> Result<TensorView<'a>, TrainerError> {
    TensorView::new(Dtype::F32, shape.to_vec(), bytes).map_err(|error| broken(path, &error))
}

/// A new file under an unforeseeable name; its mode is what the umask leaves, as that of any other file, where `tempfile` would
/// keep it from everybody else.
fn beside() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    builder
}

fn write_beside(path: &Path, parts: &[&[u8]]) -> Result<(), TrainerError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = beside().tempfile_in(folder).map_err(|source| io("write into", folder, source))?;
    for part in parts {
        file.write_all(part).map_err(|source| io("write", path, source))?;
    }
    file.as_file().sync_all().map_err(|source| io("sync", path, source))?;
    file.persist(path).map_err(|error| io("rename into", path, error.error))?;
    Ok(())
}

fn io(operation: &'static str, path: &Path, source: std::io::Error) -> TrainerError {
    TrainerError::Io { operation, path: path.to_path_buf(), source }
}

fn broken(path: &Path, reason: &dyn std::fmt::Display) -> TrainerError {
    TrainerError::Checkpoint { path: path.to_path_buf(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::run::Pooling;
    use crate::trainer::model::{build, initial_parameters};
    use crate::trainer::tests::tiny_model;

    fn checkpoint(step: u64) -> Checkpoint {
        let terms = [("contrastive".to_owned(), 0.1), ("nt_xent".to_owned(), 0.2)].into();
        let (loss, grad_norm) = (0.1 + 0.2, 1.0 / 3.0);
        let curve = vec![CurvePoint { step: 1, samples_seen: 8, loss, terms, lr: 1e-3, logit_scale: 14.3, grad_norm }];
        let optimizer = vec![("first_moment".into(), vec![0.5; 3]), ("second_moment".into(), vec![f32::MIN_POSITIVE])];
        Checkpoint { run: "abc".into(), step, parameters: vec![1.0, -2.5, 0.1], state: vec![0.25], optimizer, curve }
    }

    #[test]
    fn a_checkpoint_comes_back_exactly_and_two_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        for step in [3, 20, 100] {
            checkpoint(step).save(folder.path()).unwrap();
        }
        let Newest { found, passed_over } = Checkpoint::load_newest(folder.path(), "abc", &[]).unwrap();
        assert_eq!((found, passed_over.len()), (Some(checkpoint(100)), 0));
        assert_eq!(list(folder.path()).unwrap().len(), 2);
        let Newest { found, passed_over } = Checkpoint::load_newest(folder.path(), "another run", &[]).unwrap();
        assert_eq!((found, passed_over.len()), (None, 2));
        assert!(passed_over[0].to_string().contains("of another run, abc"), "{}", passed_over[0]);
    }

    #[test]
    fn a_truncated_or_altered_checkpoint_falls_back_to_the_one_before() {
        for damage in [0, 10, 200] {
            let folder = tempfile::tempdir().unwrap();
            checkpoint(1).save(folder.path()).unwrap();
            checkpoint(2).save(folder.path()).unwrap();
            let newest = list(folder.path()).unwrap().pop().unwrap();
            let mut bytes = fs::read(&newest).unwrap();
            if damage == 200 {
                bytes[100] ^= 1;
            } else {
                bytes.truncate(damage);
            }
            fs::write(&newest, bytes).unwrap();
            let Newest { found, passed_over } = Checkpoint::load_newest(folder.path(), "abc", &[]).unwrap();
            assert_eq!(found.unwrap().step, 1);
            let said: Vec<String> = passed_over.iter().map(ToString::to_string).collect();
            assert!(said.len() == 1 && said[0].contains("checkpoint-000000000002"), "{said:?}");
        }
    }

    #[test]
    fn a_model_file_round_trips_and_refuses_another_model() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let program = build(&tiny_model(Pooling::ClassToken), 0.0);
        let weights = Weights { parameters: initial_parameters(&program, 7), ..Weights::default() };
        save_model(&path, &program, &weights, 3).unwrap();
        assert_eq!(load_model(&path, &program).unwrap(), weights);
        let error = load_model(&path, &build(&crate::run::ModelConfig { embed_dim: 9, ..tiny_model(Pooling::ClassToken) }, 0.0));
        let message = error.unwrap_err().to_string();
        assert!(message.contains("`visual.proj`") && message.contains("[20, 9]"), "{message}");
    }

    #[test]
    fn a_checkpoint_that_stands_after_lost_or_damaged_weights_of_a_milestone_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let weights = |value| Weights { parameters: vec![value; 3], state: vec![0.5] };
        weights(1.0).keep(folder.path(), "abc", 10).unwrap();
        checkpoint(10).save(folder.path()).unwrap();
        weights(2.0).keep(folder.path(), "abc", 20).unwrap();
        checkpoint(25).save(folder.path()).unwrap();
        let newest = || Checkpoint::load_newest(folder.path(), "abc", &[10, 20, 30]).unwrap();
        assert_eq!(newest().found.unwrap().step, 25);
        assert_eq!(Weights::load_kept(folder.path(), "abc", 20).unwrap(), weights(2.0));
        assert!(Weights::load_kept(folder.path(), "abc", 30).is_err(), "nothing was kept there");
        let other = Weights::load_kept(folder.path(), "another run", 20).unwrap_err().to_string();
        assert!(other.contains("of another run, abc"), "{other}");

        let mut bytes = fs::read(kept_path(folder.path(), 20)).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(kept_path(folder.path(), 20), bytes).unwrap();
        let Newest { found, passed_over } = newest();
        assert_eq!(found.unwrap().step, 10);
        assert!(passed_over.len() == 1 && passed_over[0].to_string().contains("weights-000000000020"), "{passed_over:?}");
        fs::remove_file(kept_path(folder.path(), 10)).unwrap();
        let Newest { found, passed_over } = newest();
        assert_eq!((found, passed_over.len()), (None, 2));
    }

    #[cfg(unix)]
    #[test]
    fn a_model_and_a_checkpoint_have_the_mode_of_any_other_file() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("other"), b"x").unwrap();
        let program = build(&tiny_model(Pooling::Mean), 0.0);
        let weights = Weights { parameters: initial_parameters(&program, 7), ..Weights::default() };
        save_model(&folder.path().join("model.safetensors"), &program, &weights, 3).unwrap();
        checkpoint(1).save(folder.path()).unwrap();
        let modes = ["other", "model.safetensors", "checkpoint-000000000001"]
            .map(|name| fs::metadata(folder.path().join(name)).unwrap().permissions().mode() & 0o777);
        assert!(modes.iter().all(|mode| *mode == modes[0]), "{:o} {:o} {:o}", modes[0], modes[1], modes[2]);
    }

    #[test]
    fn a_missing_folder_has_no_checkpoint() {
        assert_eq!(Checkpoint::load_newest(Path::new("/nonexistent/folder"), "abc", &[]).unwrap().found, None);
    }
}
