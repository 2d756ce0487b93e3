//! Which of an origin's addresses are asked: one that keeps failing is left out, and tried again by one request at a time. No
//! I/O and no clock: who calls says what time it is.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crate::limits::{
    OUTLIER_ADDRESSES_MAX, OUTLIER_ANSWERS_MIN, OUTLIER_CONNECT_ERRORS, OUTLIER_FAILED_PERCENT,
    OUTLIER_PROBE_AFTER, OUTLIER_PROBE_MAX, OUTLIER_WINDOW_SECONDS,
};

/// The addresses of one origin and how they did lately.
#[derive(Debug, Default)]
pub struct Circle {
    members: Vec<Member>,
    tickets: u64,
}

/// Names one probe, so that no other can speak for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket(u64);

/// What an address came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is left out.
    Ejected {
        /// Which one.
        address: SocketAddr,
        /// Why.
        reason: Reason,
        /// How long until it is tried again.
        wait: Duration,
        /// Whether it was left out before and the probe failed.
        again: bool,
    },
    /// It is asked again.
    Restored(SocketAddr),
}

/// Why an address is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Connections to it could not be opened.
    Connects,
    /// Too many of its answers were 5xx.
    Answers,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connects => "connections fail",
            Self::Answers => "answers are 5xx",
        })
    }
}

#[derive(Debug)]
struct Member {
    address: SocketAddr,
    /// Whether the name stood for it when it was last resolved.
    present: bool,
    /// Connects that failed since one did not.
    refusals: u32,
    answers: Answers,
    out: Option<Out>,
}

#[derive(Debug)]
struct Out {
    /// When a request may try it.
    due: Duration,
    wait: Duration,
    /// The request that does.
    probe: Option<Ticket>,
}

/// Answers of the last seconds, one slot each.
#[derive(Debug, Default)]
struct Answers {
    slots: [Slot; OUTLIER_WINDOW_SECONDS as usize],
    /// The second of the last failure: as long as there is none, nothing needs to be summed.
    failed_at: Option<u64>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Slot {
    second: u64,
    all: u32,
    failed: u32,
}

impl Circle {
    /// The addresses to connect to, in the order given, without those that are left out. One that is to be tried again comes
    /// first, and its ticket with it.
    pub fn plan(
        &mut self,
        addresses: &[SocketAddr],
        now: Duration,
    ) -> (Vec<SocketAddr>, Option<Ticket>) {
        self.resolved(addresses, now);
        let mut plan = Vec::with_capacity(addresses.len());
        let mut ticket = None;
        if let Some(member) = self.members.iter_mut().find(|member| member.is_due(now))
            && let Some(out) = &mut member.out
        {
            self.tickets += 1;
            ticket = Some(Ticket(self.tickets));
            out.probe = ticket;
            plan.push(member.address);
        }
        plan.extend(addresses.iter().filter(|address| !self.is_out(**address)));
        (plan, ticket)
    }

    /// Whether an address is to be tried again.
    pub fn probe_due(&self, now: Duration) -> bool {
        self.members.iter().any(|member| member.is_due(now))
    }

    /// Whether an address is left out.
    pub fn is_out(&self, address: SocketAddr) -> bool {
        self.members
            .iter()
            .any(|member| member.address == address && member.out.is_some())
    }

    /// How many are left out.
    pub fn ejected(&self) -> usize {
        let out = self.members.iter().filter(|member| member.out.is_some());
        out.count()
    }

    /// A connection stands, which ends a row of failed ones.
    pub fn connected(&mut self, address: SocketAddr) {
        if let Some(member) = self.member(address) {
            member.refusals = 0;
        }
    }

    /// A connection could not be opened.
    pub fn connect_failed(
        &mut self,
        address: SocketAddr,
        ticket: Option<Ticket>,
        now: Duration,
    ) -> Option<Change> {
        let member = self.member(address)?;
        if member.out.is_some() {
            return member.probed(ticket, Some(Reason::Connects), now);
        }
        member.refusals += 1;
        match member.refusals >= OUTLIER_CONNECT_ERRORS {
            true => self.eject(address, Reason::Connects, now),
            false => None,
        }
    }

    /// A request was answered; `failed`: with a 5xx, or not at all.
    pub fn answered(
        &mut self,
        address: SocketAddr,
        ticket: Option<Ticket>,
        failed: bool,
        now: Duration,
    ) -> Option<Change> {
        let member = self.member(address)?;
        if member.out.is_some() {
            return member.probed(ticket, failed.then_some(Reason::Answers), now);
        }
        match member.answers.count(failed, now.as_secs()) {
            true => self.eject(address, Reason::Answers, now),
            false => None,
        }
    }

