//! Any bytes as messages of two app servers, to the routers of two shards.
#![no_main]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| hubring::routing::fuzz_router(data));
