//! Tells the program which commit it is built from, in `SCALEDOWN_COMMIT`; nothing where there is no repository.
//!
//! Run again only where the commit or something that is built in changes. A build without git, from a published package or
//! beneath another repository works and knows no commit of its own.

use std::path::{Path, PathBuf};
use std::process::Command;

/// What is built into the program: a local change there is marked.
const BUILT_IN: [&str; 6] = ["src", "kernels", "build.rs", "Cargo.toml", "Cargo.lock", "rust-toolchain.toml"];

fn main() {
    println!("cargo:rerun-if-env-changed=SCALEDOWN_COMMIT");
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var_os("SCALEDOWN_COMMIT").is_some() {
        // Set from outside: rustc sees it as it is.
        return;
    }
    let root = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    if let Some(commit) = of_repository(&root).or_else(|| of_package(&root)) {
        println!("cargo:rustc-env=SCALEDOWN_COMMIT={commit}");
    }
}

/// The commit of the repository that this folder is the top of.
fn of_repository(root: &Path) -> Option<String> {
    let top = git(root, &["rev-parse", "--show-toplevel"])?;
    if PathBuf::from(top).canonicalize().ok()? != root.canonicalize().ok()? {
        return None;
    }
    let commit = git(root, &["rev-parse", "HEAD"])?;
    watch(root);
    let changes = git(root, &[&["status", "--porcelain", "--"], &BUILT_IN[..]].concat())?;
    Some(if changes.is_empty() { commit } else { format!("{commit}-modified") })
}

/// The commit that a published package says it was made of.
fn of_package(root: &Path) -> Option<String> {
    let path = root.join(".cargo_vcs_info.json");
    let text = std::fs::read_to_string(&path).ok()?;
    println!("cargo:rerun-if-changed={}", path.display());
    let commit = text.split("\"sha1\":").nth(1)?.split('"').nth(1)?.to_owned();
    let is_commit = commit.len() >= 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mark = if text.contains("\"dirty\": true") { "-modified" } else { "" };
    is_commit.then(|| format!("{commit}{mark}"))
}

/// Runs this script again when the commit or what is built in changes. A file that is not there would run it every time.
fn watch(root: &Path) {
    let mut paths: Vec<PathBuf> = BUILT_IN.iter().map(|name| root.join(name)).collect();
    let branch = git(root, &["symbolic-ref", "--quiet", "HEAD"]);
    for name in ["HEAD", "logs/HEAD", "packed-refs"].into_iter().chain(branch.as_deref()) {
        paths.extend(git(root, &["rev-parse", "--git-path", name]).map(|path| root.join(path)));
    }
    for path in paths.iter().filter(|path| path.exists()) {
        println!("cargo:rerun-if-changed={}", path.display());
    }
}

/// What git says; `None` where there is none or it fails.
fn git(root: &Path, args: &[&str]) -> Option<String> {
    let output = Command::new("git").env("GIT_OPTIONAL_LOCKS", "0").arg("-C").arg(root).args(args).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
