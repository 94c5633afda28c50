#![no_main]

// 64 calls, each with a message and what waits to be sent of its answer.
podkeep_fuzz::fuzz_target!(|data: &[u8]| podkeep_fuzz::within(1 << 20, 32 << 20, || podkeep::fuzzing::control(data)));
