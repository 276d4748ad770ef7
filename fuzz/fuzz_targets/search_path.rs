#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| dragonfly_fuzz::search_path::check(input));
