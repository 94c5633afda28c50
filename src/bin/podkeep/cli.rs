//! The command line: what can be said, and who does it.

#[cfg(feature = "grpc")]
use crate::control;
use crate::library::{Library, text};
use crate::tell::tell;
use crate::{completions, export, run};
use clap::{Command, CommandFactory, FromArgMatches, Parser, Subcommand};
use std::ffi::{OsString, c_int};
use std::io::Write;

/// Keeps any blocking procedure in a pod: started, cancelled, torn down, and its failure told.
#[derive(Parser)]
#[command(name = "podkeep", arg_required_else_help = true, max_term_width = 100)]
struct Program {
    /// Print the versions of program, library and ABI
    #[arg(short = 'V', long)]
    version: bool,

    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Subcommand)]
enum Verb {
    Run(run::Run),
    #[cfg(feature = "grpc")]
    #[command(flatten)]
    Control(control::Verb),
    Export(export::Export),
    Completions(completions::Completions),
    Man(completions::Man),
}

/// What clap itself exits with, too.
pub const USAGE: c_int = 2;

/// Does what the arguments say; the process's exit code.
pub fn run(args: impl Iterator<Item = OsString>) -> c_int {
    // The words as well as what they mean: `export` writes them down as they were said.
    let parsed = command().try_get_matches_from(args).and_then(|said| Ok((Program::from_arg_matches(&said)?, said)));
    let (program, said) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            // Help goes to stdout, a wrong usage to stderr; a closed one changes nothing.
            let _ = error.print();
            return error.exit_code();
        }
    };
    if program.version {
        return version();
    }
    match program.verb {
        Some(Verb::Run(asked)) => run::run(asked),
        #[cfg(feature = "grpc")]
        Some(Verb::Control(asked)) => control::control(asked),
        Some(Verb::Export(asked)) => export::export(asked, said.subcommand_matches("export").unwrap_or(&said)),
        Some(Verb::Completions(asked)) => completions::completions(asked),
        Some(Verb::Man(asked)) => completions::man(asked),
        None => {
            let _ = command().print_help();
            USAGE
        }
    }
}

/// All that can be said.
pub fn command() -> Command {
    Program::command()
}

fn version() -> c_int {
    let library = match Library::load() {
        Ok(library) => library,
        Err(sentence) => return tell(127, &sentence),
    };
    // SAFETY: both take nothing; the version is a terminated string.
    let (version, abi) = unsafe { (text((library.version)()), (library.abi_version)()) };
    let program = env!("CARGO_PKG_VERSION");
    let path = library.path.display();
    let written = writeln!(std::io::stdout(), "podkeep {program}\nlibrary {version} ({path})\nABI {abi}");
    c_int::from(written.is_err())
}
