#![no_main]

podkeep_fuzz::fuzz_target!(|data: &[u8]| podkeep::fuzzing::host(data));