    /// A probe ended without an outcome: another request may try.
    pub fn given_up(&mut self, ticket: Ticket) {
        for out in self.members.iter_mut().filter_map(|m| m.out.as_mut()) {
            if out.probe == Some(ticket) {
                out.probe = None;
            }
        }
    }

    fn member(&mut self, address: SocketAddr) -> Option<&mut Member> {
        self.members.iter_mut().find(|m| m.address == address)
    }

    /// Takes in what the name stands for now. What is not among it any more is remembered as long as there is room, for names
    /// that stand for others each time. Of those beyond the room nothing is known, and they are always asked.
    fn resolved(&mut self, addresses: &[SocketAddr], now: Duration) {
        for member in &mut self.members {
            member.present = addresses.contains(&member.address);
        }
        self.members
            .retain(|m| m.present || m.out.as_ref().is_none_or(|out| out.due > now));
        for address in addresses {
            if self.members.iter().any(|m| m.address == *address) {
                continue;
            }
            if self.members.len() >= OUTLIER_ADDRESSES_MAX {
                match self.members.iter().position(|member| !member.present) {
                    Some(gone) => drop(self.members.swap_remove(gone)),
                    None => break,
                }
            }
            self.members.push(Member::new(*address));
        }
        let unknown = addresses.len() > self.members.iter().filter(|m| m.present).count();
        let left = self.members.iter().any(|m| m.present && m.out.is_none());
        if !left && !unknown {
            // The name lost all that were asked: the one whose turn comes first has it now.
            let due = |member: &&mut Member| member.out.as_ref().map(|out| out.due);
            if let Some(member) = self
                .members
                .iter_mut()
                .filter(|m| m.present)
                .min_by_key(due)
            {
                *member = Member::new(member.address);
            }
        }
    }

    /// Leaves an address out, but never the last: then those that are out may be tried at once instead.
    fn eject(&mut self, address: SocketAddr, reason: Reason, now: Duration) -> Option<Change> {
        let others = |m: &Member| m.present && m.out.is_none() && m.address != address;
        let last = !self.members.iter().any(others);
        let member = self.member(address)?;
        *member = Member {
            present: member.present,
            ..Member::new(address)
        };
        if last {
            for out in self.members.iter_mut().filter_map(|m| m.out.as_mut()) {
                out.due = out.due.min(now);
            }
            return None;
        }
        let wait = OUTLIER_PROBE_AFTER;
        member.out = Some(Out {
            due: now + wait,
            wait,
            probe: None,
        });
        Some(Change::Ejected {
            address,
            reason,
            wait,
            again: false,
        })
    }
}

impl Member {
    fn new(address: SocketAddr) -> Self {
        Self {
            address,
            present: true,
            refusals: 0,
            answers: Answers::default(),
            out: None,
        }
    }

    fn is_due(&self, now: Duration) -> bool {
        let due = |out: &Out| out.probe.is_none() && out.due <= now;
        self.present && self.out.as_ref().is_some_and(due)
    }

