//! The way back: rows that a [`Snapshot`](super::Snapshot) gave, put into the tables of another database.

use sea_query::{Alias, Query, SimpleExpr, Table};

use super::migrate::Step;
use super::schema::{Cell, Shape};
use super::{Db, RECORDS, Transaction};
use crate::error::{Error, Result};

/// Values of one statement, at most: SQLite takes 32,766.
const VALUES: usize = 8_000;

impl Transaction {
    /// Removes every row of a table.
    pub async fn clear(&mut self, shape: &Shape) -> Result<()> {
        self.run(&Query::delete().from_table(Alias::new(&shape.name)).to_owned()).await.map(drop)
    }

    /// Adds rows to a table.
    ///
    /// # Errors
    /// `Invalid` for a row that is none of this table.
    pub async fn put(&mut self, shape: &Shape, rows: Vec<Vec<Cell>>) -> Result<()> {
        let most = (VALUES / shape.fields.len().max(1)).max(1);
        let mut rows = rows.into_iter().peekable();
        while rows.peek().is_some() {
            let mut insert = Query::insert();
            insert
                .into_table(Alias::new(&shape.name))
                .columns(shape.fields.iter().map(|field| Alias::new(&field.name)));
            for row in rows.by_ref().take(most) {
                insert.values(bound(shape, row)?).map_err(Error::internal)?;
            }
            self.run(&insert.to_owned()).await?;
        }
        Ok(())
    }
}

fn bound(shape: &Shape, row: Vec<Cell>) -> Result<Vec<SimpleExpr>> {
    let wrong = |what: String| Error::invalid(format!("the table `{}` has no such row: {what}", shape.name));
    if row.len() != shape.fields.len() {
        return Err(wrong(format!("it has {} columns, and the row {}", shape.fields.len(), row.len())));
    }
    let value = |(cell, field): (Cell, &super::schema::Field)| {
        let value = cell.bound(field.kind);
        value
            .map(SimpleExpr::from)
            .ok_or_else(|| wrong(format!("the value of `{}` is of another type", field.name)))
    };
    row.into_iter().zip(&shape.fields).map(value).collect()
}

impl Db {
    /// Removes these tables with all that is in them, and the records of migrations: the database is as it
    /// was before the first migration.
    pub async fn unmake(&self, shapes: &[Shape]) -> Result<()> {
        let mut on = self.begin().await?;
        for name in shapes.iter().map(|shape| shape.name.as_str()).chain([RECORDS]) {
            let table = Table::drop().table(Alias::new(name)).if_exists().to_owned();
            on.schema(Step::Drop(table).sql(self.dialect())).await?;
        }
        on.commit().await
    }
}
