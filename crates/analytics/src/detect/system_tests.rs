//! Systems of other shapes than a file system's blocks: many kinds of requests, jobs, long noisy sessions,
//! templates that never settle. Nothing here is tuned to one of them.

use super::DetectorConfig;
use super::tests::{Dice, sessions};

/// Which of the sessions at these places were found, and how many others.
fn found(list: &[Vec<u32>], faults: &[usize]) -> (usize, usize) {
    let groups = sessions(list);
    let fitted = DetectorConfig::default().fit_own(&groups).unwrap();
    let ranked = fitted.judge(&groups).unwrap().ranked();
    let right = ranked.iter().filter(|index| faults.contains(index)).count();
    (right, ranked.len() - right)
}

/// Kind `k` of forty comes about `1 / k` as often as the first; each has its own five steps, one of them
/// optional, one repeated.
fn traces(count: usize, seed: u64) -> Vec<Vec<u32>> {
    let mut dice = Dice::new(seed);
    let total: u64 = (1..=40).map(|k| 10_000 / k).sum();
    (0..count)
        .map(|_| {
            let mut at = dice.roll(total);
            let kind = (1..=40).find(|k| at.checked_sub(10_000 / k).map(|left| at = left).is_none());
            let base = kind.unwrap_or(40) as u32 * 10;
            let mut trace = vec![1, base, base + 1];
            trace.extend(vec![base + 2; 1 + dice.roll(4) as usize]);
            if dice.roll(2) == 0 {
                trace.push(base + 3);
            }
            trace.extend([base + 4, 2]);
            trace
        })
        .collect()
}

#[test]
fn faults_in_traces_of_forty_kinds_are_found_among_few_others() {
    let mut list = traces(6000, 21);
    let faults: Vec<usize> = (0..30).map(|i| 100 + i * 190).collect();
    for (n, &at) in faults.iter().enumerate() {
        match n % 3 {
            0 => list[at].truncate(2),
            1 => list[at].insert(3, 900),
            _ => list[at].retain(|&event| event % 10 != 4),
        }
    }
    let (right, wrong) = found(&list, &faults);
    assert!(right >= 28, "{right} of 30");
    assert!(wrong <= 120, "{wrong} others of 6000");
}

#[test]
fn one_failed_run_among_sixty_runs_of_a_job_is_found() {
    let mut dice = Dice::new(22);
    let mut runs: Vec<Vec<u32>> = (0..60)
        .map(|_| {
            let files = 40 + dice.roll(30) as usize;
            [vec![1, 2], vec![3; files], vec![4; files], vec![5, 6]].concat()
        })
        .collect();
    runs[41].retain(|&event| event < 5);
    runs[41].push(77);
    assert_eq!(found(&runs, &[41]), (1, 0));
}

#[test]
fn a_missing_step_in_long_noisy_sessions_is_found() {
    let mut dice = Dice::new(23);
    let mut list: Vec<Vec<u32>> = (0..1500)
        .map(|_| {
            let mut session: Vec<u32> = (0..60 + dice.roll(60)).map(|_| 100 + dice.roll(25) as u32).collect();
            session.extend([1, 2, 3, 4, 4, 5]);
            session
        })
        .collect();
    for at in [300, 700, 1100] {
        list[at].retain(|&event| event > 4);
    }
    let (right, wrong) = found(&list, &[300, 700, 1100]);
    assert_eq!(right, 3);
    assert!(wrong <= 15, "{wrong} others of 1500");
}

#[test]
fn where_templates_never_settle_a_new_one_is_no_anomaly() {
    let mut dice = Dice::new(24);
    let mut next = 1000;
    let mut list: Vec<Vec<u32>> = (0..3000)
        .map(|_| {
            let mut session = vec![1, 2, 3, 3, 4];
            if dice.roll(8) == 0 {
                next += 1;
                session.insert(2, next);
            }
            session
        })
        .collect();
    list[1234] = vec![1, 2, 3];
    let (right, wrong) = found(&list, &[1234]);
    assert_eq!(right, 1);
    assert!(wrong <= 10, "{wrong} others of 3000");
}

#[test]
fn a_tenth_of_failures_of_several_kinds_is_found_without_a_hint() {
    let mut list = traces(4000, 25);
    let faults: Vec<usize> = (0..4000).filter(|at| at % 10 == 3).collect();
    for (n, &at) in faults.iter().enumerate() {
        match n % 4 {
            0 => list[at].truncate(2),
            1 => list[at].push(901),
            2 => list[at].extend([902, 903]),
            _ => list[at].insert(1, 904),
        }
    }
    let (right, wrong) = found(&list, &faults);
    assert!(right >= 360, "{right} of 400");
    assert!(wrong <= 80, "{wrong} others of 3600");
}

#[test]
fn steps_that_slip_in_every_third_session_are_how_the_log_is() {
    let mut dice = Dice::new(26);
    let mut list: Vec<Vec<u32>> = (0..8000)
        .map(|_| (0..8).map(|step| if dice.roll(20) == 0 { dice.roll(10) as u32 } else { step }).collect())
        .collect();
    list[4321] = vec![0, 1, 2, 3, 700, 700, 700, 701, 702];
    let (right, wrong) = found(&list, &[4321]);
    assert_eq!(right, 1);
    assert!(wrong <= 1400, "{wrong} others of 8000");
}

#[test]
fn where_no_session_is_like_another_few_are_anomalous() {
    let mut dice = Dice::new(27);
    let list: Vec<Vec<u32>> = (0..6000).map(|_| (0..8).map(|_| dice.roll(60) as u32).collect()).collect();
    let (_, wrong) = found(&list, &[]);
    assert!(wrong <= 300, "{wrong} of 6000");
}

#[test]
fn every_anomalous_session_has_a_reason() {
    let mut list = traces(3000, 28);
    for at in (0..3000).step_by(500) {
        list[at] = vec![1, 500 + at as u32, 2, 600, 601, 602, 603, 604, 605, 606, 607, 608, 609];
    }
    let groups = sessions(&list);
    let fitted = DetectorConfig::default().fit_own(&groups).unwrap();
    let judgement = fitted.judge(&groups).unwrap();
    assert!(judgement.anomalous() > 0);
    assert!(judgement.ranked().iter().all(|&index| !judgement.verdict(index).reasons.is_empty()));
}

#[test]
fn the_one_odd_session_of_a_small_log_is_found() {
    let faults: [fn(&mut Vec<u32>); 4] = [
        |session| session.push(90),
        |session| session.truncate(2),
        |session| session.extend([3; 30]),
        |session| *session = vec![1, 2, 91, 92],
    ];
    for count in [20, 60, 150] {
        for (kind, fault) in faults.iter().enumerate() {
            let mut dice = Dice::new(29);
            let mut list: Vec<Vec<u32>> = (0..count)
                .map(|_| {
                    let optional = vec![4; usize::from(dice.roll(3) == 0)];
                    [vec![1, 2], vec![3; 1 + dice.roll(4) as usize], optional, vec![5, 6]].concat()
                })
                .collect();
            fault(&mut list[13]);
            assert_eq!(found(&list, &[13]), (1, 0), "fault {kind} among {count}");
        }
    }
}
