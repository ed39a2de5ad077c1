//! The command line: what can be asked and with which options.

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::amounts::{parse_duration, positive};
use super::report_options::ReportOptions;
use super::reuse::{Adoption, Reuse};

/// Which data, which encoder, which training strategy, for the compute I have?
///
/// Expands an experiment file into a graph of jobs, trains and measures its CLIP models, writes tables, and says which of the
/// stated claims they support.
#[derive(Debug, Parser)]
#[command(name = "scaledown", version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Folder of finished jobs
    #[arg(long, global = true, env = "SCALEDOWN_STORE", default_value = ".scaledown", value_name = "DIR")]
    pub store: PathBuf,
    /// Folder of results, one folder an experiment
    #[arg(long, global = true, default_value = "results", value_name = "DIR")]
    pub results: PathBuf,
    /// Say less: errors only, no progress, no warnings, and from `run` no tables
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Say more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// When to use colour and bars (NO_COLOR is respected)
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto, value_name = "WHEN")]
    pub color: Color,
}

/// When to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Human,
    /// For programs.
    Json,
}

/// A file of a trained run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RunFile {
    /// The trained model.
    Model,
    /// The loss curve.
    Curve,
    /// The folder of both.
    Folder,
}

/// How a plan is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PlanFormat {
    /// For people.
    Human,
    /// For programs.
    Json,
    /// For Graphviz.
    Dot,
}

/// Where runs compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Device {
    /// An NVIDIA GPU where there is one with what it needs, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// An NVIDIA GPU.
    Cuda,
}

/// Arithmetic of products; parameters, sums and the loss are f32 always.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Arithmetic {
    /// bf16 on a GPU that has it, else f32.
    Auto,
    /// Full f32.
    F32,
    /// TF32 (GPU only).
    Tf32,
    /// bf16 with sums in f32 (GPU only).
    Bf16,
}

/// An experiment file and how it is changed from outside.
#[derive(Debug, Clone, Args)]
pub struct Experiment {
    /// Experiment file
    #[arg(value_name = "EXPERIMENT.yaml")]
    pub file: PathBuf,
    /// Override a key of the file, such as `train.lr=3e-4`; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Where runs compute
    #[arg(long, value_enum, default_value_t = Device::Auto)]
    pub device: Device,
    /// Arithmetic of products
    #[arg(long, value_enum, default_value_t = Arithmetic::Auto)]
    pub precision: Arithmetic,
}

impl Experiment {
    /// Another file, changed in the same way.
    pub fn of(&self, file: &Path) -> Self {
        Self { file: file.to_owned(), ..self.clone() }
    }
}

/// How jobs are executed; nothing here changes a result.
#[derive(Debug, Args)]
pub struct Execution {
    /// Jobs that run at once
    #[arg(short = 'j', long, default_value = "1", value_name = "N")]
    pub jobs: NonZero<usize>,
    /// Threads a job [default: cores / jobs]
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZero<usize>>,
    /// Further attempts at a job whose failure another attempt may mend
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub retries: u32,
    /// Time that one job may take, such as 90s, 20m, 2h
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub time_limit: Option<Duration>,
    /// Failures after which nothing new is started
    #[arg(long, value_name = "N")]
    pub max_failures: Option<NonZero<usize>>,
    /// Exit with 5 where a claim's verdict is not the expected one
    #[arg(long)]
    pub check: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train and measure what is missing, write tables and verdicts
    ///
    /// Runs that stand in the store, or finished in committed records (with the same key of training and evaluations, and as they were
    /// written), are not trained; at the end it says how many were adopted from records and how many trained.
    Run {
        #[command(flatten)]
        experiment: Experiment,
        /// Further experiment files, run one after another in the same store
        #[arg(value_name = "MORE.yaml")]
        more: Vec<PathBuf>,
        #[command(flatten)]
        execution: Execution,
        #[command(flatten)]
        reuse: Reuse,
    },
    /// Show runs, jobs and cost without doing anything
    Plan(PlanOptions),
    /// Show where the runs of an experiment stand
    Status {
        #[command(flatten)]
        experiment: Experiment,
        #[command(flatten)]
        adoption: Adoption,
        /// How to print it
        #[arg(long, value_enum, default_value_t = Format::Human)]
        format: Format,
    },
    /// Say why a run is to be done, or why it is not: the difference to the nearest finished one
    Explain {
        /// Run id, or its beginning
        #[arg(value_name = "RUN")]
        run: String,
        #[command(flatten)]
        experiment: Experiment,
        #[command(flatten)]
        adoption: Adoption,
    },
    /// Print where the model of a trained run lies
    Path {
        /// Run id, or its beginning
        #[arg(value_name = "RUN")]
        run: String,
        #[command(flatten)]
        experiment: Experiment,
        /// Which file
        #[arg(long, value_enum, default_value_t = RunFile::Model)]
        what: RunFile,
    },
    /// Write a run's image features of its evaluation sets and train splits, for scikit-learn and others
    Features {
        /// Run id, or its beginning
        #[arg(value_name = "RUN")]
        run: String,
        #[command(flatten)]
        experiment: Experiment,
        /// Folder to write to
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
    },
    /// Print the tables of an experiment from its records, or rebuild a results folder
    Table(Table),
    /// Write pages of results: verdicts, figures, tables, runs and the commands that repeat them
    ///
    /// One page an experiment and an index over all. A page is one file that loads nothing and opens from disk; its figures also lie beside
    /// it as SVG, CSV and Vega-Lite. The same results give the same bytes.
    Report(ReportOptions),
    /// Say which data, encoder and strategy finished runs favour at a compute or a number of samples, and how sure that is
    Advise(Advise),
    /// Judge claims: exit 5 where a verdict is not the expected one or a table drifted
    #[command(mut_arg("check", |arg| arg.hide(true)))]
    Check(Check),
    /// Make or look at data sets
    #[command(subcommand)]
    Data(Data),
    /// Measure this machine
    #[command(subcommand)]
    Bench(Bench),
    /// Print the JSON Schema of experiment files
    Schema,
    /// Print completions for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Say what this machine has, what is missing and how to get it
    Doctor,
    /// Compare this machine's GPU with the CPU, kernel by kernel and in whole steps, and time it
    GpuCheck(GpuCheck),
}

