//! The contract that every detector keeps, on small systems made here.

use super::{DetectorConfig, FittedDetector, Judgement};
use crate::features::{GroupBuilder, Grouping, Groups};

/// A small generator, so that every test makes the same data each time.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(2).wrapping_add(1))
    }

    pub(super) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

pub(super) fn sessions(list: &[Vec<u32>]) -> Groups {
    let mut builder = GroupBuilder::new(Grouping::Session);
    let mut line = 0;
    for (i, session) in list.iter().enumerate() {
        let key = format!("s{i}");
        builder.open(line + 1, key.as_bytes());
        for &event in session {
            line += 1;
            builder.push(line, event, None, false, Some(key.as_bytes()));
        }
    }
    builder.finish()
}

/// Requests of four kinds: accept (1), steps of the kind, one to nine reads (9), answer (2).
pub(super) fn requests(count: usize, seed: u64) -> Vec<Vec<u32>> {
    let mut dice = Dice::new(seed);
    (0..count)
        .map(|_| {
            let kind = [10, 10, 10, 20, 20, 30][dice.roll(6) as usize];
            let mut session = vec![1, kind, kind + 1];
            session.extend(vec![9; 1 + dice.roll(9) as usize]);
            if dice.roll(3) == 0 {
                session.push(kind + 2);
            }
            session.push(2);
            session
        })
        .collect()
}

fn keys(judgement: &Judgement) -> Vec<String> {
    judgement.ranked().into_iter().map(|index| judgement.verdict(index).key).collect()
}

fn config() -> DetectorConfig {
    DetectorConfig::default()
}

#[test]
fn nothing_is_abnormal_in_sessions_that_are_all_alike() {
    let groups = sessions(&vec![vec![1, 2, 3]; 200]);
    let fitted = config().fit_own(&groups).unwrap();
    assert_eq!(fitted.judge(&groups).unwrap().anomalous(), 0);
}

#[test]
fn empty_and_single_input_is_answered() {
    let (none, one) = (sessions(&[]), sessions(&[vec![1, 2]]));
    for train in [&none, &one] {
        for fitted in [config().fit(train).unwrap(), config().fit_own(train).unwrap()] {
            assert_eq!(fitted.judge(&none).unwrap().scores(), &[] as &[f32]);
            assert!(fitted.judge(&one).unwrap().scores()[0] < 1.0);
        }
    }
    let empty_session = sessions(&[vec![], vec![1]]);
    assert_eq!(config().fit_own(&empty_session).unwrap().judge(&empty_session).unwrap().scores().len(), 2);
}

#[test]
fn usual_requests_pass_and_faulty_ones_are_found() {
    let train = sessions(&requests(2000, 1));
    let mut list = requests(500, 2);
    list[100] = vec![1, 10, 11, 9];
    list[200] = vec![1, 20, 21, 9, 9, 77, 2];
    list[300] = vec![1, 20, 31, 9, 9, 2];
    let groups = sessions(&list);
    let fitted = config().fit(&train).unwrap();
    let mut found = keys(&fitted.judge(&groups).unwrap());
    found.sort();
    assert_eq!(found, ["s100", "s200", "s300"]);
}

#[test]
fn faults_in_the_log_learnt_from_are_found_although_they_repeat() {
    let mut list = requests(2000, 3);
    for (i, session) in list.iter_mut().enumerate() {
        if i % 40 == 7 {
            *session = vec![1, 10, 11, 9, 50];
        }
    }
    let groups = sessions(&list);
    let fitted = config().fit_own(&groups).unwrap();
    let judgement = fitted.judge(&groups).unwrap();
    assert_eq!(judgement.anomalous(), 50);
    assert!(judgement.ranked().iter().all(|index| index % 40 == 7));
    assert_eq!(judgement.causes().len(), 1);
}

#[test]
fn a_training_log_with_failures_in_it_does_not_teach_them() {
    let mut train = requests(2000, 4);
    for session in train.iter_mut().step_by(25) {
        *session = vec![1, 10, 11, 9, 50];
    }
    let fitted = config().fit(&sessions(&train)).unwrap();
    let judged = sessions(&[vec![1, 10, 11, 9, 50], vec![1, 10, 11, 9, 2]]);
    let judgement = fitted.judge(&judged).unwrap();
    assert!(judgement.is_anomalous(0) && !judgement.is_anomalous(1));
}

#[test]
fn swapped_steps_are_found_where_order_is_kept() {
    let train = sessions(&vec![vec![1, 2, 3, 4]; 3000]);
    let fitted = config().fit(&train).unwrap();
    let groups = sessions(&[vec![1, 3, 2, 4], vec![1, 2, 3, 4]]);
    let judgement = fitted.judge(&groups).unwrap();
    assert!(judgement.is_anomalous(0) && !judgement.is_anomalous(1));
    let words = judgement.verdict(0).reasons[0].words(judgement.unit(), &|t| format!("step {t}"));
    assert!(words.contains("is followed by") && words.contains("usually by"), "{words}");
}

