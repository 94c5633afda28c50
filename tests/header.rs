//! include/podkeep.h is what the sources say, and the shared library exports what the header says: nothing less,
//! nothing more.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn generated() -> String {
    let config = cbindgen::Config::from_file(root().join("cbindgen.toml")).expect("cbindgen.toml");
    let bindings = cbindgen::Builder::new()
        .with_config(config)
        .with_src(root().join("src/ffi/status.rs"))
        .with_src(root().join("src/ffi/process.rs"))
        .with_src(root().join("src/ffi/runtime.rs"))
        .with_src(root().join("src/ffi/context.rs"))
        .with_src(root().join("src/ffi/pod.rs"))
        .with_src(root().join("src/ffi/main.rs"))
        .with_src(root().join("src/ffi/library.rs"))
        .with_src(root().join("src/ffi/failure.rs"))
        .with_src(root().join("src/ffi/group.rs"))
        .with_src(root().join("src/ffi/monitor.rs"))
        .with_src(root().join("src/ffi/control.rs"))
        .with_src(root().join("src/ffi/log.rs"))
        .generate()
        .expect("the header can be generated");
    let mut text = Vec::new();
    bindings.write(&mut text);
    String::from_utf8(text).expect("UTF-8")
}

#[test]
fn the_header_is_what_the_sources_say() {
    let path = root().join("include/podkeep.h");
    let generated = generated();
    if std::env::var_os("PODKEEP_WRITE_HEADER").is_some() {
        std::fs::write(&path, &generated).expect("include/podkeep.h can be written");
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == generated, "include/podkeep.h is stale: run `make header` and look at the difference");
}

/// Every file of src/ffi has to be given to the generator.
#[test]
fn no_room_of_the_abi_is_forgotten() {
    let test = std::fs::read_to_string(file!()).or_else(|_| std::fs::read_to_string(root().join("tests/header.rs")));
    let test = test.expect("this file");
    for entry in std::fs::read_dir(root().join("src/ffi")).expect("src/ffi") {
        let name = entry.expect("an entry").file_name().into_string().expect("UTF-8");
        assert!(name == "mod.rs" || test.contains(&format!("src/ffi/{name}")), "src/ffi/{name} is not in the header");
    }
}

fn exported(library: &Path) -> BTreeSet<String> {
    let output = Command::new("nm").args(["-D", "--defined-only"]).arg(library).output().expect("nm (binutils)");
    assert!(output.status.success(), "nm: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.lines().filter_map(|line| line.split_whitespace().last()).map(str::to_owned).collect()
}

#[test]
fn the_library_exports_what_the_header_says() {
    let library = root().join("build/stage/lib/libpodkeep.so.0");
    assert!(library.exists(), "{} is missing: run `make stage`", library.display());
    let header = generated();
    let declared: BTreeSet<String> = header
        .split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '('))
        .filter_map(|word| word.strip_suffix('(').or_else(|| word.split_once('(').map(|(name, _)| name)))
        .filter(|name| name.starts_with("podkeep_") && !name.ends_with('_'))
        .map(str::to_owned)
        .collect();
    assert_eq!(exported(&library), declared);
    assert!(declared.len() > 40, "the header declares {} functions", declared.len());
}
