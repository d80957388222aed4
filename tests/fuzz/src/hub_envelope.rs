//! Any bytes as one hub message, in either hub protocol.
#![no_main]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hubring::protocol::hub::fuzz_hub_envelope(bytes));
