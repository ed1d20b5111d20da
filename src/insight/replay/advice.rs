//! Advice for thresholds from a log: how a server's index was distributed, what share of the requests each threshold sets
//! it aside for, and at which index its answers became slow. Nothing is suggested that the log does not show.

use serde::{Deserialize, Serialize};

use super::tally::{IndexCounts, ServerTally, percent};

/// With fewer requests whose index is known a distribution says too little.
const MIN_REQUESTS: u64 = 1_000;
/// With fewer answers in ten points of the index their median says too little.
const MIN_ANSWERS: u64 = 100;
/// How much slower answers must be for a threshold to be worth it, as a factor and in milliseconds.
const SLOW_FACTOR: f64 = 2.0;
const SLOW_MS: f64 = 5.0;
/// A server that would be BUSY for a larger share is too small for its load, and a threshold only moves that load.
const MAX_BUSY_SHARE: f64 = 0.25;
/// The thresholds of the table.
const THRESHOLDS: [u8; 5] = [50, 60, 70, 80, 90];

/// What the log says about the threshold of one server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ThresholdAdvice {
    pub server: String,
    /// Requests for which it was a candidate, with a known index.
    pub requests: u64,
    /// The same with an unknown index.
    pub index_unknown: u64,
    /// The index at which a twentieth, half and nineteen twentieths of the requests found it, and the lowest.
    pub lowest: Option<u8>,
    pub p5: Option<u8>,
    pub median: Option<u8>,
    pub p95: Option<u8>,
    /// The threshold of the last record.
    pub threshold_now: Option<u8>,
    /// What share of the requests each threshold would set it aside for, in percent.
    pub set_aside: Vec<ThresholdShare>,
    /// How fast it answered at which index.
    pub answers: Vec<AnswersByIndex>,
    /// The threshold that the log supports; `None` = none.
    pub suggested: Option<u8>,
    pub reason: String,
}

/// A threshold, and the percentage of requests for which the index is at or under it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ThresholdShare {
    pub threshold: u8,
    pub percent: f64,
}

/// The answers of a server while its index was in this range.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct AnswersByIndex {
    pub from: u8,
    pub to: u8,
    pub answers: u64,
    /// Median of the milliseconds to the first byte.
    pub median_ms: f64,
}

/// What the counts of a server say.
#[must_use]
pub(super) fn advise(server: &str, tally: &ServerTally) -> ThresholdAdvice {
    let index = &tally.index;
    let answers = answers_by_index(tally);
    let (suggested, reason) = suggest(tally, &answers);
    ThresholdAdvice {
        server: server.to_owned(),
        requests: index.known,
        index_unknown: index.unknown,
        lowest: index.quantile(0.0),
        p5: index.quantile(0.05),
        median: index.quantile(0.5),
        p95: index.quantile(0.95),
        threshold_now: tally.threshold,
        set_aside: THRESHOLDS.iter().map(|threshold| share_at(tally, *threshold)).collect(),
        answers,
        suggested,
        reason,
    }
}

/// The share of requests for which every holder would be BUSY if all had this threshold.
pub(super) fn all_busy(counts: &IndexCounts) -> Vec<ThresholdShare> {
    let share = |threshold: &u8| ThresholdShare {
        threshold: *threshold,
        percent: percent(counts.up_to(*threshold), counts.known),
    };
    if counts.known == 0 { Vec::new() } else { THRESHOLDS.iter().map(share).collect() }
}

fn share_at(tally: &ServerTally, threshold: u8) -> ThresholdShare {
    let percent = percent(tally.index.up_to(threshold), tally.index.known);
    ThresholdShare { threshold, percent }
}

fn answers_by_index(tally: &ServerTally) -> Vec<AnswersByIndex> {
    let tens = (0_u8..).step_by(10).zip(&tally.times);
    tens.filter_map(|(from, times)| {
        let to = if from == 90 { 100 } else { from + 9 };
        let median_ms = (times.median_ms()? * 10.0).round() / 10.0;
        Some(AnswersByIndex { from, to, answers: times.count, median_ms })
    })
    .collect()
}

