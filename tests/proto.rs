//! What was generated from proto/ is what proto/ says: nobody needs a compiler of these files to build the library.
#![cfg(feature = "grpc")]

use prost::Message;
use std::path::{Path, PathBuf};

const FILES: [&str; 2] = ["podkeep/v1/control.proto", "grpc/health/v1/health.proto"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Makes src/control/proto's files in `directory`.
fn generate(directory: &Path) {
    let mut files = protox::compile(FILES, [root().join("proto")]).expect("proto/ compiles");
    let code = tonic_prost_build::configure().build_transport(false).emit_rerun_if_changed(false).out_dir(directory);
    code.compile_fds(files.clone()).expect("code is generated");
    // For reflection; what the comments say is in the repository.
    files.file.iter_mut().for_each(|file| file.source_code_info = None);
    std::fs::write(directory.join("descriptors.bin"), files.encode_to_vec()).expect("descriptors.bin");
}

#[test]
fn the_generated_code_is_what_proto_says() {
    let kept = root().join("src/control/proto");
    if std::env::var_os("PODKEEP_WRITE_PROTO").is_some() {
        generate(&kept);
    }
    let fresh = Path::new(env!("CARGO_TARGET_TMPDIR")).join("proto");
    std::fs::create_dir_all(&fresh).expect("a directory for it");
    generate(&fresh);
    for name in ["podkeep.v1.rs", "grpc.health.v1.rs", "descriptors.bin"] {
        let (kept, fresh) = (std::fs::read(kept.join(name)), std::fs::read(fresh.join(name)).expect(name));
        assert!(kept.is_ok_and(|kept| kept == fresh), "src/control/proto/{name} is stale: run `make proto`");
    }
}
