//! When a certificate is ordered from an ACME server: renewal before it expires, and the pause after a failed order.
//! Apart from the orders, because all arithmetic with these times is here. All times are seconds since 1970.

/// A certificate is renewed when this part of its life is left, one third.
const REMAINING_DIVISOR: u64 = 3;
/// Renewals are spread over this part of the life before that, so that hosts do not renew at the same moment.
const SPREAD_DIVISOR: f64 = 30.0;
/// The pauses after the first failed orders in a row, in seconds. Let's Encrypt allows five failed validations of a host in
/// an hour (<https://letsencrypt.org/docs/rate-limits/>); these make four.
const FIRST_PAUSES: [u64; 3] = [60, 5 * 60, 20 * 60];
/// The pause after every further failure, in seconds.
pub const MAX_PAUSE: u64 = 3_600;
/// Between two successful orders of a host, in seconds: a server whose certificates are hardly valid is not asked in a
/// loop.
pub const MIN_ORDER_INTERVAL: u64 = 60;
/// The longest pause that an ACME server may ask for, in seconds.
const MAX_REQUESTED_PAUSE: u64 = 24 * 3_600;

/// From when to when a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CertificateValidity {
    pub not_before: u64,
    pub not_after: u64,
}

impl CertificateValidity {
    /// When it is to be renewed. `spread` from 0 to 1 must be the same each time for one certificate.
    #[must_use]
    pub fn renewal(self, spread: f64) -> u64 {
        let life = self.not_after.saturating_sub(self.not_before);
        let early = (life as f64 / SPREAD_DIVISOR * spread.clamp(0.0, 1.0)) as u64;
        self.not_after.saturating_sub(life / REMAINING_DIVISOR).saturating_sub(early).max(self.not_before)
    }
}

/// When a host is ordered next: at once without a certificate, else when that is to be renewed, but not before the pause
/// after the last order is over. A pause that ends in more than a day was noted by a clock that was wrong.
#[must_use]
pub fn next_order(certificate: Option<CertificateValidity>, spread: f64, paused_until: u64, now: u64) -> u64 {
    let is_possible = paused_until <= now.saturating_add(MAX_REQUESTED_PAUSE);
    let pause = if is_possible { paused_until } else { 0 };
    certificate.map_or(0, |validity| validity.renewal(spread)).max(pause)
}

/// The pause after `failures` failed orders in a row, in seconds. `jitter` from 0 to 1 makes it longer by up to a tenth;
/// `requested` is what the ACME server asked for.
#[must_use]
pub fn pause_after_failure(failures: u32, jitter: f64, requested: Option<u64>) -> u64 {
    let number = usize::try_from(failures.saturating_sub(1)).unwrap_or(usize::MAX);
    let pause = FIRST_PAUSES.get(number).copied().unwrap_or(MAX_PAUSE);
    let pause = pause + (pause as f64 / 10.0 * jitter.clamp(0.0, 1.0)) as u64;
    pause.max(requested.unwrap_or(0).min(MAX_REQUESTED_PAUSE))
}

/// Which of `count` challenges is tried after `failures` failed orders, if `preferred` worked last.
#[must_use]
pub fn challenge_number(preferred: usize, failures: u32, count: usize) -> usize {
    let failures = usize::try_from(failures).unwrap_or(0);
    preferred.wrapping_add(failures).checked_rem(count).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;

    #[test]
    fn a_certificate_is_renewed_when_a_third_of_its_life_is_left() {
        let of_days =
            |days: u64| CertificateValidity { not_before: 1_000 * DAY, not_after: (1_000 + days) * DAY };
        assert_eq!(of_days(90).renewal(0.0), 1_060 * DAY);
        assert_eq!(of_days(90).renewal(1.0), 1_057 * DAY);
        assert_eq!(of_days(6).renewal(0.0), 1_004 * DAY);
        assert_eq!(of_days(90).renewal(7.0), of_days(90).renewal(1.0));
        assert_eq!(of_days(90).renewal(f64::NAN), 1_060 * DAY);
    }

    #[test]
    fn a_validity_that_makes_no_sense_is_renewed_and_never_overflows() {
        for (not_before, not_after) in [(0, 0), (9, 3), (u64::MAX, 0), (0, u64::MAX), (u64::MAX, u64::MAX)] {
            let renewal = CertificateValidity { not_before, not_after }.renewal(0.5);
            assert!(renewal >= not_before, "{not_before} {not_after}");
        }
    }

    #[test]
    fn a_missing_certificate_is_ordered_at_once_unless_a_pause_is_left() {
        let valid = Some(CertificateValidity { not_before: 0, not_after: 90 * DAY });
        assert_eq!(next_order(None, 0.3, 0, 50), 0);
        assert_eq!(next_order(None, 0.3, 77, 50), 77);
        assert_eq!(next_order(valid, 0.0, 77, 50), 60 * DAY);
        assert_eq!(next_order(valid, 0.0, 61 * DAY, 60 * DAY), 61 * DAY);
        assert_eq!(next_order(None, 0.3, 9_000 * DAY, 60 * DAY), 0, "the clock was wrong");
    }

    #[test]
    fn orders_that_keep_failing_are_an_hour_apart_or_more() {
        let mut at = 0;
        let mut orders = vec![0];
        for failures in 1..=10 {
            at += pause_after_failure(failures, 0.0, None);
            orders.push(at);
        }
        assert_eq!(orders.iter().filter(|at| **at < 3_600).count(), 4, "{orders:?}");
        assert!(orders[4..].windows(2).all(|pair| pair[1] - pair[0] >= 3_600), "{orders:?}");
        assert_eq!(pause_after_failure(u32::MAX, 1.0, None), 3_960);
        assert_eq!(pause_after_failure(1, 0.0, Some(7_200)), 7_200);
        assert_eq!(pause_after_failure(9, 0.0, Some(u64::MAX)), DAY);
        assert_eq!(pause_after_failure(0, f64::NAN, Some(0)), 60);
    }

    #[test]
    fn each_failure_moves_on_to_the_next_challenge() {
        let tried: Vec<usize> = (0..4).map(|failures| challenge_number(1, failures, 2)).collect();
        assert_eq!(tried, [1, 0, 1, 0]);
        assert_eq!(challenge_number(0, 5, 1), 0);
        assert_eq!(challenge_number(7, u32::MAX, 0), 0);
    }
}