/// Options of `plan`.
#[derive(Debug, Args)]
pub struct PlanOptions {
    /// Which experiment.
    #[command(flatten)]
    pub experiment: Experiment,
    /// Further experiment files: shows what all of them come to, each run counted once
    #[arg(value_name = "MORE.yaml")]
    pub more: Vec<PathBuf>,
    #[command(flatten)]
    pub adoption: Adoption,
    /// How to print it
    #[arg(long, value_enum, default_value_t = PlanFormat::Human)]
    pub format: PlanFormat,
    /// Price the training to do on devices that sustain so many TFLOP/s, at six operations a forward multiply-accumulate
    #[arg(long, value_name = "N", value_parser = positive)]
    pub tflops: Option<f64>,
    /// Print the whole configuration of every run as YAML instead, or of the runs whose id begins with RUN
    #[arg(
        long,
        value_name = "RUN",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "",
        conflicts_with = "format"
    )]
    pub resolved: Option<String>,
}

/// Options of `gpu-check`.
#[derive(Debug, Args)]
pub struct GpuCheck {
    /// Experiments whose products are timed beside those of the models that are timed whole
    #[arg(value_name = "EXPERIMENT.yaml")]
    pub files: Vec<PathBuf>,
    /// Only these parts [default: all]
    #[arg(long, value_enum, value_delimiter = ',')]
    pub only: Vec<GpuCheckPart>,
    /// Seconds for all of it; what there is no time for is a row that says so
    #[arg(long, value_name = "N", default_value_t = 600.0, value_parser = positive)]
    pub seconds: f64,
    /// Append what is found, as soon as it is, as lines of JSON
    #[arg(long, value_name = "FILE.jsonl")]
    pub out: Option<PathBuf>,
    /// Only write the gradients of a few steps there, in f32 and bf16, for benches/torch_gradients.py
    #[arg(long, value_name = "DIR", conflicts_with_all = ["only", "out", "files"])]
    pub gradients: Option<PathBuf>,
    /// Only write what each row may take at best on a GPU that sustains 700 TFLOP/s in bf16 and 4 TB/s, as CSV; needs no GPU
    #[arg(long, value_name = "FILE.csv", conflicts_with_all = ["only", "out", "gradients"])]
    pub expected: Option<PathBuf>,
    /// Only compile the kernels into that folder, for a machine that finds them by SCALEDOWN_KERNELS=DIR; needs NVRTC and no GPU
    #[arg(long, value_name = "DIR", conflicts_with_all = ["only", "out", "files", "gradients", "expected"])]
    pub compile: Option<PathBuf>,
    /// Compute capability to compile for
    #[arg(long, value_name = "MAJOR.MINOR", default_value = "9.0", requires = "compile")]
    pub capability: String,
}

/// A part of `gpu-check`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GpuCheckPart {
    /// How long each product takes that a program needs, and by which algorithm.
    Products,
    /// Every kernel against the CPU's rows.
    Kernels,
    /// Whole steps against the CPU backend.
    Steps,
    /// How long losses, attention and the kernels between products take.
    Speed,
    /// How long whole steps of known models take.
    Models,
}

