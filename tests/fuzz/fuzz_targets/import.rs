#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| domino_icm_fuzz::targets::import(data));
