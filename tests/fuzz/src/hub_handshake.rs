//! Any bytes as what a client sends first.
#![no_main]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hubring::protocol::hub::fuzz_hub_handshake(bytes));
