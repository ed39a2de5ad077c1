//! clap; one file a subcommand.
