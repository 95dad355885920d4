//! AMF0 values beside rml_amf0.

use std::io::Cursor;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, RngExt, SeedableRng};
use rml_amf0::Amf0Value;
use rtmp_bench::wire::amf0::{self, Fields, Value};

const SEEDS: u64 = 500;

#[test]
fn rml_reads_what_we_write() {
    for seed in 0..SEEDS {
        let values = values(&mut StdRng::seed_from_u64(seed));
        let mut bytes = vec![];
        amf0::encode_all(&values, &mut bytes);
        let theirs = rml_amf0::deserialize(&mut Cursor::new(&bytes)).unwrap();
        assert_eq!(theirs, values.iter().map(as_rml).collect::<Vec<_>>(), "seed {seed}");
    }
}

#[test]
fn we_read_what_rml_writes() {
    for seed in 0..SEEDS {
        let values: Vec<Amf0Value> = values(&mut StdRng::seed_from_u64(seed)).iter().map(as_rml).collect();
        let bytes = rml_amf0::serialize(&values).unwrap();
        let ours = amf0::decode_all(&bytes).unwrap();
        assert_eq!(ours.iter().map(as_rml).collect::<Vec<_>>(), values, "seed {seed}");
    }
}

fn values(rng: &mut impl Rng) -> Vec<Value> {
    let n = rng.random_range(0..6);
    (0..n).map(|_| value(rng, 0)).collect()
}

/// Any value that rml_amf0 knows. It has no dates (amf0 2.13), references (2.9), long strings (2.14), XML (2.17), typed objects (2.18) and no AMF3.
fn value(rng: &mut impl Rng, depth: u32) -> Value {
    match rng.random_range(0..if depth < 4 { 8 } else { 5 }) {
        0 => Value::Number(*[0.0, -0.0, 1.5, 1e18, f64::MIN_POSITIVE, f64::INFINITY].choose(rng).unwrap()),
        1 => Value::Boolean(rng.random()),
        2 => Value::String(string(rng).into()),
        3 => Value::Null,
        4 => Value::Undefined,
        5 => Value::Object(fields(rng, depth)),
        6 => Value::EcmaArray(fields(rng, depth)),
        _ => {
            let n = rng.random_range(0..4);
            Value::StrictArray((0..n).map(|_| value(rng, depth + 1)).collect())
        }
    }
}

/// Names differ and are not empty: rml_amf0 keeps a map, and takes an empty name for the end of the object, which amf0 2.5 leaves to the marker.
fn fields(rng: &mut impl Rng, depth: u32) -> Fields {
    let n = rng.random_range(0..5);
    (0..n).map(|i| (format!("{i}{}", string(rng)).into(), value(rng, depth + 1))).collect()
}

fn string(rng: &mut impl Rng) -> String {
    let mut letters = || *['a', 'Z', '\0', 'é', '語', '🎥'].choose(rng).unwrap();
    let (wide, n) = (letters() == 'Z', letters() as usize % 9);
    if wide { "x".repeat(65_530 + n % 4) } else { (0..n).map(|_| letters()).collect() }
}

/// The same value in rml_amf0's words, which has no arrays with names and makes objects of them.
fn as_rml(value: &Value) -> Amf0Value {
    let map =
        |fields: &Fields| fields.iter().map(|(name, value)| (name.to_string(), as_rml(value))).collect();
    match value {
        Value::Number(n) => Amf0Value::Number(*n),
        Value::Boolean(b) => Amf0Value::Boolean(*b),
        Value::String(s) => Amf0Value::Utf8String(s.to_string()),
        Value::Null => Amf0Value::Null,
        Value::Undefined => Amf0Value::Undefined,
        Value::Object(fields) | Value::EcmaArray(fields) => Amf0Value::Object(map(fields)),
        Value::StrictArray(values) => Amf0Value::StrictArray(values.iter().map(as_rml).collect()),
        other => panic!("{other:?} is none of rml_amf0's"),
    }
}
