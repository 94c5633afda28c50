//! Gives the shared library what cargo does not: its SONAME, and the mark that it is never unloaded.

fn main() {
    // The number is the ABI's (PODKEEP_ABI_VERSION), not the crate's: it changes only when the ABI breaks.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libpodkeep.so.0");
    // Threads of pods outlive a dlclose, and so must their code.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    println!("cargo:rerun-if-changed=build.rs");
}
