//! Pictures for alerts: when one fires that a rule of the configuration matches, its dashboard is captured, and the
//! alert's history says where the picture is.

use std::collections::HashMap;

use opsroom_core::caller::Face;
use opsroom_core::{Call, Caller, Error, Result, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::error::RecvError;

use super::Dashboards;
use super::operations::CaptureDashboard;
use crate::alerts::Alerts;
use crate::alerts::matchers::{Matcher, all_match};

/// The most rules.
const MOST: usize = 100;
/// Alerts that come within so many seconds after a rule's capture share it.
const SHARED_SECONDS: i64 = 120;

/// Which dashboard is captured for which alerts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OnAlert {
    /// Conditions on the alert's labels, such as `alertname="Latency"`; all of them must hold.
    pub matchers: Vec<Matcher>,
    /// What is captured: the fields of `capture_dashboard`, such as `{source: grafana, dashboard_uid: shop}`.
    pub capture: CaptureDashboard,
}

impl OnAlert {
    /// # Errors
    /// `Invalid`, beginning with the key.
    pub fn validate(rules: &[Self]) -> Result<()> {
        if rules.len() > MOST {
            return Err(Error::invalid(format!("dashboards.on_alert: there are more than {MOST} rules")));
        }
        match rules.iter().position(|rule| rule.matchers.is_empty()) {
            Some(at) => Err(Error::invalid(format!(
                "dashboards.on_alert.{at}.matchers: give one at least; `alertname=~\".+\"` matches every alert"
            ))),
            None => Ok(()),
        }
    }
}

/// A rule's last capture, by the rule and the team.
type Last = HashMap<(usize, String), (Time, String)>;

impl Dashboards {
    /// Takes pictures for alerts until the server stops; does nothing where there are no rules.
    pub fn take_for(&self, alerts: &Alerts) {
        if self.inner.config.on_alert.is_empty() {
            return;
        }
        let (dashboards, alerts) = (self.clone(), alerts.clone());
        let (_, mut events) = self.inner.events.listen(None);
        let stop = self.inner.lifecycle.stopping();
        self.inner.lifecycle.spawn("pictures for alerts", async move {
            let mut last = Last::new();
            loop {
                let event = tokio::select! {
                    event = events.recv() => event,
                    () = stop.cancelled() => return Ok(()),
                };
                let event = match event {
                    Ok(event) => event,
                    Err(RecvError::Lagged(_)) => continue,
                    Err(RecvError::Closed) => return Ok(()),
                };
                // It is told again and again while it fires; the picture is of its beginning.
                if event.topic != "alert.firing" || event.data["count"] != 1 {
                    continue;
                }
                let pictured = tokio::select! {
                    pictured = dashboards.picture_alert(&alerts, &event.team, &event.subject, &mut last) => pictured,
                    () = stop.cancelled() => return Ok(()),
                };
                if let Err(error) = pictured {
                    tracing::warn!(alert.id = event.subject, error = error.message, "an alert has no picture");
                }
            }
        });
    }

    async fn picture_alert(&self, alerts: &Alerts, team: &str, id: &str, last: &mut Last) -> Result<()> {
        let teams = [team.to_owned()];
        let Some(labels) = alerts.labels(&teams, id).await? else { return Ok(()) };
        let now = self.inner.clock.now();
        last.retain(|_, (at, _)| at.plus_seconds(SHARED_SECONDS) > now);
        for (at, rule) in self.inner.config.on_alert.iter().enumerate() {
            if !all_match(&rule.matchers, &labels) {
                continue;
            }
            let key = (at, team.to_owned());
            let words = match last.get(&key) {
                Some((_, capture)) => {
                    format!("the picture is /captures/{capture}/picture, taken a moment before")
                }
                None => {
                    let caller = Caller { teams: teams.to_vec(), ..Caller::operator(Face::Schedule) };
                    let taken =
                        self.capture(&Call::new(caller), rule.capture.clone(), Some(id.to_owned())).await;
                    match taken {
                        Ok(row) => {
                            let words = format!("the picture is /captures/{}/picture", row.id);
                            last.insert(key, (now, row.id));
                            words
                        }
                        Err(error) => format!("no picture could be taken: {}", error.message),
                    }
                }
            };
            alerts.remark(id, "captured", words).await?;
        }
        Ok(())
    }
}
