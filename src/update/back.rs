//! Pure: what a person's word to go back means: which release is meant, and what is in charge afterwards.

use std::collections::BTreeMap;

use super::states::{Digest, Facts, Record, Refusal, Refused, Release, in_charge, name, refuse};

/// The committed release goes only by its name, so that an order given twice takes one step back and not two.
pub fn rolled_back(
    next: &mut Record,
    by: &str,
    reason: &str,
    release: Option<&str>,
    facts: Facts,
) -> Result<String, Refused> {
    let gone = match (release, &next.candidate, &next.committed) {
        (Some(named), candidate, committed) => {
            let candidate = candidate.as_ref().map(|c| &c.release);
            meant(next, named, &candidate.into_iter().chain(committed).collect::<Vec<_>>())?
        }
        (None, Some(candidate), _) => candidate.release.digest.clone(),
        (None, None, Some(committed)) => return Err(Refused::Unnamed(Box::new(committed.clone()))),
        (None, None, None) => return Err(Refused::NoWayBack),
    };
    let reason = format!("rolled back by {by}: {reason}");
    if let Some(c) = next.candidate.take_if(|c| c.release.digest == gone) {
        let said = format!("{}: {reason}; given up at {}; {}", c.release, c.stage, charge(next));
        refuse(next, c.release, Some(c.stage), reason, facts);
        return Ok(said);
    }
    let committed = next.committed.take().ok_or(Refused::NoWayBack)?;
    next.committed = next.previous.take();
    let back = name(next.committed.as_ref());
    let mut said = format!("{committed}: {reason}; back to {back}; {}", charge(next));
    if let Some(c) = &next.candidate {
        said.push_str(&format!("; {} goes on at {}", c.release, c.stage));
    }
    refuse(next, committed, None, reason, facts);
    Ok(said)
}

fn charge(record: &Record) -> String {
    format!("in charge now: {}", name(in_charge(record)))
}

/// The digest of the one of `those` that `named` means: NAME-VERSION, the digest, or a beginning of either that no other
/// release known here has. Those that are gone count too: what meant one yesterday must not mean another today.
pub(super) fn meant(record: &Record, named: &str, those: &[&Release]) -> Result<Digest, Refused> {
    let gone = record.refused.values().map(|r| &r.release).chain(&record.committed).chain(&record.previous);
    let known: BTreeMap<&str, &Release> = those.iter().copied().chain(gone).map(|r| (r.digest.as_str(), r)).collect();
    let called = |r: &Release| format!("{}-{}", r.name, r.version);
    let whole: Vec<_> = known.values().filter(|r| called(r) == named || r.digest == named).collect();
    let begins = |r: &Release| !named.is_empty() && (called(r).starts_with(named) || r.digest.starts_with(named));
    let found = if whole.is_empty() { known.values().filter(|r| begins(r)).collect() } else { whole };
    let list = |releases: &mut dyn Iterator<Item = &Release>| {
        let all: Vec<_> = releases.map(|r| format!("{} ({:.12})", called(r), r.digest)).collect();
        if all.is_empty() { "none".to_owned() } else { all.join(", ") }
    };
    match found[..] {
        [one] if those.iter().any(|r| r.digest == one.digest) => Ok(one.digest.clone()),
        [one] => Err(match record.refused.get(&one.digest).cloned() {
            Some(Refusal { release, at, reason, .. }) => Refused::Known { release: Box::new(release), at, reason },
            None if record.committed.as_ref() == Some(*one) => Refused::Committed(Box::new((*one).clone())),
            None => Refused::KeptOnly(Box::new((*one).clone())),
        }),
        [] => Err(Refused::Unknown { named: named.to_owned(), there: list(&mut those.iter().copied()) }),
        _ => Err(Refused::Several { named: named.to_owned(), those: list(&mut found.iter().map(|r| **r)) }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::states::step;
    use super::super::states::tests::{back, facts, good, release, run};
    use super::*;

    #[test]
    fn a_rollback_given_twice_takes_one_step_and_the_second_is_told_what_to_name() {
        let under_way = run(run(run(Record::default(), &good('a')), &good('b')), &good('c')[..2]);
        let once = step(&under_way, &back(None), facts(false)).unwrap();
        assert!(once.said.contains("given up at fetching; in charge now: m b"), "{}", once.said);
        let again = step(&once.record, &back(None), facts(false)).unwrap_err();
        assert!(again.to_string().contains("`aerie model rollback m-b --reason TEXT`"), "{again}");
        for named in ["m-b", &"b".repeat(12)] {
            let once = step(&once.record, &back(Some(named)), facts(false)).unwrap();
            assert!(once.said.contains("back to m a (aaaaaaaaaaaa); in charge now: m a"), "{}", once.said);
            assert!(matches!(step(&once.record, &back(Some(named)), facts(false)), Err(Refused::Known { .. })));
        }
        assert_eq!(step(&Record::default(), &back(None), facts(true)), Err(Refused::NoWayBack));
    }

    #[test]
    fn a_name_that_could_mean_two_releases_or_none_gives_up_neither() {
        let two = run(run(Record::default(), &good('a')), &good('b'));
        assert!(matches!(step(&two, &back(Some("m")), facts(true)), Err(Refused::Several { .. })));
        assert!(matches!(step(&two, &back(Some("")), facts(true)), Err(Refused::Unknown { .. })));
        assert_eq!(step(&two, &back(Some("m-a")), facts(true)), Err(Refused::KeptOnly(Box::new(release('a')))));
        let none = step(&two, &back(Some("m-z")), facts(true)).unwrap_err();
        assert!(none.to_string().contains("m-b (bbbbbbbbbbbb)"), "{none}");
        // Going back from a committed release leaves the one under way alone.
        let under_way = run(two, &good('c')[..2]);
        let after = step(&under_way, &back(Some("m-b")), facts(true)).unwrap();
        assert!(after.said.contains("m c (cccccccccccc) goes on at fetching"), "{}", after.said);
        assert_eq!(after.record.candidate, under_way.candidate);
    }
}
