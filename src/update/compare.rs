//! Pure: whether a model that looks along with the running one, or is in charge on trial, does as well.

use serde::{Deserialize, Serialize};

use super::probe::pairs;
use crate::perception::protocol::SeenFrame;

/// How long a release is watched before it is believed, and by what it is measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rules {
    /// Live frames that both have looked at.
    pub shadow_frames: u32,
    /// Frames in charge.
    pub trial_frames: u32,
    /// Of the things that either sees, so many must be seen by both: 2 × both / (one + other).
    pub agreement: f64,
    /// Things a frame, against those of the running model: at most so many times more, or fewer.
    pub rate: f64,
    /// Processor time of the frames, against the running model's for the same frames; by the clock where either runs on an accelerator.
    pub slower: f64,
    /// Memory of the child may grow by so much between the first frames and the last, MB.
    pub growth_mb: u64,
    /// Below so many things seen by either, agreement and rate say nothing; the shadow goes on, up to four times as long.
    pub things: u32,
}

impl Default for Rules {
    fn default() -> Rules {
        let (shadow_frames, trial_frames) = (200, 200);
        Rules { shadow_frames, trial_frames, agreement: 0.6, rate: 2.0, slower: 2.0, growth_mb: 200, things: 20 }
    }
}

impl Rules {
    /// The first value that cannot be, with its key.
    pub fn fault(&self) -> Option<(&'static str, String)> {
        if self.shadow_frames == 0 || self.trial_frames == 0 {
            return Some(("shadow_frames", "and trial_frames must be above 0: nothing is believed unseen".to_owned()));
        }
        if !(0.0..=1.0).contains(&self.agreement) {
            return Some(("agreement", format!("{} is out of range, expected 0 to 1", self.agreement)));
        }
        if !(self.rate >= 1.0 && self.slower >= 1.0) {
            return Some(("rate", "and slower are factors and must be at least 1".to_owned()));
        }
        None
    }
}

/// What a model would have reported of one frame, and what that took.
#[derive(Debug, Clone)]
pub struct Seen<'a> {
    pub things: Vec<(&'a str, [f32; 4])>,
    /// By the clock: how late the frame is. It says as much of the computer's other work as of the model.
    pub ms: f64,
    /// Processor time, ms; none on an accelerator.
    pub cpu_ms: Option<f64>,
    /// Pixels that went into the graph, 10^6.
    pub mpx: f64,
}

impl<'a> From<&'a SeenFrame> for Seen<'a> {
    fn from(frame: &'a SeenFrame) -> Seen<'a> {
        let sure = frame.sightings.iter().filter(|s| s.sure);
        let things = sure.map(|s| (s.class.as_str(), s.bbox)).collect();
        Seen { things, ms: frame.detect_ms, cpu_ms: frame.cpu_ms, mpx: frame.fed_mpx }
    }
}

/// What has been seen so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    pub frames: u32,
    /// Frames the new one could not look at though the running one could.
    pub failed: u32,
    pub running: u32,
    pub new: u32,
    pub both: u32,
    /// By the clock.
    pub running_ms: f64,
    pub new_ms: f64,
    /// By what they are judged, ms: processor time, or the clock where one of the two has none.
    pub running_cost: f64,
    pub new_cost: f64,
    /// Frames that were judged by the clock.
    pub by_clock: u32,
    /// Frames at which the new one's cost alone was beyond the limit.
    pub slow: u32,
    /// Processor time of the new one, ms, and the pixels it was for, 10^6; of frames that have both.
    pub cpu_ms: f64,
    pub mpx: f64,
    /// Of the child, after the first tenth of the frames, and now.
    pub first_mb: u64,
    pub last_mb: u64,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    NotYet,
    Passed(String),
    Failed(String),
}

impl Tally {
    /// Both looked at the same frame.
    pub fn frame(&mut self, running: &Seen, new: &Seen, memory_mb: Option<u64>, rules: &Rules) {
        self.frames += 1;
        self.running += running.things.len() as u32;
        self.new += new.things.len() as u32;
        self.both += pairs(&running.things, &new.things) as u32;
        // The shadow's child is niced and waits for the processor: the clock would compare who has to wait.
        let (running_cost, new_cost) = match (running.cpu_ms, new.cpu_ms) {
            (Some(running), Some(new)) => (running, new),
            _ => {
                self.by_clock += 1;
                (running.ms, new.ms)
            }
        };
        self.running_cost += running_cost;
        self.new_cost += new_cost;
        self.slow += u32::from(new_cost > running_cost * rules.slower);
        self.running_ms += running.ms;
        self.took(new);
        self.memory(memory_mb, rules.shadow_frames);
    }