#[test]
fn order_says_nothing_where_steps_run_into_each_other() {
    let mut dice = Dice::new(5);
    let mut shuffled = |count: usize| -> Vec<Vec<u32>> {
        (0..count)
            .map(|_| {
                let mut steps: Vec<u32> = (1..=12).collect();
                for i in (1..12).rev() {
                    steps.swap(i, dice.roll(i as u64 + 1) as usize);
                }
                steps.truncate(12);
                steps
            })
            .collect()
    };
    let (train, judged) = (sessions(&shuffled(400)), sessions(&shuffled(200)));
    assert_eq!(config().fit(&train).unwrap().judge(&judged).unwrap().anomalous(), 0);
}

#[test]
fn saved_and_loaded_detectors_give_the_same_numbers() {
    let (train, judged) = (sessions(&requests(800, 6)), sessions(&requests(300, 7)));
    let fitted = config().fit(&train).unwrap();
    let text = serde_json::to_string(&fitted).unwrap();
    let loaded: FittedDetector = serde_json::from_str(&text).unwrap();
    assert_eq!(loaded, fitted);
    assert_eq!(loaded.judge(&judged).unwrap().scores(), fitted.judge(&judged).unwrap().scores());
}

#[test]
fn the_same_seed_gives_the_same_scores_on_any_number_of_threads() {
    let mut dice = Dice::new(8);
    // More distinct vectors than are looked at, so that the draw matters.
    let noisy: Vec<Vec<u32>> = (0..4000).map(|_| (0..24).map(|_| dice.roll(12) as u32).collect()).collect();
    let groups = sessions(&noisy);
    let scores = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| config().fit_own(&groups).unwrap().judge(&groups).unwrap().scores().to_vec())
    };
    assert_eq!(scores(1), scores(4));
}

#[test]
fn judging_learns_nothing_from_what_is_judged() {
    let train = sessions(&requests(800, 9));
    let fitted = config().fit(&train).unwrap();
    let odd = vec![1, 20, 31, 9, 9, 2];
    let alone = sessions(std::slice::from_ref(&odd));
    let among_many = sessions(&vec![odd; 5000]);
    let one = fitted.judge(&alone).unwrap().scores()[0];
    assert!(fitted.judge(&among_many).unwrap().scores().iter().all(|&score| score == one));
}

#[test]
fn template_numbers_of_another_log_do_not_matter() {
    let train = sessions(&requests(800, 10));
    let fitted = config().fit(&train).unwrap();
    let list = requests(50, 11);
    let mut reordered = vec![vec![99, 31, 30]];
    reordered.extend(list.clone());
    let (plain, moved) = (sessions(&list), sessions(&reordered));
    assert_eq!(fitted.judge(&plain).unwrap().scores(), &fitted.judge(&moved).unwrap().scores()[1..]);
}

#[test]
fn the_expected_share_of_anomalies_is_obeyed() {
    let mut dice = Dice::new(12);
    let noisy: Vec<Vec<u32>> = (0..1000).map(|_| (0..24).map(|_| dice.roll(30) as u32).collect()).collect();
    let groups = sessions(&noisy);
    for share in [0.0, 0.01, 0.05] {
        let config = DetectorConfig { expected_anomalies: Some(share), ..config() };
        let fitted = config.fit_own(&groups).unwrap();
        let found = fitted.judge(&groups).unwrap().anomalous();
        assert!(found.abs_diff((share * 1000.0) as usize) <= 2, "{share}: {found}");
    }
    for wrong in [-0.1, 0.6, f64::NAN] {
        assert!(DetectorConfig { expected_anomalies: Some(wrong), seed: 1 }.fit(&groups).is_err());
    }
}

#[test]
fn reasons_name_what_is_missing_new_and_too_short() {
    let train = sessions(&requests(2000, 13));
    let fitted = config().fit(&train).unwrap();
    let groups = sessions(&[vec![1], vec![1, 10, 11, 9, 99, 2]]);
    let judgement = fitted.judge(&groups).unwrap();
    let words = |index: usize| -> Vec<String> {
        let verdict = judgement.verdict(index);
        verdict.reasons.iter().map(|r| r.words(judgement.unit(), &|t| format!("T{t}"))).collect()
    };
    assert!(words(0)[0].starts_with("session ends after 1 of its usual "), "{:?}", words(0));
    assert_eq!(words(1)[0], "template never seen in the first 2,000 sessions: T99");
    assert!(judgement.verdict(1).evidence_lines.contains(&6), "line 6 has the new template");
}

#[test]
fn a_million_distinct_keys_are_bounded_and_counted() {
    let limits = crate::features::Limits { groups: 1000, ..Default::default() };
    let mut builder = GroupBuilder::with_limits(Grouping::Session, limits);
    for i in 0..1_000_000u64 {
        builder.push(i + 1, 1, None, false, Some(&i.to_le_bytes()));
    }
    let groups = builder.finish();
    assert_eq!((groups.len(), groups.left_out_lines()), (1000, 999_000));
}
