//! The first bytes of audio and video messages: legacy FLV bodies and enhanced RTMP v2.
