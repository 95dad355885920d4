#![no_main]
use rtmp_bench::fuzzing;
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzzing::capture(bytes));
