//! Any bytes as the head of an HTTP request.
#![no_main]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| hubring::frame::upgrade::fuzz_request_head(data));
