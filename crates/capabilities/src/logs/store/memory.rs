//! Parts: lines in memory that are not yet in a segment, and searching them as they are.

use std::sync::Arc;

use opsroom_analytics::segments::{Labels, Row};

use super::{Batch, TEAM, Wanted};

/// What one write-ahead file holds. The batches in it never change, so that a search goes on with what it
/// began with.
#[derive(Clone, Debug, Default)]
pub(super) struct Part {
    /// The number of its write-ahead file, and of the segment that it becomes.
    pub id: u64,
    pub batches: Vec<Arc<Batch>>,
    pub rows: usize,
    /// Bytes of texts.
    pub bytes: usize,
}

impl Part {
    pub fn add(&mut self, batch: Arc<Batch>) {
        self.rows += batch.rows.rows.len();
        self.bytes += batch.rows.text.len();
        self.batches.push(batch);
    }

    /// All batches as one, as a segment is made of.
    pub fn joined(&self) -> Batch {
        let mut all = Batch::default();
        all.rows.rows.reserve(self.rows);
        all.rows.text.reserve(self.bytes);
        for batch in &self.batches {
            let streams: Vec<u32> = batch.streams.iter().map(|labels| all.stream(labels)).collect();
            let start = all.rows.text.len() as u32;
            all.rows.text.extend_from_slice(&batch.rows.text);
            let moved = |row: &Row| Row { at: row.at + start, stream: streams[row.stream as usize], ..*row };
            all.rows.rows.extend(batch.rows.rows.iter().map(moved));
        }
        all
    }
}

/// Whether lines with these labels are a wanted team's.
pub(crate) fn is_of(labels: &Labels, teams: &[String]) -> bool {
    labels.get(TEAM).is_some_and(|team| teams.contains(team))
}

/// The rows of a batch that are wanted. Templates are named only when the condition asks for them.
pub(super) fn find<'a>(
    batch: &'a Batch,
    wanted: &'a Wanted,
    template: &'a dyn Fn(&[u8]) -> String,
) -> impl Iterator<Item = usize> + 'a {
    let ours: Vec<bool> = batch.streams.iter().map(|labels| is_of(labels, &wanted.teams)).collect();
    batch.rows.rows.iter().enumerate().filter_map(move |(at, row)| {
        let text = batch.rows.text_of(row);
        let meant = ours[row.stream as usize]
            && wanted.range.contains(&row.time)
            && wanted.test.holds(text, row.level, &batch.streams[row.stream as usize], &|wanted| {
                template(text) == wanted
            });
        meant.then_some(at)
    })
}
