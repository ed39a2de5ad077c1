//! What `report` is asked.

use std::path::PathBuf;

use clap::Args;

/// Options of `report`.
#[derive(Debug, Args)]
pub struct ReportOptions {
    /// Results folders, such as results/quickstart, or folders of them; nothing is trained, no store is read
    #[arg(value_name = "RESULTS", required = true)]
    pub results: Vec<PathBuf>,
    /// Folder to write to; one that holds anything but a report is refused
    #[arg(long, value_name = "DIR", default_value = "report")]
    pub to: PathBuf,
}
