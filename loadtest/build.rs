//! Tells the program which commit it is built from, in `HUBRING_COMMIT`: the tree may be another one by the time it runs.
//!
//! Where there is no git, or no repository, the commit is `unknown`.

use std::path::Path;
use std::process::Command;

/// What the measured programs are built from, relative to this package. A change there makes the tree differ from its commit.
const SOURCES: [&str; 6] = [
    "build.rs",
    "src",
    "../src",
    "../benches/src",
    "../Cargo.toml",
    "../Cargo.lock",
];

fn main() {
    let commit = git(&["describe", "--always", "--dirty"]);
    let commit = commit.as_deref().unwrap_or("unknown");
    println!("cargo::rustc-env=HUBRING_COMMIT={commit}");
    // Both files are the worktree's own: the branch, and what has become of it.
    let watched = ["HEAD", "logs/HEAD"].map(|name| git(&["rev-parse", "--git-path", name]));
    let sources = SOURCES.map(|path| Some(path.to_owned()));
    for path in watched.into_iter().chain(sources).flatten() {
        // A file that is not there would make cargo build anew every time.
        if Path::new(&path).exists() {
            println!("cargo::rerun-if-changed={path}");
        }
    }
}

/// What git says, if it is there and has something to say. Cargo runs this in the package's directory.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let text = text.trim();
    (output.status.success() && !text.is_empty()).then(|| text.to_owned())
}
