//! Windows: a small system with jobs, a heartbeat and a fault.

use super::tests::Dice;
use super::{DetectorConfig, FittedDetector, Judgement, Reason, Unit};
use crate::features::{GroupBuilder, Grouping, Groups};

const MINUTE: i64 = 60_000_000;
const START: u32 = 90;
const HEARTBEAT: u32 = 1;
const NIGHTLY: u32 = 5;
const FAULT: u32 = 60;

/// Three hundred minutes of a small system: start-up lines, requests whose number swings, a heartbeat, a
/// job every half hour, odd lines now and then. `extra` says what else comes in a minute.
fn system(seed: u64, extra: impl Fn(i64) -> Vec<(u32, bool)>) -> Groups {
    let mut dice = Dice::new(seed);
    let mut builder = GroupBuilder::new(Grouping::TimeWindow { micros: MINUTE });
    let mut line = 0;
    for minute in 0..300i64 {
        let mut here: Vec<(u32, bool)> = Vec::new();
        if minute == 0 {
            here.extend((0..15).map(|i| (START + i, false)));
        }
        for template in 10..14 {
            here.extend(vec![(template, false); 10 + dice.roll(12) as usize]);
        }
        if minute % 30 == 7 {
            here.extend(vec![(NIGHTLY, false); 80]);
        }
        if dice.roll(9) == 0 {
            here.push((20 + dice.roll(8) as u32, dice.roll(4) == 0));
        }
        if !(200..215).contains(&minute) || !extra(-1).is_empty() {
            here.push((HEARTBEAT, false));
        }
        here.extend(extra(minute));
        for (template, error) in here {
            line += 1;
            builder.push(line, template, Some(minute * MINUTE + 1), error, None);
        }
    }
    builder.finish()
}

/// The heartbeat goes on when something is said about minute -1.
fn beating(extra: impl Fn(i64) -> Vec<(u32, bool)>) -> impl Fn(i64) -> Vec<(u32, bool)> {
    move |minute| if minute == -1 { vec![(0, false)] } else { extra(minute) }
}

fn top_words(judgement: &Judgement) -> String {
    let top = judgement.ranked()[0];
    judgement.verdict(top).reasons[0].words(judgement.unit(), &|template| format!("T{template}"))
}

#[test]
fn a_system_at_work_has_hardly_an_anomaly() {
    for seed in 1..6 {
        let groups = system(seed, beating(|_| Vec::new()));
        let fitted = DetectorConfig::default().fit_own(&groups).unwrap();
        let found = fitted.judge(&groups).unwrap().anomalous();
        // One in a hundred.
        assert!(found <= 3, "seed {seed}: {found} of 300");
    }
}

#[test]
fn a_burst_of_errors_ranks_above_the_lines_of_the_start() {
    let groups =
        system(2, beating(|minute| if minute == 140 { vec![(FAULT, true); 12] } else { Vec::new() }));
    let fitted = DetectorConfig::default().fit_own(&groups).unwrap();
    let judgement = fitted.judge(&groups).unwrap();
    let top = judgement.verdict(judgement.ranked()[0]);
    assert_eq!(top.key, "1970-01-01T02:20:00Z");
    assert!(top.reasons.iter().any(|reason| reason.template() == Some(FAULT)), "{:?}", top.reasons);
    let fault_line = groups.templates().iter().find(|used| used.id == FAULT).unwrap().sightings[0].1;
    assert!(top.evidence_lines.contains(&fault_line));
}

#[test]
fn a_multiple_of_the_usual_rate_is_said_in_words() {
    let groups = system(3, beating(|minute| if minute == 77 { vec![(11, false); 290] } else { Vec::new() }));
    let fitted = DetectorConfig::default().fit_own(&groups).unwrap();
    let words = top_words(&fitted.judge(&groups).unwrap());
    assert!(words.contains("times its usual rate") && words.ends_with("in this window: T11"), "{words}");
}

#[test]
fn a_heartbeat_that_stops_is_found() {
    let groups = system(4, |_| Vec::new());
    let fitted = DetectorConfig::default().fit_own(&groups).unwrap();
    let judgement = fitted.judge(&groups).unwrap();
    let found = judgement.ranked();
    let stopped = found.iter().filter(|&&window| (200..215).contains(&window)).count();
    assert!(stopped >= 14, "{found:?}");
    let words = judgement.verdict(207).reasons[0].words(Unit::Window, &|template| format!("T{template}"));
    assert_eq!(words, "silent in this window, usually at least 1 line: T1");
    let causes = judgement.causes();
    assert!(causes.iter().any(|cause| cause.groups.len() >= 14), "one cause, not fifteen");
}