/// Options of `table`.
#[derive(Debug, Args)]
pub struct Table {
    /// Experiment file whose tables are printed; nothing is written
    #[arg(value_name = "EXPERIMENT.yaml", required_unless_present = "from")]
    pub file: Option<PathBuf>,
    /// Results folder to rebuild: its tables and claims.csv are written again from its records
    #[arg(long, value_name = "DIR", conflicts_with = "file")]
    pub from: Option<PathBuf>,
    /// Only this table
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Print CSV
    #[arg(long)]
    pub csv: bool,
}

/// Options of `advise`.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("budget").required(true).args(["gmacs", "samples"])))]
pub struct Advise {
    /// Results folders, such as results/small/quality; nothing is trained, no store is read
    #[arg(value_name = "RESULTS", required = true)]
    pub results: Vec<PathBuf>,
    /// Forward multiply-accumulates that a run may take, in units of 1e9 (column `gmacs` of runs.csv), such as 500 or 2k
    #[arg(long, value_name = "X", value_parser = parse_amount)]
    pub gmacs: Option<f64>,
    /// Pairs that a run may see, repeats counted (column `samples_seen`), such as 64k
    #[arg(long, value_name = "N", value_parser = parse_amount)]
    pub samples: Option<f64>,
    /// The metric to go by [default: the first of the first table]
    #[arg(long, value_name = "METRIC")]
    pub metric: Option<String>,
    /// How to print it
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub format: Format,
}

fn parse_amount(text: &str) -> Result<f64, String> {
    let found = crate::tables::amount(text).filter(|amount| *amount > 0.0);
    found.ok_or_else(|| "expected an amount above zero, such as `500` or `64k`".to_owned())
}

/// Options of `check`.
#[derive(Debug, Args)]
pub struct Check {
    /// An experiment file; with --values, files of claims
    #[arg(value_name = "FILE.yaml", required = true)]
    pub files: Vec<PathBuf>,
    /// Tidy CSV files that the claims are about, instead of an experiment's tables
    #[arg(long, num_args = 1.., value_name = "CSV")]
    pub values: Vec<PathBuf>,
    /// Compare runs and table cells with the committed ones of this results folder
    #[arg(long, value_name = "DIR", conflicts_with = "values")]
    pub against: Option<PathBuf>,
    /// How far a cell may move, in its own unit (`3`) or as a share of the committed value (`1%`), or cells of one metric
    /// (`zeroshot/scenes.acc1=2`); `loss=1%` the losses of every run at all of its steps; may be repeated
    /// [default: 1, and on the same device and precision `loss=0.001%` for the first 200 steps]
    #[arg(long, value_name = "[METRIC=]AMOUNT", requires = "against", allow_negative_numbers = true)]
    pub tolerance: Vec<String>,
    /// Run the experiment anew into a scratch folder, and check what comes of it
    #[arg(long, conflicts_with = "values")]
    pub run: bool,
    /// The scratch folder of --run, which is kept then
    #[arg(long, value_name = "DIR", requires = "run")]
    pub keep: Option<PathBuf>,
    /// Override a key of the experiment file
    #[arg(long = "set", value_name = "KEY=VALUE", conflicts_with = "values")]
    pub set: Vec<String>,
    /// Where --run computes
    #[arg(long, value_enum, default_value_t = Device::Auto, requires = "run")]
    pub device: Device,
    /// Arithmetic of products of --run
    #[arg(long, value_enum, default_value_t = Arithmetic::Auto, requires = "run")]
    pub precision: Arithmetic,
    /// How the jobs of --run are executed
    #[command(flatten)]
    pub execution: Execution,
    /// How to print it
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub format: Format,
}

/// `data` commands.
#[derive(Debug, Subcommand)]
pub enum Data {
    /// Pack the data sets of an experiment without training
    Make {
        #[command(flatten)]
        experiment: Experiment,
        /// Threads
        #[arg(long, value_name = "N")]
        threads: Option<NonZero<usize>>,
    },
    /// Score the pools of an experiment as its `data.quality` says, and show what is chosen
    Score(DataScore),
    /// Show what the data sets of an experiment hold, with contact sheets; packs those that are not packed yet
    Inspect {
        #[command(flatten)]
        experiment: Experiment,
        /// Folder for contact sheets (PNG) and captions
        #[arg(long, value_name = "DIR")]
        sheets: Option<PathBuf>,
        /// Pictures on a contact sheet
        #[arg(long, default_value_t = 64)]
        samples: usize,
        /// Threads
        #[arg(long, value_name = "N")]
        threads: Option<NonZero<usize>>,
        /// How to print it
        #[arg(long, value_enum, default_value_t = Format::Human)]
        format: Format,
    },
}