    /// The new one failed at a frame that the running one could look at.
    pub fn failure(&mut self) {
        self.frames += 1;
        self.failed += 1;
    }

    /// The new one is in charge and looked at a frame.
    pub fn trial_frame(&mut self, new: &Seen, memory_mb: Option<u64>, rules: &Rules) {
        self.frames += 1;
        self.new += new.things.len() as u32;
        self.took(new);
        self.memory(memory_mb, rules.trial_frames);
    }

    fn took(&mut self, new: &Seen) {
        self.new_ms += new.ms;
        if let Some(cpu_ms) = new.cpu_ms {
            self.cpu_ms += cpu_ms;
            self.mpx += new.mpx;
        }
    }

    /// Processor time for 10^6 pixels, ms: frames from another height have another number of tiles.
    fn cpu_ms_per_mpx(&self) -> Option<f64> {
        (self.cpu_ms > 0.0 && self.mpx > 0.0).then(|| self.cpu_ms / self.mpx)
    }

    fn memory(&mut self, memory_mb: Option<u64>, frames: u32) {
        let Some(mb) = memory_mb else { return };
        self.last_mb = mb;
        if self.first_mb == 0 || self.frames <= (frames / 10).max(1) {
            self.first_mb = mb;
        }
    }

    fn grown(&self, rules: &Rules) -> Option<String> {
        let by = self.last_mb.saturating_sub(self.first_mb);
        (by > rules.growth_mb).then(|| {
            format!(
                "leaks: from {} to {} MB within {} frames, {} MB of growth are allowed",
                self.first_mb, self.last_mb, self.frames, rules.growth_mb
            )
        })
    }

    pub fn shadow(&self, rules: &Rules) -> Verdict {
        if let Some(leak) = self.grown(rules) {
            return Verdict::Failed(leak);
        }
        if self.failed > 1 && self.failed * 50 > self.frames.max(50) {
            return Verdict::Failed(format!(
                "failed at {} of {} frames that the running model could look at",
                self.failed, self.frames
            ));
        }
        if self.frames < rules.shadow_frames {
            return Verdict::NotYet;
        }
        let things = self.running + self.new;
        if things < rules.things && self.frames < rules.shadow_frames.saturating_mul(4) {
            return Verdict::NotYet;
        }
        let looked = self.frames - self.failed;
        if looked == 0 {
            return Verdict::Failed(format!("looked at none of {} frames", self.frames));
        }
        let slower = self.new_cost / self.running_cost.max(f64::MIN_POSITIVE);
        // A computer that stalls does so at single frames; a model that is slow is slow at many.
        if slower > rules.slower && self.slow >= (self.frames / 10).max(2).min(self.frames) {
            return Verdict::Failed(format!(
                "slow: {slower:.1} times the running model's {}, {} are allowed; beyond that at {} of {looked} frames",
                self.measure(),
                rules.slower,
                self.slow
            ));
        }
        let agreement = 2.0 * f64::from(self.both) / f64::from(things.max(1));
        if things >= rules.things {
            if agreement < rules.agreement {
                return Verdict::Failed(format!(
                    "agrees with the running model on {:.0} % ({} and {} things, {} the same), {:.0} % are wanted",
                    agreement * 100.0,
                    self.running,
                    self.new,
                    self.both,
                    rules.agreement * 100.0
                ));
            }
            let rate = (f64::from(self.new) + 1.0) / (f64::from(self.running) + 1.0);
            if rate > rules.rate || rate < 1.0 / rules.rate {
                return Verdict::Failed(format!(
                    "{rate:.2} times the running model's things a frame, {} is the limit",
                    rules.rate
                ));
            }
        }
        let alike = if things < rules.things {
            format!("too few things to compare ({things})")
        } else {
            format!("{:.0} % agreement", agreement * 100.0)
        };
        let later = self.new_ms / self.running_ms.max(f64::MIN_POSITIVE);
        let measure = self.measure();
        Verdict::Passed(format!(
            "{} frames, {alike}, {slower:.2} times the {measure}, {later:.1} times as late",
            self.frames
        ))
    }