#[test]
fn a_minute_without_any_line_is_found() {
    let mut builder = GroupBuilder::new(Grouping::TimeWindow { micros: MINUTE });
    let mut dice = Dice::new(5);
    for minute in (0..400i64).filter(|minute| !(250..256).contains(minute)) {
        for line in 0..20 + dice.roll(10) {
            builder.push(line, (line % 3) as u32, Some(minute * MINUTE), false, None);
        }
    }
    let groups = builder.finish();
    let fitted = DetectorConfig::default().fit_own(&groups).unwrap();
    let judgement = fitted.judge(&groups).unwrap();
    assert_eq!(judgement.anomalous(), 6);
    let reasons = judgement.verdict(252).reasons;
    assert!(reasons.iter().any(|reason| matches!(reason, Reason::Silence { .. })), "{reasons:?}");
}

#[test]
fn what_one_log_teaches_judges_another() {
    let train = system(6, beating(|_| Vec::new()));
    let other = system(7, beating(|minute| if minute == 33 { vec![(FAULT, true)] } else { Vec::new() }));
    let fitted = DetectorConfig::default().fit(&train).unwrap();
    let judgement = fitted.judge(&other).unwrap();
    assert_eq!(judgement.ranked()[0], 33);
    let new = Reason::NewTemplate { template: FAULT, groups: 300 };
    assert!(judgement.verdict(33).reasons.contains(&new));
    assert!(judgement.anomalous() <= 3, "{:?}", judgement.ranked());
}

#[test]
fn windows_of_lines_are_judged_too() {
    let mut builder = GroupBuilder::new(Grouping::LineWindow { lines: 50 });
    let mut dice = Dice::new(8);
    for line in 1..=20_000u64 {
        let fault = (9_000..9_030).contains(&line);
        let template = if fault { FAULT } else { dice.roll(8) as u32 };
        builder.push(line, template, None, fault, None);
    }
    let groups = builder.finish();
    let fitted = DetectorConfig::default().fit_own(&groups).unwrap();
    let judgement = fitted.judge(&groups).unwrap();
    assert_eq!(judgement.verdict(judgement.ranked()[0]).key, "lines 9001-9050");
    assert!(judgement.anomalous() <= 4, "{:?}", judgement.ranked());
}

#[test]
fn few_empty_and_constant_windows_are_answered() {
    let mut builder = GroupBuilder::new(Grouping::TimeWindow { micros: MINUTE });
    let fitted = DetectorConfig::default().fit_own(&builder.clone().finish()).unwrap();
    assert_eq!(fitted.judge(&builder.clone().finish()).unwrap().anomalous(), 0);
    for minute in 0..100 {
        builder.push(minute as u64 + 1, 1, Some(minute * MINUTE), false, None);
        let groups = builder.clone().finish();
        let fitted = DetectorConfig::default().fit_own(&groups).unwrap();
        assert_eq!(fitted.judge(&groups).unwrap().anomalous(), 0, "after {minute} minutes");
    }
}

#[test]
fn saved_and_loaded_window_detectors_give_the_same_numbers() {
    let groups = system(9, |_| Vec::new());
    let fitted = DetectorConfig::default().fit(&groups).unwrap();
    let loaded: FittedDetector = serde_json::from_str(&serde_json::to_string(&fitted).unwrap()).unwrap();
    assert_eq!(loaded.judge(&groups).unwrap().scores(), fitted.judge(&groups).unwrap().scores());
}

#[test]
fn a_detector_of_windows_refuses_sessions() {
    let windows = system(10, |_| Vec::new());
    let fitted = DetectorConfig::default().fit(&windows).unwrap();
    let sessions = super::tests::sessions(&[vec![1]]);
    let error = fitted.judge(&sessions).unwrap_err().to_string();
    assert_eq!(error, "the detector learnt from windows of time, it cannot judge sessions");
}

#[test]
fn templates_that_are_always_there_are_not_rare_however_long_the_log() {
    let mut dice = Dice::new(11);
    let mut builder = GroupBuilder::new(Grouping::TimeWindow { micros: MINUTE });
    for minute in 0..5000i64 {
        for _ in 0..20 {
            builder.push(1, dice.roll(12).min(dice.roll(12)) as u32, Some(minute * MINUTE), false, None);
        }
        if minute == 3000 {
            builder.push(1, FAULT, Some(minute * MINUTE), false, None);
        }
    }
    let groups = builder.finish();
    let fitted = DetectorConfig::default().fit_own(&groups).unwrap();
    let judgement = fitted.judge(&groups).unwrap();
    assert_eq!(judgement.ranked()[0], 3000);
    assert!(judgement.anomalous() <= 10, "{}", judgement.anomalous());
}
