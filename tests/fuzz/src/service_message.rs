//! Any bytes as one message of the service protocol.
#![no_main]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| hubring::protocol::service::fuzz_service_message(data));
