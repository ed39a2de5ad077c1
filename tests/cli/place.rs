//! A folder with a small experiment, and the real program run in it.

use std::path::Path;
use std::process::{Command, Output};

pub type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Four runs that are trained in a moment.
pub const SMALL: &str = "\
experiment: small
data:
  train: { dataset: scenes, size: 200 }
  tokenizer: { name: bpe, vocab_size: 300 }
model:
  image_encoder: { name: vit, width: 16, layers: 1, heads: 2, patch_size: 8, pooling: mean, pre_norm: false }
  text_encoder: { name: text, width: 16, layers: 1, heads: 2 }
  context_length: 8
  embed_dim: 16
  image_size: 16
train:
  strategy: { name: clip, augmentation: none }
  batch_size: 20
  lr: 1e-3
  budget: { steps: 6 }
evaluate: [{ zeroshot: scenes, samples: 80 }, { retrieval: scenes, samples: 80 }]
sweep:
  seeds: 2
  grid: { train.lr: [1e-3, 2e-3] }
tables:
  - { name: zeroshot, rows: train.lr, values: [zeroshot/scenes.acc1] }
claims:
  - id: sane
    says: accuracy is a percentage
    cells: { table: zeroshot }
    each: { train.lr: all }
    test: { at_most: { value: { cell: {} }, limit: 100 } }
    confidence: none
";

/// The real program.
pub fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_scaledown"))
}

pub struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    /// A folder with the experiment in `small.yaml`, and an empty one for temporary files.
    pub fn new(text: &str) -> Result<Self, std::io::Error> {
        let place = Self { folder: tempfile::tempdir()? };
        place.write("small.yaml", text)?;
        std::fs::create_dir(place.path().join("tmp"))?;
        Ok(place)
    }
    /// As `new`, with the experiment's results in `results/small`.
    pub fn with_results(text: &str) -> Result<Self, Box<dyn std::error::Error>> {
        let place = Self::new(text)?;
        let run = place.scaledown(&["run", "small.yaml", "--device", "cpu", "-q"])?;
        assert_eq!(run.status.code(), Some(0), "{}", text_of(&run.stderr));
        Ok(place)
    }
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
    pub fn write(&self, name: &str, text: &str) -> std::io::Result<()> {
        std::fs::write(self.path().join(name), text)
    }
    /// Replaces a text in a file of the folder.
    pub fn edit(&self, name: &str, from: &str, to: &str) -> Outcome {
        let text = std::fs::read_to_string(self.path().join(name))?;
        assert!(text.contains(from), "{name} holds no {from}: {text}");
        Ok(self.write(name, &text.replacen(from, to, 1))?)
    }
    pub fn scaledown(&self, args: &[&str]) -> Result<Output, Box<dyn std::error::Error>> {
        let mut command = program();
        command.current_dir(self.path()).env_remove("SCALEDOWN_STORE").env("TMPDIR", self.path().join("tmp"));
        Ok(command.args(args).output()?)
    }
    /// Every result file with its bytes.
    pub fn results(&self) -> Result<Vec<(String, Vec<u8>)>, std::io::Error> {
        let mut files = Vec::new();
        for name in ["runs.csv", "curves.csv", "provenance.json", "claims.csv", "tables/zeroshot.csv", "tables/zeroshot.md"] {
            files.push((name.to_string(), std::fs::read(self.path().join("results/small").join(name))?));
        }
        Ok(files)
    }
}

pub fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