    fn measure(&self) -> &'static str {
        if self.by_clock == 0 { "processor time" } else { "time" }
    }

    /// What came of a shadow or a trial that a person ends early.
    pub fn so_far(&self) -> String {
        let looked = f64::from(self.frames.saturating_sub(self.failed).max(1));
        let own = format!("{} things, {:.0} ms each", self.new, self.new_ms / looked);
        if self.running_ms == 0.0 {
            return own;
        }
        let times = self.new_cost / self.running_cost.max(f64::MIN_POSITIVE);
        format!(
            "{own}; the running model {} things, {} the same, {} frames failed, {times:.1} times its {}",
            self.running,
            self.both,
            self.failed,
            self.measure()
        )
    }

    /// `before` is the shadow's tally, where there was one; `deaths` of the child in charge.
    pub fn trial(&self, rules: &Rules, before: Option<&Tally>, deaths: u64, lost: u64) -> Verdict {
        if let Some(leak) = self.grown(rules) {
            return Verdict::Failed(leak);
        }
        if deaths > 1 {
            return Verdict::Failed(format!("its child ended {deaths} times"));
        }
        if lost > 1 && lost * 50 > u64::from(self.frames.max(50)) {
            return Verdict::Failed(format!("{lost} frames were lost beside {} looked at", self.frames));
        }
        if self.frames < rules.trial_frames {
            return Verdict::NotYet;
        }
        let mean = self.new_ms / f64::from(self.frames);
        if let Some(before) = before.filter(|b| b.frames > b.failed) {
            let looked = f64::from(before.frames - before.failed);
            // The clock would compare how busy the computer was on one flight and on another.
            if let (Some(now), Some(then)) = (self.cpu_ms_per_mpx(), before.cpu_ms_per_mpx())
                && now > then * rules.slower
            {
                return Verdict::Failed(format!(
                    "slow: {now:.0} ms of processor time for a million pixels, {then:.0} as a shadow"
                ));
            }
            // Ground differs from one flight to the next; nothing at all where there was plenty does not.
            let expected = f64::from(before.new) / looked * f64::from(self.frames);
            if self.new == 0 && expected >= f64::from(rules.things) {
                return Verdict::Failed(format!("blind: nothing in {} frames, as a shadow {expected:.0}", self.frames));
            }
        }
        Verdict::Passed(format!("{} frames in charge, {mean:.0} ms each, {} things", self.frames, self.new))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the clock and by the processor the same, as on a computer that does nothing else.
    fn frame<'a>(things: &[(&'a str, f32)], ms: f64) -> Seen<'a> {
        let things = things.iter().map(|(class, x)| (*class, [*x, 0.0, x + 10.0, 10.0])).collect();
        Seen { things, ms, cpu_ms: Some(ms), mpx: 1.0 }
    }

    fn rules() -> Rules {
        Rules { shadow_frames: 50, trial_frames: 50, ..Rules::default() }
    }

    fn shadow(running: &[(&'static str, f32)], new: &[(&'static str, f32)], ms: f64) -> Verdict {
        let mut tally = Tally::default();
        for _ in 0..50 {
            tally.frame(&frame(running, 100.0), &frame(new, ms), Some(150), &rules());
        }
        tally.shadow(&rules())
    }

    fn said(verdict: Verdict) -> String {
        match verdict {
            Verdict::Failed(why) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_model_that_sees_the_same_in_the_same_time_passes_its_shadow_and_not_before_its_frames() {
        let things = [("roof", 0.0), ("garbage", 40.0)];
        assert!(matches!(shadow(&things, &things, 120.0), Verdict::Passed(_)));
        let mut tally = Tally::default();
        tally.frame(&frame(&things, 1.0), &frame(&things, 1.0), None, &rules());
        assert_eq!(tally.shadow(&rules()), Verdict::NotYet);
    }

    #[test]
    fn each_way_to_be_worse_than_the_running_model_is_named() {
        let things = [("roof", 0.0), ("garbage", 40.0)];
        assert!(said(shadow(&things, &[], 100.0)).contains("agrees with the running model on 0 %"));
        assert!(said(shadow(&things, &[("garbage", 0.0), ("roof", 40.0)], 100.0)).contains("agrees"));
        assert!(said(shadow(&things, &things, 201.0)).contains("slow"));
        let many = [("roof", 0.0), ("garbage", 40.0), ("roof", 60.0), ("roof", 80.0), ("roof", 100.0)];
        let lenient = Rules { agreement: 0.1, ..rules() };
        let mut tally = Tally::default();
        for _ in 0..50 {
            tally.frame(&frame(&things, 100.0), &frame(&many, 100.0), None, &lenient);
        }
        assert!(said(tally.shadow(&lenient)).contains("times the running model's things"));
    }

    const THINGS: [(&str, f32); 2] = [("roof", 0.0), ("garbage", 40.0)];

    #[test]
    fn a_model_that_only_waits_for_a_busy_processor_is_not_slow_and_one_that_takes_more_of_it_is() {
        let timed = |ms: f64, cpu_ms: Option<f64>| Seen { ms, cpu_ms, ..frame(&THINGS, 0.0) };
        let verdict = |running: Seen, new: Seen| {
            let mut tally = Tally::default();
            (0..50).for_each(|_| tally.frame(&running, &new, Some(150), &rules()));
            tally.shadow(&rules())
        };
        let niced = verdict(timed(100.0, Some(90.0)), timed(1440.0, Some(92.0)));
        assert!(matches!(&niced, Verdict::Passed(said) if said.contains("14.4 times as late")), "{niced:?}");
        let slow = said(verdict(timed(100.0, Some(40.0)), timed(100.0, Some(90.0))));
        assert!(slow.contains("2.2 times the running model's processor time") && slow.contains("50 of 50"), "{slow}");
        // An accelerator's work is nobody's processor time: there the clock decides, for both.
        assert!(said(verdict(timed(100.0, None), timed(300.0, Some(10.0)))).contains("running model's time"));
        assert!(matches!(verdict(timed(100.0, Some(1.0)), timed(150.0, None)), Verdict::Passed(_)));
    }

    #[test]
    fn a_stall_at_single_frames_refuses_nothing() {
        let mut tally = Tally::default();
        for n in 0..50 {
            tally.frame(&frame(&THINGS, 100.0), &frame(&THINGS, if n < 4 { 10_000.0 } else { 100.0 }), None, &rules());
        }
        assert!(matches!(tally.shadow(&rules()), Verdict::Passed(_)));
        // Slow over what there is much of alone: a tenth of the frames is many.
        tally.frame(&frame(&THINGS, 100.0), &frame(&THINGS, 10_000.0), None, &rules());
        assert!(said(tally.shadow(&rules())).contains("slow"));
    }

    #[test]
    fn a_trial_on_a_busier_day_or_from_greater_height_is_not_slower_than_its_shadow() {
        let timed = |ms: f64, cpu_ms: f64, mpx: f64| Seen { ms, cpu_ms: Some(cpu_ms), mpx, ..frame(&THINGS, 0.0) };
        let trial = |seen: Seen| {
            let (mut before, mut trial) = (Tally::default(), Tally::default());
            for _ in 0..50 {
                before.frame(&frame(&THINGS, 100.0), &timed(100.0, 90.0, 1.0), None, &rules());
                trial.trial_frame(&seen, None, &rules());
            }
            trial.trial(&rules(), Some(&before), 0, 0)
        };
        assert!(matches!(trial(timed(900.0, 91.0, 1.0)), Verdict::Passed(_)));
        assert!(matches!(trial(timed(400.0, 360.0, 4.0)), Verdict::Passed(_)));
        assert!(said(trial(timed(200.0, 190.0, 1.0))).contains("slow"));
    }

    #[test]
    fn a_leak_shows_before_the_frames_are_full() {
        let mut tally = Tally::default();
        for n in 0..30u64 {
            tally.frame(&frame(&[], 100.0), &frame(&[], 100.0), Some(150 + n * 10), &rules());
        }
        assert!(said(tally.shadow(&rules())).contains("leaks"));
    }

    #[test]
    fn frames_that_only_the_new_model_fails_at_end_its_shadow() {
        let mut tally = Tally::default();
        for _ in 0..2 {
            tally.failure();
        }
        assert!(said(tally.shadow(&rules())).contains("failed at 2"));
    }

    #[test]
    fn where_there_is_too_little_to_compare_the_shadow_goes_on_but_not_for_ever() {
        let mut tally = Tally::default();
        for _ in 0..199 {
            tally.frame(&frame(&[], 100.0), &frame(&[], 100.0), None, &rules());
        }
        assert_eq!(tally.shadow(&rules()), Verdict::NotYet);
        tally.frame(&frame(&[], 100.0), &frame(&[], 100.0), None, &rules());
        assert!(matches!(tally.shadow(&rules()), Verdict::Passed(said) if said.contains("too few things")));
    }

    #[test]
    fn a_model_in_charge_that_dies_loses_frames_or_turns_blind_fails_its_trial() {
        let things = [("roof", 0.0)];
        let (mut before, mut good, mut blind) = (Tally::default(), Tally::default(), Tally::default());
        for _ in 0..50 {
            before.frame(&frame(&things, 100.0), &frame(&things, 100.0), None, &rules());
            good.trial_frame(&frame(&things, 100.0), None, &rules());
            blind.trial_frame(&frame(&[], 100.0), None, &rules());
        }
        assert!(matches!(good.trial(&rules(), Some(&before), 1, 0), Verdict::Passed(_)));
        assert!(said(good.trial(&rules(), Some(&before), 2, 0)).contains("ended 2 times"));
        assert!(said(good.trial(&rules(), Some(&before), 0, 5)).contains("lost"));
        assert!(said(blind.trial(&rules(), Some(&before), 0, 0)).contains("blind"));
        assert!(matches!(blind.trial(&rules(), None, 0, 0), Verdict::Passed(_)));
    }
}
