//! Templates, for a person.

use opsroom_capabilities::logs::model::TemplateList;
use opsroom_core::Result;

use super::anomalies::number;
use super::out::{Out, Style};

/// Values of a parameter that are shown.
const VALUES: usize = 3;

pub(super) fn print(list: &TemplateList, out: &mut Out) -> Result<()> {
    let total = list.templates.len() as u64 + list.more;
    out.line(format_args!("{} lines, {} templates\n", number(list.lines), number(total)))?;
    let widest = list.templates.iter().map(|template| number(template.count).len()).max().unwrap_or(0).max(5);
    let ids = list.templates.iter().map(|template| template.id.to_string().len()).max().unwrap_or(0).max(2);
    if !list.templates.is_empty() {
        let head = format!("{:>widest$}  {:>ids$}  template", "count", "id");
        out.line(format_args!("{}", out.style(Style::Dim, &head)))?;
    }
    for template in &list.templates {
        let count = number(template.count);
        out.line(format_args!("{count:>widest$}  {:>ids$}  {}", template.id, template.template))?;
        let indent = widest + ids + 4;
        for (at, values) in template.parameters.iter().enumerate() {
            let shown = values.iter().take(VALUES).map(String::as_str).collect::<Vec<_>>().join(", ");
            let more = if values.len() > VALUES { ", …" } else { "" };
            let text = out.style(Style::Dim, &format!("<{}>: {shown}{more}", at + 1));
            out.line(format_args!("{:indent$}{text}", ""))?;
        }
        if template.parameters.is_empty() {
            continue;
        }
        if let Some(example) = template.examples.first() {
            let text = out.style(Style::Dim, &format!("e.g. {example}"));
            out.line(format_args!("{:indent$}{text}", ""))?;
        }
    }
    if list.more > 0 {
        out.line(format_args!("and {} more", number(list.more)))?;
    }
    out.flush()
}
