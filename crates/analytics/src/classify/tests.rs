//! The contract of all methods, of saved models and of federations, on small data made here.

use std::ops::ControlFlow;

use super::arrays;
use super::csv::read_sequences;
use super::dataset::{Builder, Dataset, Row};
use super::detector::{Detector, Method, Network, NetworkConfig, Progress, Stop};
use super::error::ClassifyError;
use super::federated::{self, FederatedConfig, InProcess, Privacy, Update};
use super::fit::{FitConfig, fit};
use super::foreign::checkpoint::{network, read_tensors};
use super::model::Model;
use super::nearest::Normals;
use crate::recurrent::random::Random;

const TEMPLATES: [&str; 6] = [
    "Receiving block from host",
    "Disk write finished",
    "Responder closed connection",
    "Serving read request",
    "Exception while writing mirror",
    "Redundant replica deleted",
];

const EPOCHS: usize = 4;

/// Sessions of six events; one with event 4, or with event 5 before event 0, is an anomaly.
fn dataset(rows: usize, seed: u64) -> Dataset {
    let mut random = Random::new(seed);
    let mut builder = Builder::default();
    for (id, template) in TEMPLATES.iter().enumerate() {
        let place = builder.event(&format!("E{id}"));
        builder.dataset.events[place as usize].template = Some((*template).to_owned());
    }
    for row in 0..rows {
        let anomalous = row % 3 == 0;
        let mut events = vec![0, 0, 1, 1, 2];
        events.extend((0..random.below(5)).map(|_| 3));
        if anomalous {
            events.push(if random.below(2) == 0 { 4 } else { 5 });
        }
        random.shuffle(&mut events);
        builder.row(Row { events, anomalous: Some(anomalous), weight: 1.0 }).unwrap();
    }
    builder.dataset
}

fn config(method: Option<Method>) -> FitConfig {
    let mut config = FitConfig { method, expected_share: None, network: NetworkConfig::default() };
    config.network.hidden = 6;
    config.network.training.epochs = EPOCHS;
    config.network.training.batch_size = 16;
    config
}

fn on(_: Progress<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn fitted(method: Method) -> Model {
    fit(&dataset(240, 1), None, &config(Some(method)), &mut on).unwrap()
}

#[test]
fn every_method_learns_repeats_itself_and_survives_saving() {
    let test = dataset(120, 2);
    for method in Method::ALL {
        let model = fitted(method);
        let evaluation = model.evaluate(&test).unwrap();
        assert!(evaluation.report.anomaly_f1 > 0.95, "{method:?}: {:?}", evaluation.report);
        assert!(evaluation.roc_auc.unwrap() > 0.97);
        let bytes = model.to_bytes().unwrap();
        assert_eq!(bytes, fitted(method).to_bytes().unwrap(), "{method:?} does not repeat itself");
        let loaded = Model::from_bytes(&bytes).unwrap();
        assert_eq!(loaded.predict(&test, true).unwrap(), model.predict(&test, true).unwrap());
        assert_eq!(loaded.to_bytes().unwrap(), bytes);
        assert_eq!(loaded.detector.method(), method);
    }
}

#[test]
fn every_method_gives_the_same_bytes_on_one_thread_and_on_two() {
    for method in Method::ALL {
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| fitted(method).to_bytes().unwrap())
        };
        assert_eq!(run(1), run(2), "{method:?}");
    }
}

#[test]
fn explanations_name_the_event_that_made_the_difference() {
    let odd = read_sequences("sequence\nE0 E1 E0 E2 E4 E1\n".as_bytes()).unwrap();
    for method in Method::ALL {
        let verdict = fitted(method).predict(&odd, true).unwrap().remove(0);
        assert!(verdict.anomalous && verdict.probability > 0.5, "{method:?}");
        let nearest = verdict.nearest_normal.unwrap();
        assert!(nearest.differences.iter().any(|d| d.event == "E4" && d.count == 1), "{nearest:?}");
        if matches!(method, Method::Tree | Method::Linear) {
            assert_eq!((verdict.events[0].event.as_str(), verdict.events[0].weight > 0.0), ("E4", true));
        }
        if method == Method::Network {
            let sum: f64 = verdict.events.iter().map(|event| event.weight).sum();
            assert!((sum - 1.0).abs() < 1e-4, "attention sums to {sum}");
        }
    }
}

