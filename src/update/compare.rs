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
    /// Time a frame, against the running model's.
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

/// What a model would have reported of one frame, and its time.
#[derive(Debug, Clone)]
pub struct Seen<'a> {
    pub things: Vec<(&'a str, [f32; 4])>,
    pub ms: f64,
}

impl<'a> From<&'a SeenFrame> for Seen<'a> {
    fn from(frame: &'a SeenFrame) -> Seen<'a> {
        let sure = frame.sightings.iter().filter(|s| s.sure);
        Seen { things: sure.map(|s| (s.class.as_str(), s.bbox)).collect(), ms: frame.detect_ms }
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
    pub running_ms: f64,
    pub new_ms: f64,
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
        self.running_ms += running.ms;
        self.new_ms += new.ms;
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
        self.new_ms += new.ms;
        self.memory(memory_mb, rules.trial_frames);
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
        let slower = self.new_ms / self.running_ms.max(f64::MIN_POSITIVE);
        if slower > rules.slower {
            return Verdict::Failed(format!(
                "slow: {slower:.1} times the running model's time, {} are allowed",
                rules.slower
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
        let said = if things < rules.things {
            format!("{} frames, too few things to compare ({things})", self.frames)
        } else {
            format!("{} frames, {:.0} % agreement, {slower:.2} times the time", self.frames, agreement * 100.0)
        };
        Verdict::Passed(said)
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
            // The shadow shared the processor with the running model: in charge it has no excuse to be slower.
            if mean > before.new_ms / looked * rules.slower {
                return Verdict::Failed(format!(
                    "slow: {mean:.0} ms a frame, {:.0} as a shadow",
                    before.new_ms / looked
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

    fn frame<'a>(things: &[(&'a str, f32)], ms: f64) -> Seen<'a> {
        Seen { things: things.iter().map(|(class, x)| (*class, [*x, 0.0, x + 10.0, 10.0])).collect(), ms }
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