/// The threshold, and the reason for it or for none.
fn suggest(tally: &ServerTally, answers: &[AnswersByIndex]) -> (Option<u8>, String) {
    let known = tally.index.known;
    if known == 0 {
        return (None, "no index is known: no availability source published one".to_owned());
    }
    if known < MIN_REQUESTS {
        return (
            None,
            format!("too little data: its index is known for {known} requests, {MIN_REQUESTS} are needed"),
        );
    }
    let enough: Vec<&AnswersByIndex> = answers.iter().filter(|bin| bin.answers >= MIN_ANSWERS).collect();
    let [low @ .., best] = enough.as_slice() else {
        return (None, format!("too little data: no ten points of the index have {MIN_ANSWERS} answers"));
    };
    if low.is_empty() {
        let text = format!(
            "too little data: only at an index of {} to {} there are {MIN_ANSWERS} answers, so nothing shows how fast it \
             answers with a lower one",
            best.from, best.to
        );
        return (None, text);
    }
    let is_slow = |bin: &&&AnswersByIndex| {
        bin.median_ms >= best.median_ms * SLOW_FACTOR && bin.median_ms >= best.median_ms + SLOW_MS
    };
    // Slow at every lower index, too, else something other than load made it slow.
    let Some(highest) = low.iter().take_while(is_slow).last() else {
        return (None, "no threshold needed: its answers do not become slow as its index falls".to_owned());
    };
    let busy = share_at(tally, highest.to).percent;
    let slower = highest.median_ms / best.median_ms.max(0.1);
    let text = format!(
        "answers take {slower:.1} times as long at an index of {} to {} ({:.0} ms) as at {} to {} ({:.0} ms)",
        highest.from, highest.to, highest.median_ms, best.from, best.to, best.median_ms
    );
    if busy > MAX_BUSY_SHARE * 100.0 {
        let text = format!(
            "{text}, but a threshold of {} would set it aside for {busy:.1} % of the requests: it is too small for its \
             load, and a smaller weight or another server helps more",
            highest.to
        );
        return (None, text);
    }
    (Some(highest.to), format!("{text}; it would be set aside for {busy:.1} % of the requests"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that was at each index for so many requests, and answered them in this time.
    fn tally(answers: &[(u8, u64, u64)]) -> ServerTally {
        let mut tally = ServerTally::default();
        for (index, count, ms) in answers {
            for _ in 0..*count {
                tally.index.add(Some(*index));
                tally.answered(f32::from(*index), *ms);
            }
        }
        tally
    }

    #[test]
    fn a_threshold_is_suggested_where_answers_become_slow() {
        let advice =
            advise("Web1/Acme", &tally(&[(95, 2_000, 20), (65, 1_000, 22), (44, 300, 90), (38, 200, 150)]));
        assert_eq!(advice.suggested, Some(49), "{}", advice.reason);
        assert!(advice.reason.contains("14.3 % of the requests"), "{}", advice.reason);
        let shares: Vec<f64> = advice.set_aside.iter().map(|share| share.percent).collect();
        assert_eq!(shares, [14.3, 14.3, 42.9, 42.9, 42.9]);
        assert_eq!((advice.lowest, advice.median, advice.p95), (Some(38), Some(95), Some(95)));
    }

    #[test]
    fn nothing_is_suggested_that_the_log_does_not_show() {
        for (answers, reason) in [
            (&[][..], "no index is known"),
            (&[(90, 200, 10)][..], "too little data: its index is known for 200"),
            (&[(90, 5_000, 10), (20, 50, 500)][..], "only at an index of 90 to 100"),
            (&[(90, 2_000, 10), (20, 2_000, 12)][..], "do not become slow"),
            (&[(90, 2_000, 1), (20, 200, 3)][..], "do not become slow"),
            (&[(90, 2_000, 10), (60, 500, 500), (20, 500, 12)][..], "do not become slow"),
            (&[(90, 2_000, 10), (20, 2_000, 100)][..], "too small for its load"),
        ] {
            let advice = advise("Web1/Acme", &tally(answers));
            assert!(
                advice.suggested.is_none() && advice.reason.contains(reason),
                "{answers:?}: {}",
                advice.reason
            );
        }
    }
}
