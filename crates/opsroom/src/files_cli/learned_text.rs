//! What was learnt, judged and measured, for a person.

use std::path::Path;

use opsroom_analytics::classify::model::Model;
use opsroom_analytics::classify::predict::{Evaluation, Verdict};
use opsroom_analytics::classify::report::Report;
use opsroom_capabilities::detection::learned::fitting::method_name;
use opsroom_core::Result;

use super::anomalies::number;
use super::out::{Out, Style};

/// Anomalies that are listed.
const LISTED: usize = 20;

/// What training made.
pub(super) fn learnt(model: &Model, path: &Path, out: &mut Out) -> Result<()> {
    let provenance = &model.provenance;
    let method = method_name(model.detector.method());
    out.line(format_args!(
        "{} learnt from {} rows: {}",
        out.style(Style::Bold, method),
        number(provenance.training_rows as u64),
        provenance.reason
    ))?;
    for candidate in &provenance.candidates {
        out.line(format_args!("  {:<8} F1 {:.4}", method_name(candidate.method), candidate.f1))?;
    }
    if let Some(last) = model.history.last() {
        out.line(format_args!("{} epochs, loss {:.4}", model.history.len(), last.loss))?;
    }
    let share = 100.0 * model.expected_share;
    out.line(format_args!(
        "{} expects {share:.2} % anomalies",
        out.style(Style::Cyan, &path.display().to_string())
    ))?;
    out.flush()
}

/// What a model says of rows.
pub(super) fn verdicts(verdicts: &[Verdict], out: &mut Out) -> Result<()> {
    let anomalous: Vec<&Verdict> = verdicts.iter().filter(|verdict| verdict.anomalous).collect();
    let told =
        format!("{} of {} rows are anomalies", number(anomalous.len() as u64), number(verdicts.len() as u64));
    out.line(format_args!("{}", out.style(Style::Bold, &told)))?;
    for verdict in anomalous.iter().take(LISTED) {
        let head = out.style(Style::Red, &format!("{:.3}", verdict.probability));
        out.line(format_args!("row {:>8}  {head}", verdict.row))?;
        for event in verdict.events.iter().take(3) {
            let text = event.template.as_deref().unwrap_or_default();
            out.line(format_args!(
                "  {:>8.3}  {} {text}",
                event.weight,
                out.style(Style::Cyan, &event.event)
            ))?;
        }
        for difference in verdict.nearest_normal.iter().flat_map(|normal| &normal.differences).take(3) {
            let text =
                format!("{:+} {} than the nearest normal sequence", difference.count, difference.event);
            out.line(format_args!("  {}", out.style(Style::Dim, &text)))?;
        }
    }
    if anomalous.len() > LISTED {
        let more = number((anomalous.len() - LISTED) as u64);
        out.line(format_args!("and {more} more: --json lists every row"))?;
    }
    out.flush()
}

/// How good a model is.
pub(super) fn evaluation(evaluation: &Evaluation, out: &mut Out) -> Result<()> {
    out.line(format_args!(
        "{}",
        out.style(Style::Dim, "                  F1  precision  recall  accuracy     rows")
    ))?;
    let unseen = evaluation.unseen.as_ref();
    let reports = [
        ("each row once", Some(&evaluation.report)),
        ("by weight", evaluation.weighted.as_ref()),
        ("unseen rows", unseen),
    ];
    for (name, report) in reports {
        let Some(report) = report else { continue };
        row(name, report, out)?;
    }
    if let Some(area) = evaluation.roc_auc {
        out.line(format_args!("area under the ROC curve {area:.4}"))?;
    }
    out.flush()
}

/// The figures of anomalies.
fn row(name: &str, report: &Report, out: &mut Out) -> Result<()> {
    let anomalies = report.classification_report.classes.get("1");
    let figure = |figure: Option<f64>| figure.map_or("-".to_owned(), |figure| format!("{figure:.4}"));
    out.line(format_args!(
        "{name:<14}{:>6}  {:>9}  {:>6}  {:>8.4}  {:>7}",
        format!("{:.4}", report.anomaly_f1),
        figure(anomalies.map(|class| class.precision)),
        figure(anomalies.map(|class| class.recall)),
        report.accuracy(),
        number(report.support as u64),
    ))
}
