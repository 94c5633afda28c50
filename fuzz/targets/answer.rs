#![no_main]

// The length of an answer is believed up to 64 MiB.
podkeep_fuzz::fuzz_target!(|data: &[u8]| podkeep_fuzz::within(65 << 20, 130 << 20, || podkeep::fuzzing::answer(data)));
