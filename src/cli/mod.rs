//! The command line: one file a subcommand.
//!
//! Input: arguments. Output: data on stdout, everything else on stderr, an exit code. This is where rooms are joined: a file is
//! loaded, expanded, planned, executed and reported here and nowhere else. With `progress`, the only room that prints.

mod adoption;
mod advise;
mod amounts;
mod args;
mod bench;
mod check;
mod data;
mod doctor;
mod estimate;
mod experiment;
mod explain;
mod features;
mod files;
mod finish;
mod gpu_check;
mod inspect;
mod losses;
mod path;
mod plan;
mod report;
mod report_options;
mod reuse;
mod run;
mod score;
mod several;
mod simulate;
mod stated;
mod status;
mod table;

use std::io::{IsTerminal, Write};

use clap::{CommandFactory, Parser};

pub use args::Cli;
use args::{Bench, Color, Command, Global};

use crate::error::{Error, exit};
use crate::progress::{ColorChoice, Progress, Verbosity};
use crate::trainer::ops;

/// Parses the command line, does what it says and returns the exit code.
#[must_use]
pub fn main() -> u8 {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // clap prints help and version to stdout, mistakes to stderr; a closed pipe is no error.
            let _ = error.print();
            return if error.use_stderr() { exit::USAGE } else { exit::OK };
        }
    };
    match dispatch(&cli) {
        Ok(code) => code,
        // A reader that has seen enough (`| head`) is not an error.
        Err(Error::Print(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => exit::OK,
        Err(error) => {
            show(&error, &cli.global);
            error.exit_code()
        }
    }
}

/// Names the instructions that the CPU trainer computes with, where not the best.
const INSTRUCTIONS: &str = "SCALEDOWN_INSTRUCTIONS";

fn choose_instructions() -> Result<(), Error> {
    let Some(name) = std::env::var(INSTRUCTIONS).ok().filter(|name| !name.is_empty()) else { return Ok(()) };
    ops::choose_instructions(&name).map_err(|known| Error::Usage {
        message: format!("{INSTRUCTIONS} is `{name}`, which this CPU does not have"),
        hint: Some(format!("it has {}", known.join(", "))),
    })
}

fn dispatch(cli: &Cli) -> Result<u8, Error> {
    choose_instructions()?;
    let mut stdout = std::io::stdout().lock();
    let out: &mut dyn Write = &mut stdout;
    let global = &cli.global;
    match &cli.command {
        Command::Run { experiment, more, execution, reuse } if more.is_empty() => {
            return run::run(global, experiment, execution, reuse, out);
        }
        Command::Run { experiment, more, execution, reuse } => {
            return several::run(global, experiment, more, execution, reuse, out);
        }
        Command::Plan(args) if !args.more.is_empty() => several::plan(global, args, out)?,
        Command::Plan(args) => plan::run(global, args, out)?,
        Command::Status { experiment, adoption, format } => status::run(global, experiment, adoption, *format, out)?,
        Command::Explain { run, experiment, adoption } => explain::run(global, experiment, adoption, run, out)?,
        Command::Path { run, experiment, what } => path::run(global, experiment, run, *what, out)?,
        Command::Features { run, experiment, to } => features::run(global, experiment, run, to, out)?,
        Command::Table(args) => table::run(global, args, out)?,
        Command::Report(args) => report::run(global, args, out)?,
        Command::Advise(args) => advise::run(global, args, out)?,
        Command::Check(args) => return check::run(global, args, out),
        Command::Data(args) => return data::run(global, args, out),
        Command::Bench(Bench::Step(args)) => bench::step(args, out)?,
        Command::Bench(Bench::Claims(args)) => simulate::run(args, out)?,
        Command::Schema => {
            let schema = serde_json::to_string_pretty(&crate::spec::schema()).expect("a schema is plain JSON");
            writeln!(out, "{schema}")?;
        }
        Command::Completions { shell } => clap_complete::generate(*shell, &mut Cli::command(), "scaledown", out),
        Command::Doctor => doctor::run(global, out)?,
        Command::GpuCheck(args) => return gpu_check::run(args, out),
    }
    Ok(exit::OK)
}

/// Shows an error on stderr: problems of a file underlined in its text on a terminal, plain lines elsewhere.
fn show(error: &Error, global: &Global) {
    let mut stderr = std::io::stderr().lock();
    if let Error::Spec(errors) = error {
        let _ = match has_color(global) {
            true => writeln!(stderr, "{:?}", miette::Report::new(errors.report())),
            false => writeln!(stderr, "{errors}"),
        };
        return;
    }
    let _ = writeln!(stderr, "error: {error}");
    if let Some(hint) = error.hint() {
        let _ = writeln!(stderr, "hint: {hint}");
    }
}

fn has_color(global: &Global) -> bool {
    match global.color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
    }
}

/// Shows warnings of an experiment file, unless asked to be quiet.
fn warn(global: &Global, warnings: &[String]) {
    if global.quiet {
        return;
    }
    let mut stderr = std::io::stderr().lock();
    for warning in warnings {
        let _ = writeln!(stderr, "warning: {warning}");
    }
}

fn progress(global: &Global) -> Progress {
    let verbosity = match (global.quiet, global.verbose) {
        (true, _) => Verbosity::Quiet,
        (false, 0) => Verbosity::Normal,
        (false, _) => Verbosity::Verbose,
    };
    let color = match global.color {
        Color::Auto => ColorChoice::Auto,
        Color::Always => ColorChoice::Always,
        Color::Never => ColorChoice::Never,
    };
    Progress::new(verbosity, color, std::io::stderr().is_terminal())
}

/// Cores of this machine.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
