//! `podkeep completions`, `podkeep man`: what a package installs beside the program, made of the command line itself.

use crate::cli;
use crate::tell::tell;
use clap::Args;
use clap_complete::Shell;
use std::ffi::c_int;
use std::io::Write;
use std::path::PathBuf;

/// Print what completes this program's words in a shell
#[derive(Args)]
pub struct Completions {
    shell: Shell,
}

/// Write the manual's pages, one a verb
#[derive(Args)]
pub struct Man {
    /// The directory that they go to, such as /usr/share/man/man1
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

pub fn completions(asked: Completions) -> c_int {
    let mut script = Vec::new();
    clap_complete::generate(asked.shell, &mut cli::command(), "podkeep", &mut script);
    c_int::from(std::io::stdout().write_all(&script).is_err())
}

pub fn man(asked: Man) -> c_int {
    match clap_mangen::generate_to(cli::command(), &asked.directory) {
        Ok(()) => 0,
        Err(why) => tell(1, &format!("no page can be written to {}: {why}", asked.directory.display())),
    }
}
