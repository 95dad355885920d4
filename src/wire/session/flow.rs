//! Windows, acknowledgements and the limit on unacknowledged output (rtmp 5.4.3 to 5.4.5).

use super::HANDSHAKE_LEN;

/// Bytes of both directions and what was announced about them.
#[derive(Debug, Default)]
pub(super) struct Flow {
    /// Bytes received, handshake included.
    pub received: u64,
    /// Bytes sent, handshake included.
    pub sent: u64,
    /// The window that the peer announced.
    pub peer_window: Option<u32>,
    /// What `received` was at our last acknowledgement.
    pub last_ack: u64,
    /// The window that we announced last.
    pub window_sent: Option<u32>,
    /// What `sent` was as far as the peer acknowledged.
    acked: u64,
    /// What may be unacknowledged of `sent`.
    pub limit: Option<u32>,
    hard: bool,
}

impl Flow {
    /// Whether an acknowledgement is due. A window of 0 asks for none.
    pub fn due(&self) -> bool {
        self.peer_window
            .is_some_and(|window| window > 0 && self.received - self.last_ack >= u64::from(window))
    }

    /// The peer says that it received so many bytes, modulo 2^32. A number above what was sent, or below an earlier one, is nonsense and changes nothing.
    pub fn acknowledged(&mut self, count: u32) {
        let outstanding = u64::from((self.sent as u32).wrapping_sub(count));
        if let Some(acked) = self.sent.checked_sub(outstanding) {
            self.acked = self.acked.max(acked);
        }
    }

    /// Takes a Set Peer Bandwidth; whether a Window Acknowledgement Size of this size is to be announced.
    pub fn heed(&mut self, size: u32, limit_type: u8) -> bool {
        // A window of 0 would stop the session for good; undefined types say nothing.
        if size == 0 || limit_type > 2 {
            return false;
        }
        match limit_type {
            0 => (self.limit, self.hard) = (Some(size), true),
            1 => (self.limit, self.hard) = (Some(self.limit.map_or(size, |now| now.min(size))), false),
            _ if self.hard => self.limit = Some(size),
            _ => {}
        }
        self.window_sent != Some(size)
    }

    /// Whether more media may be sent. The handshake is allowed for, since some peers do not count it.
    pub fn open(&self) -> bool {
        self.limit.is_none_or(|limit| self.sent - self.acked < u64::from(limit) + HANDSHAKE_LEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledgements_fall_due_by_the_window() {
        for (window, received, last, due) in [
            (None, 1 << 40, 0, false),
            (Some(0), 1 << 40, 0, false),
            (Some(1), 1, 0, true),
            (Some(10), 19, 10, false),
            (Some(10), 20, 10, true),
            (Some(u32::MAX), u64::from(u32::MAX) - 1, 0, false),
            (Some(u32::MAX), u64::from(u32::MAX), 0, true),
        ] {
            let flow = Flow { peer_window: window, received, last_ack: last, ..Flow::default() };
            assert_eq!(flow.due(), due, "{window:?} {received} {last}");
        }
    }

    #[test]
    fn the_limit_follows_hard_soft_and_dynamic() {
        // rtmp 5.4.5
        for (steps, limit) in [
            (&[(50_000, 0)][..], Some(50_000)),
            (&[(50_000, 0), (500_000, 1)], Some(50_000)),
            (&[(500_000, 0), (50_000, 2)], Some(50_000)),
            (&[(500_000, 1), (50_000, 2)], Some(500_000)),
            (&[(50_000, 2)], None),
            (&[(50_000, 3), (0, 0)], None),
        ] {
            let mut flow = Flow::default();
            for &(size, limit_type) in steps {
                flow.heed(size, limit_type);
            }
            assert_eq!(flow.limit, limit, "{steps:?}");
        }
    }

    #[test]
    fn nonsense_acknowledgements_change_nothing() {
        let mut flow = Flow { sent: 100_000, ..Flow::default() };
        flow.heed(50_000, 0);
        assert!(!flow.open());
        for count in [100_001, u32::MAX, 0] {
            flow.acknowledged(count);
            assert!(!flow.open(), "{count}");
        }
        flow.acknowledged(90_000);
        flow.acknowledged(10);
        assert!(flow.open());
        // Past 2^32 the number wraps.
        let mut flow = Flow { sent: (1 << 32) + 5, limit: Some(10), ..Flow::default() };
        flow.acknowledged(1);
        assert_eq!(flow.acked, (1 << 32) + 1);
    }
}