#[test]
fn a_reworded_event_counts_as_the_one_it_was() {
    let mut reworded = read_sequences("sequence\nE0 E1 E0 E2 X9 E1\nE0 E1 E0 E2 X8 E1\n".as_bytes()).unwrap();
    let texts =
        [("X9", "An exception happened while writing to mirror"), ("X8", "read request is being served")];
    reworded.add_templates(&texts.map(|(id, text)| (id.to_owned(), text.to_owned())).into());
    for method in Method::ALL {
        let verdicts = fitted(method).predict(&reworded, true).unwrap();
        assert_eq!(verdicts[0].read_as[0].known, "E4");
        assert_eq!(verdicts[1].read_as[0].known, "E3");
        assert_eq!((verdicts[0].anomalous, verdicts[1].anomalous), (true, false), "{method:?}");
    }
}

#[test]
fn events_without_text_or_id_are_counted_as_unknown() {
    let strange = read_sequences("sequence\nE0 Q Q E1\n".as_bytes()).unwrap();
    for method in Method::ALL {
        let verdict = fitted(method).predict(&strange, true).unwrap().remove(0);
        assert_eq!(verdict.unknown_events, 2);
        assert!(verdict.probability.is_finite());
    }
}

#[test]
fn a_smaller_expected_share_makes_every_probability_smaller() {
    let test = dataset(60, 3);
    let common = fitted(Method::Linear);
    let config = FitConfig { expected_share: Some(0.01), ..config(Some(Method::Linear)) };
    let rare = fit(&dataset(240, 1), None, &config, &mut on).unwrap();
    let (common, rare) = (common.predict(&test, false).unwrap(), rare.predict(&test, false).unwrap());
    assert!(common.iter().zip(&rare).all(|(c, r)| r.probability < c.probability));
}

#[test]
fn the_best_method_is_chosen_on_unseen_sequences_and_says_so() {
    let model = fit(&dataset(240, 1), Some(&dataset(60, 4)), &config(None), &mut on).unwrap();
    assert_eq!(model.provenance.candidates.len(), Method::ALL.len());
    let chosen = model.detector.method();
    let figure = |method| model.provenance.candidates.iter().find(|c| c.method == method).unwrap().f1;
    assert!(Method::ALL.into_iter().all(|method| figure(method) <= figure(chosen)));
    assert!(model.provenance.reason.contains("had not seen"), "{}", model.provenance.reason);
    let again = fit(&dataset(240, 1), Some(&dataset(60, 4)), &config(None), &mut on).unwrap();
    assert_eq!(model.to_bytes().unwrap(), again.to_bytes().unwrap());
}

#[test]
fn rows_that_training_had_are_told_from_new_ones() {
    let training = dataset(240, 1);
    let model = fitted(Method::Tree);
    let mixed = Dataset::join([&training.select(&[0, 1, 2]), &dataset(60, 2)]);
    let unseen = model.evaluate(&mixed).unwrap().unseen.unwrap();
    assert!(unseen.support > 0 && unseen.support <= 60);
    assert!(model.evaluate(&training).unwrap().unseen.is_none());
}

#[test]
fn progress_grows_to_the_end_and_a_break_cancels() {
    for method in [Some(Method::Network), None] {
        let (mut last, mut epochs) = (0.0, 0);
        let mut watch = |progress: Progress<'_>| {
            let share = match progress {
                Progress::Share(share) => share,
                Progress::Epoch { share, network, .. } => {
                    epochs += 1;
                    assert!(!network.parameters.is_empty());
                    share
                }
            };
            assert!(share >= last - 1e-9 && share <= 1.0 + 1e-9, "{last} then {share}");
            last = share;
            ControlFlow::Continue(())
        };
        let model = fit(&dataset(120, 1), None, &config(method), &mut watch).unwrap();
        assert!(last > 0.9 || model.detector.method() != Method::Network);
        assert!(method.is_none() || epochs == EPOCHS);
        let error =
            fit(&dataset(120, 1), None, &config(method), &mut |_| ControlFlow::Break(())).unwrap_err();
        assert_eq!(error, ClassifyError::Cancelled);
    }
}

#[test]
fn data_and_settings_that_cannot_be_used_are_named() {
    let good = dataset(60, 1);
    let normals: Vec<usize> = (0..60).filter(|row| row % 3 != 0).collect();
    let fit_of =
        |data: &Dataset, config: &FitConfig| fit(data, None, config, &mut on).unwrap_err().to_string();
    let base = config(Some(Method::Tree));
    assert!(fit_of(&good.select(&normals), &base).contains("0 anomalous"));
    assert!(fit_of(&Dataset::default(), &base).contains("0 are normal"));
    let share = FitConfig { expected_share: Some(1.5), ..base.clone() };
    assert!(fit_of(&good, &share).contains("expected share"));
    let mut hidden = config(Some(Method::Network));
    hidden.network.hidden = 0;
    assert!(fit_of(&good, &hidden).contains("hidden is 0"));
    let mut rate = config(Some(Method::Network));
    rate.network.training.learning_rate = 1e9;
    assert!(fit_of(&good, &rate).contains("diverged"));
    let unlabelled = read_sequences("sequence\nE0\n".as_bytes()).unwrap();
    assert!(fitted(Method::Tree).evaluate(&unlabelled).unwrap_err().to_string().contains("labelled"));
}

