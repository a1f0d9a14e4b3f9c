//! What all series of a team teach, as bytes.

use opsroom_core::clock::Time;
use opsroom_core::error::Result;
use sea_query::{Expr, ExprTrait, OnConflict, Query};

use super::{PlanningModels, Store};

impl Store {
    /// Keeps a team's model in place of the one before.
    pub async fn keep_model(&self, team: &str, bytes: Vec<u8>, now: Time) -> Result<()> {
        let insert = Query::insert()
            .into_table(PlanningModels::Table)
            .columns([PlanningModels::TeamId, PlanningModels::Artifact, PlanningModels::TrainedAt])
            .values_panic([team.into(), bytes.into(), now.0.into()])
            .on_conflict(
                OnConflict::column(PlanningModels::TeamId)
                    .update_columns([PlanningModels::Artifact, PlanningModels::TrainedAt])
                    .to_owned(),
            )
            .to_owned();
        self.db.run(&insert).await.map(drop)
    }

    /// When a team's model was trained.
    pub async fn model_time(&self, team: &str) -> Result<Option<Time>> {
        let query = Query::select()
            .column(PlanningModels::TrainedAt)
            .from(PlanningModels::Table)
            .and_where(Expr::col(PlanningModels::TeamId).eq(team))
            .to_owned();
        self.db.first(&query).await?.map(|row| row.time("trained_at")).transpose()
    }

    /// A team's model.
    pub async fn model(&self, team: &str) -> Result<Option<Vec<u8>>> {
        let query = Query::select()
            .column(PlanningModels::Artifact)
            .from(PlanningModels::Table)
            .and_where(Expr::col(PlanningModels::TeamId).eq(team))
            .to_owned();
        self.db.first(&query).await?.map(|row| row.get("artifact")).transpose()
    }
}
