//! FLV files: reading and writing (flv annex E).
