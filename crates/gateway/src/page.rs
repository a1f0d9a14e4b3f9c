//! One page of a list, and where the next one goes on.
//!
//! A cursor is a place in the list that its reader sees. Lists have a fixed order; one that changes between
//! two pages is told as changed, and its reader begins anew.

/// How many items a page has. Most lists have one page, because many clients read only the first.
const SIZE: usize = 500;

/// The items of a page, as JSON.
pub struct Page {
    items: String,
    /// How many came so far, with those of the pages before.
    seen: usize,
    begin: usize,
    more: bool,
}

impl Page {
    /// The page at a cursor, or the first; `None` for a cursor that was never given.
    pub fn at(cursor: Option<&str>) -> Option<Self> {
        let begin = match cursor {
            None => 0,
            Some(cursor) => {
                cursor.strip_prefix("at-")?.parse().ok().filter(|at| at % SIZE == 0 && *at > 0)?
            }
        };
        Some(Self { items: String::new(), seen: 0, begin, more: false })
    }

    /// Takes the next item of the list.
    pub fn push(&mut self, item: &str) {
        let at = self.seen;
        self.seen += 1;
        if at < self.begin {
            return;
        }
        if at >= self.begin.saturating_add(SIZE) {
            self.more = true;
            return;
        }
        if !self.items.is_empty() {
            self.items.push(',');
        }
        self.items.push_str(item);
    }

    /// The items, separated by commas.
    pub fn items(&self) -> &str {
        &self.items
    }

    /// Where the list goes on, if it does.
    pub fn next(&self) -> Option<String> {
        self.more.then(|| format!("at-{}", self.begin + SIZE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(cursor: Option<&str>, items: usize) -> (usize, Option<String>) {
        let mut page = Page::at(cursor).unwrap();
        (0..items).for_each(|item| page.push(&item.to_string()));
        (page.items().split(',').filter(|item| !item.is_empty()).count(), page.next())
    }

    #[test]
    fn every_item_is_on_one_page() {
        assert_eq!(page(None, SIZE), (SIZE, None));
        assert_eq!(page(None, SIZE + 1), (SIZE, Some(format!("at-{SIZE}"))));
        assert_eq!(page(Some(&format!("at-{SIZE}")), SIZE + 1), (1, None));
        assert_eq!(page(Some(&format!("at-{SIZE}")), 3), (0, None), "the list became shorter");
    }

    #[test]
    fn a_cursor_that_was_never_given_is_refused() {
        for cursor in ["", "0", "at-", "at-0", "at-1", "at--500", "at-99999999999999999999999"] {
            assert!(Page::at(Some(cursor)).is_none(), "{cursor}");
        }
    }
}
