//! Any bytes as records with a length.
#![no_main]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| hubring::frame::record::fuzz_varint_records(data));