#[test]
fn broken_model_files_are_refused_without_a_panic() {
    for method in Method::ALL {
        let bytes = fitted(method).to_bytes().unwrap();
        for end in (0..bytes.len()).step_by(1 + bytes.len() / 97) {
            assert!(Model::from_bytes(&bytes[..end]).is_err());
        }
        let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let places = (0..header).step_by(5).chain((header..bytes.len()).step_by(1 + bytes.len() / 150));
        for at in places {
            let mut changed = bytes.clone();
            changed[at] ^= 0x3f;
            if let Ok(model) = Model::from_bytes(&changed) {
                let _ = model.predict(&dataset(3, 1), true);
            }
        }
    }
    let error = Model::from_bytes(b"not a model").unwrap_err().to_string();
    assert!(error.contains("safetensors"), "{error}");
}

#[test]
fn an_attack_by_a_model_file_of_empty_lists_is_refused() {
    // Four bytes of the file each, and dozens in memory.
    let mut model = fitted(Method::Tree);
    model.normals = Normals::of(vec![Vec::new(); 100_001]);
    let error = Model::from_bytes(&model.to_bytes().unwrap()).unwrap_err().to_string();
    assert!(error.contains("`normals.ends` has 100001 lists"), "{error}");
}

#[test]
fn an_attack_by_a_header_of_a_larger_network_is_refused_before_room_is_taken() {
    let bytes = fitted(Method::Network).to_bytes().unwrap();
    let known = b"\\\"layers\\\":2";
    let at = bytes.windows(known.len()).position(|part| part == known).unwrap() + known.len() - 1;
    for (layers, part) in [(b'9', "is not there with the sizes"), (b'0', "impossible sizes")] {
        let mut changed = bytes.clone();
        changed[at] = layers;
        let error = Model::from_bytes(&changed).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn a_sequence_or_events_beyond_the_memory_of_a_network_are_refused_and_work_can_be_stopped() {
    let mut network = config(None).network;
    network.max_length = 10_000_000;
    let net = network.net(1);
    let parameters = net.initialise(1);
    let network = Network { net, parameters, max_length: network.max_length };
    let never: Stop<'_> = &|| false;
    let refused = |sequence: usize, events: usize, stop: Stop<'_>| {
        let scored = network.scored(&[vec![0; sequence]], &vec![0.0; events], false, stop);
        scored.map(drop).map_err(|error| error.to_string())
    };
    assert!(refused(2_000_000, 1, never).unwrap_err().contains("2000000 events in one sequence"));
    assert!(refused(1, 4_000_000, never).unwrap_err().contains("4000000 distinct events"));
    assert!(refused(10, 1, &|| true).unwrap_err().contains("cancelled"));
    refused(10, 1, never).unwrap();
    for method in Method::ALL {
        let stopped = fitted(method).predict_until(&dataset(3, 1), true, &|| true);
        assert_eq!(stopped.unwrap_err(), ClassifyError::Cancelled);
    }
}

#[test]
fn an_imported_checkpoint_predicts_survives_saving_and_checks_vectors() {
    let tensors = read_tensors(include_bytes!("foreign/testdata/checkpoint.pt")).unwrap();
    let (net, parameters) = network(&tensors).unwrap();
    let model = Model::imported(Detector::Network(Network { net, parameters, max_length: 1000 }));
    let rows = vec![vec![vec![0.1, -0.2, 0.3], vec![1.0, 0.0, 0.5], vec![-0.7, 0.2, 0.0]]];
    let data = arrays::of_vectors(&rows, model.input_width()).unwrap();
    let verdict = model.predict(&data, true).unwrap().remove(0);
    // The softmax of PyTorch's logits for this sequence.
    let (normal, anomalous) = ((-0.263_163_57f64).exp(), (-0.531_252_03f64).exp());
    assert!((verdict.probability - anomalous / (normal + anomalous)).abs() < 1e-6);
    let loaded = Model::from_bytes(&model.to_bytes().unwrap()).unwrap();
    assert_eq!(loaded.predict(&data, true).unwrap()[0], verdict);
    let ids = read_sequences("sequence\n5 7\n".as_bytes()).unwrap();
    assert!(model.predict(&ids, false).unwrap_err().to_string().contains("event 5 has no vector"));
}

fn federation(privacy: Option<Privacy>, participation: f64) -> FederatedConfig {
    let mut network = config(None).network;
    network.training.epochs = 2;
    FederatedConfig { rounds: 6, participation, by_rows: true, privacy, expected_share: None, network }
}

#[test]
fn parties_of_unequal_size_learn_together_and_repeat_themselves() {
    let parties = [dataset(150, 11), dataset(60, 12), Dataset::default(), dataset(30, 13)];
    let transport = InProcess { parties: &parties };
    let run = || federated::run(&transport, &federation(None, 1.0), &mut on).unwrap();
    let (one, two) = (run(), run());
    assert_eq!(one.parties, [0, 1, 3]);
    assert_eq!(one.model.to_bytes().unwrap(), two.model.to_bytes().unwrap());
    let figures = one.model.evaluate(&dataset(120, 2)).unwrap();
    assert!(figures.report.anomaly_f1 > 0.9, "{figures:?}");
    assert!(one.rounds.len() == 6 && one.rounds[5].loss < one.rounds[0].loss);
    assert!(one.model.normals.sequences().is_empty() && one.model.seen.is_empty());
    let some = federated::run(&transport, &federation(None, 0.4), &mut on).unwrap();
    assert_ne!(some.model.to_bytes().unwrap(), one.model.to_bytes().unwrap());
}

#[test]
fn averages_count_by_rows_or_evenly_and_private_changes_are_cut() {
    let net = config(None).network.net(4);
    let start = vec![0.0f32; net.layout().len()];
    let update = |value: f32, rows: usize| {
        let mut parameters = start.clone();
        net.layout().places().for_each(|place| parameters[place] = value);
        Update { parameters, rows, loss: 0.0 }
    };
    let updates = [update(1.0, 30), update(4.0, 10)];
    let place = net.layout().places().next().unwrap();
    let by_rows = federated::aggregate(net.layout(), &start, &updates, true, None);
    let evenly = federated::aggregate(net.layout(), &start, &updates, false, None);
    assert!((by_rows[place] - 1.75).abs() < 1e-6 && (evenly[place] - 2.5).abs() < 1e-6);
    let private = |noise: f64| {
        let privacy = Privacy { clip: 0.5, noise, delta: 1e-5 };
        let mut random = Random::new(1);
        federated::aggregate(net.layout(), &start, &updates, true, Some((&privacy, &mut random)))
    };
    let length = |values: &[f32]| values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
    assert!((length(&private(1e-9)) - 0.5).abs() < 1e-4, "both changes point one way, each cut to 0.5");
    let noisy = private(8.0);
    let expected = 8.0 * 0.5 / 2.0 * (net.layout().parameters() as f64).sqrt();
    assert!((length(&noisy) / expected - 1.0).abs() < 0.1);
    let mut padding = noisy;
    net.layout().places().for_each(|place| padding[place] = 0.0);
    assert!(padding.iter().all(|&value| value == 0.0), "noise does not reach the padding");
}

#[test]
fn epsilon_is_that_of_the_composed_gaussian_mechanism() {
    let privacy = Privacy { clip: 1.0, noise: 1.0, delta: 1e-5 };
    assert!((privacy.epsilon(1) - (0.5 + (2.0 * 1e5f64.ln()).sqrt())).abs() < 1e-9);
    assert!(privacy.epsilon(10) > privacy.epsilon(1));
    let parties = [dataset(60, 11), dataset(60, 12)];
    let config = federation(Some(Privacy { noise: 0.01, ..privacy }), 1.0);
    let outcome = federated::run(&InProcess { parties: &parties }, &config, &mut on).unwrap();
    assert!(outcome.epsilon.unwrap() > 0.0);
}

#[test]
fn federations_that_cannot_work_are_refused() {
    let parties = [dataset(30, 1)];
    let refused = |parties: &[Dataset], config: FederatedConfig| {
        federated::run(&InProcess { parties }, &config, &mut on).unwrap_err().to_string()
    };
    assert!(refused(&[], federation(None, 1.0)).contains("no party"));
    assert!(refused(&[Dataset::default()], federation(None, 1.0)).contains("no party"));
    assert!(refused(&parties, federation(None, 0.0)).contains("participation"));
    assert!(refused(&parties, FederatedConfig { rounds: 0, ..federation(None, 1.0) }).contains("rounds"));
    let privacy = Privacy { clip: 0.0, noise: 1.0, delta: 1e-5 };
    assert!(refused(&parties, federation(Some(privacy), 1.0)).contains("clip"));
    let error = federated::run(&InProcess { parties: &parties }, &federation(None, 1.0), &mut |_| {
        ControlFlow::Break(())
    });
    assert_eq!(error.unwrap_err(), ClassifyError::Cancelled);
}
