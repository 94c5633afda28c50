//! `podkeep ps`: the pods of a process.

use super::screen::{self, Screen};
use super::{ADDRESSES, EXIT_CODES, Reach, failed, json, table};
use std::ffi::c_int;

/// List the pods of a process
#[derive(clap::Args)]
#[command(after_help = format!("Exit codes:\n  0    they were listed{EXIT_CODES}\n{ADDRESSES}"))]
pub struct Ps {
    #[command(flatten)]
    reach: Reach,
}

pub fn ps(options: Ps) -> c_int {
    let listed = options.reach.connect().and_then(|reached| reached.client.list(reached.left()));
    let list = match listed {
        Ok(list) => list,
        Err(error) => return failed(&error),
    };
    let text = match options.reach.json {
        true => format!("{:#}\n", json::list(&list)),
        false => table::lines(&list, None, &Screen::stdout()).join("\n") + "\n",
    };
    if screen::write(&text) { 0 } else { 125 }
}
