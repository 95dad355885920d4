//! The most sessions that still keep a promise: doubled until they do not, then halved between.

/// What is tried first, unless fewer are allowed.
const FIRST: u32 = 8;
/// The answer is exact to one in so many.
const EXACT: u32 = 20;

/// How many sessions did, judged by a run of each number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Search {
    max: u32,
    /// Why no more than that are tried.
    why: Bound,
    most: u32,
    /// The fewest that did not, and because of whom.
    above: Option<(u32, Bound)>,
    /// To be tried again: once we were the limit of it, which may have been by chance.
    again: Option<u32>,
}

/// What a run said of its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Promises were kept.
    Held,
    /// They were not, and because of whom.
    Missed(Bound),
    /// We were the limit: it is no answer.
    Limited,
}

/// Why there are no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// The target did not keep it with more.
    Target,
    /// We could not make more.
    Generator,
    /// No more were allowed.
    Asked,
}

impl Bound {
    /// As records name it.
    pub const fn name(self) -> &'static str {
        match self {
            Bound::Target => "target",
            Bound::Generator => "generator",
            Bound::Asked => "asked",
        }
    }
}

impl Search {
    /// Of one session to so many, which is all that were asked for or all that we can make.
    pub fn new(max: u32, why: Bound) -> Search {
        Search { max, why, most: 0, above: None, again: None }
    }

    /// What is to be tried next; `None`: that is all.
    pub fn next(&self) -> Option<u32> {
        match self.above {
            _ if self.again.is_some() => self.again,
            None if self.most == self.max => None,
            None => Some(self.most.saturating_mul(2).max(FIRST).min(self.max)),
            Some((above, _)) if above - self.most <= (self.most / EXACT).max(1) => None,
            Some((above, _)) => Some(self.most + (above - self.most) / 2),
        }
    }

    /// What a run of the number that was to be tried came to.
    pub fn take(&mut self, sessions: u32, answer: Answer) {
        let again = self.again.take().is_some();
        match answer {
            Answer::Held => self.most = sessions,
            Answer::Limited if !again => self.again = Some(sessions),
            Answer::Limited => self.above = Some((sessions, Bound::Generator)),
            Answer::Missed(by) => self.above = Some((sessions, by)),
        }
    }

    /// The most that kept it.
    pub fn most(&self) -> Option<u32> {
        (self.most > 0).then_some(self.most)
    }

    /// Why there are no more.
    pub fn bound(&self) -> Bound {
        self.above.map_or(self.why, |(_, by)| by)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The search of a target that carries so many, by a generator that carries so many.
    fn search(max: u32, target: u32, generator: u32) -> (Search, Vec<u32>) {
        let (mut search, mut tried) = (Search::new(max, Bound::Asked), Vec::new());
        while let Some(n) = search.next() {
            tried.push(n);
            assert!((1..=max).contains(&n) && tried.len() < 32, "{tried:?}");
            let answer = match n {
                n if n > generator => Answer::Limited,
                n if n > target => Answer::Missed(Bound::Target),
                _ => Answer::Held,
            };
            search.take(n, answer);
        }
        (search, tried)
    }

    #[test]
    fn the_most_is_found_whatever_it_is() {
        for target in (1..300).chain([999, 1000, 1001, 5000, 19_999]) {
            let (search, tried) = search(20_000, target, u32::MAX);
            let most = search.most().expect("one");
            assert!(most <= target && target - most <= target / EXACT, "{target}: {most} by {tried:?}");
            assert_eq!(search.bound(), Bound::Target);
        }
        assert_eq!(search(20_000, 100, u32::MAX).1, [8, 16, 32, 64, 128, 96, 112, 104, 100]);
    }

    #[test]
    fn none_and_all_are_answers_too() {
        let (none, tried) = search(100, 0, u32::MAX);
        assert_eq!((none.most(), none.bound(), tried), (None, Bound::Target, vec![8, 4, 2, 1]));
        let (all, tried) = search(100, u32::MAX, u32::MAX);
        assert_eq!((all.most(), all.bound(), tried), (Some(100), Bound::Asked, vec![8, 16, 32, 64, 100]));
        assert_eq!(search(3, u32::MAX, u32::MAX).1, [3]);
        let mut open = Search::new(3, Bound::Generator);
        open.take(3, Answer::Held);
        assert_eq!((open.most(), open.next(), open.bound()), (Some(3), None, Bound::Generator));
    }

    #[test]
    fn our_own_limit_is_never_the_targets() {
        let (ours, _) = search(1000, u32::MAX, 50);
        assert_eq!((ours.most(), ours.bound()), (Some(50), Bound::Generator));
        // Once may be by chance.
        let (mut lucky, mut tried) = (Search::new(16, Bound::Asked), Vec::new());
        for answer in [Answer::Limited, Answer::Held, Answer::Limited, Answer::Limited, Answer::Held] {
            let n = lucky.next().expect("one more");
            lucky.take(n, answer);
            tried.push(n);
        }
        assert_eq!((tried, lucky.most(), lucky.next()), (vec![8, 8, 16, 16, 12], Some(12), Some(14)));
        // Where both are too many but fewer are too many for the target alone, it is the target's.
        let (theirs, _) = search(1000, 20, 50);
        assert_eq!((theirs.most(), theirs.bound()), (Some(20), Bound::Target));
    }
}