/// Options of `data score`.
#[derive(Debug, Args)]
pub struct DataScore {
    #[command(flatten)]
    pub experiment: Experiment,
    /// Folder for scores, histograms, contact sheets, overlaps and leaks
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Pictures on a contact sheet
    #[arg(long, default_value_t = 32)]
    pub samples: usize,
    /// Bits of 64 in which the hashes of a pool's and an evaluation set's picture may differ to count as the same picture
    #[arg(long, default_value_t = 3, value_name = "BITS", value_parser = clap::value_parser!(u32).range(0..=32))]
    pub hamming: u32,
    /// Threads
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZero<usize>>,
    /// How to print it
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub format: Format,
}

/// `bench` commands.
#[derive(Debug, Subcommand)]
pub enum Bench {
    /// Time training steps on made-up data
    Step(BenchStep),
    /// Count how often the rule that judges claims is wrong, on simulated runs whose truth is known
    Claims(BenchClaims),
}

/// Options of `bench claims`.
#[derive(Debug, Args)]
pub struct BenchClaims {
    /// Write verdicts.csv, power.csv, half-widths.csv and half-widths.svg here
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Draws of every case
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub draws: u64,
    /// Seed of the draws
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

/// Options of `bench step`.
#[derive(Debug, Args)]
pub struct BenchStep {
    /// What is stepped: the image encoder alone, the text encoder alone, or both with the contrastive loss
    #[arg(long, value_enum, default_value_t = BenchWhat::Image)]
    pub what: BenchWhat,
    /// The image encoder as an experiment file names it, such as `vit-ti/8` or `{name: vit-ti/8, layers: 6}`; the shape that other
    /// options state is then the text encoder's
    #[arg(long, conflicts_with_all = ["patch_size", "class_token"])]
    pub image_encoder: Option<String>,
    /// Channels
    #[arg(long, default_value_t = 192)]
    pub width: usize,
    /// Blocks
    #[arg(long, default_value_t = 6)]
    pub depth: usize,
    /// Attention heads
    #[arg(long, default_value_t = 3)]
    pub heads: usize,
    /// Image side, pixels
    #[arg(long, default_value_t = 32)]
    pub image_size: usize,
    /// Patch side, pixels
    #[arg(long, default_value_t = 4)]
    pub patch_size: usize,
    /// Whether a class token is prepended, and a norm put before the first block, as in CLIP
    #[arg(long)]
    pub class_token: bool,
    /// Share of patches left out of each image, in [0, 1)
    #[arg(long, default_value_t = 0.0)]
    pub masked: f64,
    /// SLIP's self-supervised loss on two more views, with the head that an experiment file gets by default; with `--what clip`
    #[arg(long)]
    pub ssl: bool,
    /// Channels of the text encoder [default: those of the image encoder]
    #[arg(long)]
    pub text_width: Option<usize>,
    /// Blocks of the text encoder [default: those of the image encoder]
    #[arg(long)]
    pub text_depth: Option<usize>,
    /// Attention heads of the text encoder [default: those of the image encoder]
    #[arg(long)]
    pub text_heads: Option<usize>,
    /// Tokens of a caption
    #[arg(long, default_value_t = 16)]
    pub context_length: usize,
    /// Entries of the vocabulary
    #[arg(long, default_value_t = 4096)]
    pub vocab_size: usize,
    /// Width of the shared space
    #[arg(long, default_value_t = 256)]
    pub embed_dim: usize,
    /// Pairs a step
    #[arg(long, default_value_t = 128)]
    pub batch: usize,
    /// Parts that a batch is cut into for memory
    #[arg(long, default_value_t = 1)]
    pub chunks: usize,
    /// Where to compute; a GPU steps `clip` alone
    #[arg(long, value_enum, default_value_t = Device::Cpu)]
    pub device: Device,
    /// Arithmetic of products
    #[arg(long, value_enum, default_value_t = Arithmetic::Auto)]
    pub precision: Arithmetic,
    /// Threads [default: all cores]
    #[arg(long)]
    pub threads: Option<NonZero<usize>>,
    /// Seconds to measure
    #[arg(long, default_value_t = 5.0)]
    pub seconds: f64,
    /// Activation of the MLPs
    #[arg(long, value_enum, default_value_t = BenchActivation::Gelu)]
    pub activation: BenchActivation,
    /// How to print it
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub format: Format,
}

/// What `bench step` steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BenchWhat {
    /// The image encoder.
    Image,
    /// The text encoder.
    Text,
    /// Both, with the contrastive loss.
    Clip,
}

/// Activation of a benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BenchActivation {
    /// By the error function.
    Gelu,
    /// By tanh.
    GeluTanh,
    /// x sigmoid(1.702 x).
    QuickGelu,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
