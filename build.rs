//! How things are linked, as far as cargo does not say it.

fn main() {
    // The number is the ABI's (PODKEEP_ABI_VERSION), not the crate's: it changes only when the ABI breaks.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libpodkeep.so.0");
    // Threads of pods outlive a dlclose, and so must their code.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    // The program is also the guardian, one beside every host: at a fixed address no relocation dirties its pages.
    println!("cargo:rustc-link-arg-bin=podkeep=-no-pie");
    println!("cargo:rerun-if-changed=build.rs");
}
