//! One function a fuzz target, for `fuzz/` and for tests on stable.

use crate::wire::amf0;

/// Any bytes as AMF0: read or refused; what was read can be written, reads again, and is then written alike.
///
/// # Panics
/// When that does not hold.
pub fn amf0(bytes: &[u8]) {
    let Ok(values) = amf0::decode_all(bytes) else { return };
    // Written again, AMF3 traits stand in full: more values than the limit can come of what was within it.
    if bytes.len() > amf0::MAX_VALUES / 4 {
        return;
    }
    let (mut once, mut twice) = (Vec::new(), Vec::new());
    amf0::encode_all(&values, &mut once);
    let again =
        amf0::decode_all(&once).unwrap_or_else(|e| panic!("{e} in {once:02x?}, written for {values:?}"));
    amf0::encode_all(&again, &mut twice);
    assert_eq!(once, twice);
}
