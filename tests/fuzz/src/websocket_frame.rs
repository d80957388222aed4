//! Any bytes as WebSocket frames.
#![no_main]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| hubring::frame::websocket::fuzz_websocket_frame(data));