    /// What came of one that is out. Only its probe counts, not what was under way before.
    fn probed(
        &mut self,
        ticket: Option<Ticket>,
        failed: Option<Reason>,
        now: Duration,
    ) -> Option<Change> {
        let out = self.out.as_mut()?;
        if ticket.is_none() || out.probe != ticket {
            return None;
        }
        let Some(reason) = failed else {
            *self = Self {
                present: self.present,
                ..Self::new(self.address)
            };
            return Some(Change::Restored(self.address));
        };
        let wait = (out.wait * 2).min(OUTLIER_PROBE_MAX);
        *out = Out {
            due: now + wait,
            wait,
            probe: None,
        };
        Some(Change::Ejected {
            address: self.address,
            reason,
            wait,
            again: true,
        })
    }
}

impl Answers {
    /// Counts one in, and says whether too many failed.
    fn count(&mut self, failed: bool, second: u64) -> bool {
        let slot = &mut self.slots[(second % OUTLIER_WINDOW_SECONDS) as usize];
        if slot.second != second {
            *slot = Slot {
                second,
                ..Slot::default()
            };
        }
        slot.all = slot.all.saturating_add(1);
        if failed {
            slot.failed = slot.failed.saturating_add(1);
            self.failed_at = Some(second);
        }
        let recent = |at: u64| at <= second && second - at < OUTLIER_WINDOW_SECONDS;
        if !self.failed_at.is_some_and(recent) {
            return false;
        }
        let (mut all, mut bad) = (0u64, 0u64);
        for slot in self.slots.iter().filter(|slot| recent(slot.second)) {
            all += u64::from(slot.all);
            bad += u64::from(slot.failed);
        }
        all >= OUTLIER_ANSWERS_MIN && bad * 100 >= all * OUTLIER_FAILED_PERCENT
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, last], 80))
    }

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn two() -> (Circle, [SocketAddr; 2]) {
        let (mut circle, both) = (Circle::default(), [address(1), address(2)]);
        assert_eq!(circle.plan(&both, at(0)), (both.to_vec(), None));
        (circle, both)
    }

    fn refuse(circle: &mut Circle, which: SocketAddr, times: u32, now: Duration) -> Vec<Change> {
        (0..times)
            .filter_map(|_| circle.connect_failed(which, None, now))
            .collect()
    }

    fn ejected(which: SocketAddr, reason: Reason, seconds: u64, again: bool) -> Change {
        Change::Ejected {
            address: which,
            reason,
            wait: Duration::from_secs(seconds),
            again,
        }
    }

    #[test]
    fn five_failed_connects_in_a_row_and_not_four() {
        let (mut circle, both) = two();
        let [one, other] = both;
        assert_eq!(refuse(&mut circle, one, 4, at(0)), []);
        circle.connected(one);
        assert_eq!(refuse(&mut circle, one, 4, at(1)), []);
        assert_eq!(
            refuse(&mut circle, one, 1, at(2)),
            [ejected(one, Reason::Connects, 5, false)]
        );
        assert!(circle.is_out(one) && circle.ejected() == 1);
        assert_eq!(circle.plan(&both, at(5001)), (vec![other], None));
    }

    #[test]
    fn half_of_twenty_answers_within_ten_seconds() {
        let (mut circle, [one, _]) = two();
        let mut answer = |failed, now| circle.answered(one, None, failed, at(now));
        // Nineteen are too few, all of them 5xx.
        for _ in 0..19 {
            assert_eq!(answer(true, 0), None);
        }
        // These are forgotten: 9 of 20 are not half, 10 of 21 neither, 11 of 22 are.
        for failed in [true, false] {
            for _ in 0..9 + u32::from(!failed) * 2 {
                assert_eq!(answer(failed, 10_000), None);
            }
        }
        assert_eq!(answer(true, 19_000), None);
        assert_eq!(
            answer(true, 19_999),
            Some(ejected(one, Reason::Answers, 5, false))
        );
    }

    #[test]
    fn the_last_one_stays_and_calls_the_others_back() {
        let (mut circle, both) = two();
        let [one, other] = both;
        assert_eq!(refuse(&mut circle, one, 5, at(0)).len(), 1);
        assert_eq!(refuse(&mut circle, other, 4, at(1)), []);
        assert!(!circle.probe_due(at(1)));
        assert_eq!(refuse(&mut circle, other, 1, at(1)), []);
        assert!(!circle.is_out(other) && circle.probe_due(at(1)));
        // An origin of one address never loses it.
        let mut alone = Circle::default();
        alone.plan(&[one], at(0));
        assert_eq!(refuse(&mut alone, one, 50, at(0)), []);
        assert_eq!(alone.plan(&[one], at(0)), (vec![one], None));
    }

    #[test]
    fn a_name_that_lost_its_good_addresses_gets_one_back() {
        let (mut circle, both) = two();
        let [one, _] = both;
        refuse(&mut circle, one, 5, at(0));
        assert_eq!(circle.plan(&[one], at(1)), (vec![one], None));
        assert_eq!(circle.ejected(), 0);
    }

    #[test]
    fn one_probe_at_a_time_with_growing_pauses() {
        let (mut circle, both) = two();
        let [one, other] = both;
        refuse(&mut circle, one, 5, at(0));
        let mut now = 0;
        for (wait, next) in [(5, 10), (10, 20), (20, 40), (40, 60), (60, 60)] {
            now += wait * 1000;
            assert!(!circle.probe_due(at(now - 1)) && circle.probe_due(at(now)));
            let (plan, ticket) = circle.plan(&both, at(now));
            assert!(plan == [one, other] && ticket.is_some());
            assert!(!circle.probe_due(at(now)), "taken");
            assert_eq!(circle.plan(&both, at(now)), (vec![other], None));
            // What others bring, late, does not count.
            assert_eq!(circle.answered(one, None, false, at(now)), None);
            assert_eq!(circle.connect_failed(one, None, at(now)), None);
            let change = circle.answered(one, ticket, true, at(now));
            assert_eq!(change, Some(ejected(one, Reason::Answers, next, true)));
            // Nor does a second word of the same.
            assert_eq!(circle.answered(one, ticket, false, at(now)), None);
        }
        now += 60_000;
        let (_, first) = circle.plan(&both, at(now));
        circle.given_up(first.expect("a ticket"));
        let (_, second) = circle.plan(&both, at(now));
        assert_ne!(first, second);
        assert_eq!(circle.answered(one, first, false, at(now)), None);
        let change = circle.answered(one, second, false, at(now));
        assert_eq!(change, Some(Change::Restored(one)));
        assert_eq!(circle.plan(&both, at(now)), (both.to_vec(), None));
        // It begins anew, and so do its pauses.
        assert_eq!(
            refuse(&mut circle, one, 5, at(now)),
            [ejected(one, Reason::Connects, 5, false)]
        );
    }

    #[test]
    fn room_is_bounded_and_goes_to_those_that_are_there() {
        let mut circle = Circle::default();
        for round in 0..4u8 {
            let many: Vec<_> = (0..20).map(|n| address(round * 20 + n)).collect();
            assert_eq!(circle.plan(&many, at(0)).0, many);
            assert!(circle.members.len() <= OUTLIER_ADDRESSES_MAX);
            assert!(many.iter().all(|a| circle.member(*a).is_some()));
        }
        let many: Vec<_> = (0..200).map(address).collect();
        assert_eq!(circle.plan(&many, at(0)).0, many);
        assert_eq!(circle.members.len(), OUTLIER_ADDRESSES_MAX);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Plan(u8),
        Connect(u8, bool),
        Answer(u8, bool),
        Probe(usize, u8),
        Wait(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            2 => (1u8..8).prop_map(Step::Plan),
            4 => (0u8..3, prop::bool::weighted(0.2)).prop_map(|(n, ok)| Step::Connect(n, ok)),
            4 => (0u8..3, prop::bool::weighted(0.4)).prop_map(|(n, ok)| Step::Answer(n, ok)),
            2 => (0usize..8, 0u8..3).prop_map(|(n, how)| Step::Probe(n, how)),
            1 => (0u64..12_000).prop_map(Step::Wait),
        ];
        prop::collection::vec(step, 0..400)
    }

    proptest! {
        /// Whatever happens, a plan names somebody, one that is out is in it for its only probe alone, and each change is told.
        #[test]
        fn somebody_is_always_asked(steps in steps()) {
            let mut circle = Circle::default();
            let mut now = at(0);
            let mut out = std::collections::BTreeSet::new();
            let mut probes: Vec<(SocketAddr, Ticket)> = Vec::new();
            let known = [address(0), address(1), address(2)];
            for step in steps {
                let mut change = None;
                match step {
                    Step::Plan(mask) => {
                        let named: Vec<_> = (0..3).filter(|n| mask >> n & 1 == 1)
                            .map(address).collect();
                        let (plan, ticket) = circle.plan(&named, now);
                        prop_assert!(!plan.is_empty());
                        // A name that lost the others gets one back, and one that is gone is forgotten.
                        out.retain(|address| circle.is_out(*address));
                        for (index, address) in plan.iter().enumerate() {
                            prop_assert!(named.contains(address));
                            prop_assert!(!out.contains(address) || index == 0 && ticket.is_some());
                        }
                        prop_assert!(plan.iter().any(|address| !out.contains(address)));
                        if let Some(ticket) = ticket {
                            prop_assert!(out.contains(&plan[0]));
                            let live = probes.iter().filter(|(address, ticket)| {
                                let held = circle.members.iter().filter_map(|m| m.out.as_ref())
                                    .any(|out| out.probe == Some(*ticket));
                                *address == plan[0] && held
                            });
                            prop_assert_eq!(live.count(), 0, "two probes at once");
                            probes.push((plan[0], ticket));
                        }
                    }
                    Step::Connect(n, true) => circle.connected(address(n)),
                    Step::Connect(n, false) => {
                        change = circle.connect_failed(address(n), None, now);
                    }
                    Step::Answer(n, ok) => change = circle.answered(address(n), None, !ok, now),
                    Step::Probe(index, how) if index < probes.len() => {
                        let (address, ticket) = probes.remove(index);
                        match how {
                            0 => circle.given_up(ticket),
                            how => {
                                change = circle.answered(address, Some(ticket), how == 1, now);
                            }
                        }
                    }
                    Step::Probe(..) => {}
                    Step::Wait(millis) => now += at(millis),
                }
                match change {
                    Some(Change::Ejected { address, again, wait, .. }) => {
                        prop_assert_eq!(out.insert(address), !again);
                        prop_assert!((OUTLIER_PROBE_AFTER..=OUTLIER_PROBE_MAX).contains(&wait));
                    }
                    Some(Change::Restored(address)) => prop_assert!(out.remove(&address)),
                    None => {}
                }
                let told: Vec<_> = known.into_iter().filter(|a| circle.is_out(*a)).collect();
                prop_assert_eq!(out.iter().copied().collect::<Vec<_>>(), told);
            }
        }
    }
}
