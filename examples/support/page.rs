//! One self-contained HTML page: sections of text, tables and pictures.

use super::chart::escape;
use std::io;
use std::path::{Path, PathBuf};

/// A picture with its file name and caption.
pub struct Picture {
    /// Name of the file, without the extension `.svg`.
    pub name: String,
    pub caption: String,
    pub svg: String,
}

impl Picture {
    pub fn new(name: &str, caption: &str, svg: String) -> Self {
        Self { name: name.into(), caption: caption.into(), svg }
    }
}

/// A table whose first column is left-aligned and whose other columns are right-aligned.
pub struct Table {
    /// The names of the columns; text in parentheses at the end, such as a unit, is set in small
    /// type.
    pub head: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(head: &[&str]) -> Self {
        Self { head: head.iter().map(|&name| name.into()).collect(), rows: Vec::new() }
    }

    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The table as plain text for a terminal.
    pub fn text(&self) -> String {
        let lines = || std::iter::once(&self.head).chain(&self.rows);
        let width = |column: usize| {
            lines()
                .filter_map(|line| line.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        let line = |cells: &Vec<String>| {
            let cells = cells.iter().zip(&widths).enumerate();
            let cells = cells.map(|(column, (cell, &width))| match column {
                0 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
        };
        let rule =
            "─".repeat(widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1)) + "\n";
        line(&self.head) + &rule + &self.rows.iter().map(line).collect::<String>()
    }

    fn html(&self) -> String {
        let cells = |cells: &[String], tag: &str| -> String {
            let cell = |cell: &String| match cell.split_once(" (") {
                Some((name, unit)) if tag == "th" => {
                    format!(
                        "<{tag}>{}<small>{}</small></{tag}>",
                        escape(name),
                        escape(unit.trim_end_matches(')'))
                    )
                }
                _ => format!("<{tag}>{}</{tag}>", escape(cell)),
            };
            cells.iter().map(cell).collect()
        };
        let rows: String =
            self.rows.iter().map(|row| format!("<tr>{}</tr>\n", cells(row, "td"))).collect();
        format!(
            "<div class=\"wide\"><table><thead><tr>{}</tr></thead>\n<tbody>{rows}</tbody></table></div>\n",
            cells(&self.head, "th")
        )
    }
}

/// A section of the page.
#[derive(Default)]
pub struct Section {
    pub heading: String,
    /// Paragraphs, in order.
    pub text: Vec<String>,
    pub table: Option<Table>,
    pub pictures: Vec<Picture>,
}

impl Section {
    pub fn new(heading: &str, text: &str) -> Self {
        Self { heading: heading.into(), text: vec![text.into()], ..Self::default() }
    }
}

/// An HTML page with its pictures.
pub struct Page {
    pub title: String,
    pub lead: String,
    pub sections: Vec<Section>,
}

impl Page {
    /// Writes `index.html` and each picture as a separate file; returns the path of the page.
    pub fn write(&self, folder: &Path) -> io::Result<PathBuf> {
        std::fs::create_dir_all(folder)?;
        for picture in self.sections.iter().flat_map(|section| &section.pictures) {
            // Outside the page a picture needs a background and a colour of its own.
            let paper = "<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>";
            let svg = picture.svg.replacen("<svg ", "<svg color=\"#1b2430\" ", 1).replacen(
                '>',
                &format!(">{paper}"),
                1,
            );
            std::fs::write(folder.join(format!("{}.svg", picture.name)), svg)?;
        }
        let path = folder.join("index.html");
        std::fs::write(&path, self.html())?;
        Ok(path)
    }

    /// The page with its pictures inside.
    pub fn html(&self) -> String {
        let id = |index: usize| format!("s{}", index + 1);
        let contents: String = (self.sections.iter().enumerate())
            .map(|(index, section)| {
                format!("<a href=\"#{}\">{}</a>\n", id(index), escape(&section.heading))
            })
            .collect();
        let sections: String = (self.sections.iter().enumerate())
            .map(|(index, section)| {
                let text: String =
                    section.text.iter().map(|text| format!("<p>{}</p>\n", escape(text))).collect();
                let table = section.table.as_ref().map_or(String::new(), Table::html);
                let figure = |picture: &Picture| {
                    let caption = match picture.caption.as_str() {
                        "" => String::new(),
                        caption => format!("<figcaption>{}</figcaption>", escape(caption)),
                    };
                    let label =
                        if picture.caption.is_empty() { &picture.name } else { &picture.caption };
                    // a picture is never shown larger than it is, and a wide one takes the whole
                    // row
                    let width: f64 = picture
                        .svg
                        .split("width=\"")
                        .nth(1)
                        .and_then(|rest| rest.split('"').next()?.parse().ok())
                        .unwrap_or(0.0);
                    let class = if width > 680.0 { " class=\"broad\"" } else { "" };
                    let svg = picture.svg.replacen(
                        "<svg ",
                        &format!(
                            "<svg style=\"max-width:{width}px\" role=\"img\" aria-label=\"{}\" ",
                            escape(label)
                        ),
                        1,
                    );
                    format!("<figure{class}>{svg}{caption}</figure>\n")
                };
                let figures: String = section.pictures.iter().map(figure).collect();
                let figures = if figures.is_empty() {
                    figures
                } else {
                    format!("<div class=\"figures\">\n{figures}</div>\n")
                };
                format!(
                    "<section id=\"{}\">\n<h2>{}</h2>\n{text}{table}{figures}</section>\n",
                    id(index),
                    escape(&section.heading)
                )
            })
            .collect();
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<header>\n<h1>{title}</h1>\n<p>{}</p>\n<nav>\n{contents}</nav>\n</header>\n<main>\n{sections}</main>\n</body>\n</html>\n",
            escape(&self.lead),
            title = escape(&self.title),
        )
    }
}

const STYLE: &str = "
:root{color-scheme:light dark;--paper:#f6f7f9;--card:#fff;--ink:#1b2430;--soft:#5b6775;--line:#dde2e8;--accent:#2468a8}
@media (prefers-color-scheme:dark){:root{--paper:#12161c;--card:#1a2029;--ink:#e4e9ef;--soft:#9aa7b5;--line:#2d3641;--accent:#7db8ee}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 system-ui,sans-serif}
header,main{max-width:1240px;margin:0 auto;padding:0 20px}
header{padding-top:36px}
h1{margin:0 0 8px;font-size:30px;line-height:1.2;letter-spacing:-.01em}
h2{margin:0 0 10px;font-size:21px;line-height:1.3}
p{max-width:76ch;margin:0 0 12px}
header p,figcaption{color:var(--soft)}
nav{display:flex;flex-wrap:wrap;gap:4px 18px;padding:6px 0 4px;font-size:15px}
a{color:var(--accent);text-decoration:none}
a:hover{text-decoration:underline}
section{margin:36px 0;scroll-margin-top:16px}
.wide{overflow-x:auto;background:var(--card);border:1px solid var(--line);border-radius:8px;margin:0 0 16px}
table{border-collapse:collapse;width:100%;font-size:13px;font-variant-numeric:tabular-nums}
th,td{padding:6px 8px;text-align:right;white-space:nowrap;border-bottom:1px solid var(--line)}
th{font-weight:600;vertical-align:bottom}
th small{display:block;font-weight:400;color:var(--soft)}
th:first-child,td:first-child{text-align:left;padding-left:12px;position:sticky;left:0;background:var(--card)}
tbody tr:last-child td{border-bottom:0}
tbody tr:hover td{background:color-mix(in srgb,var(--accent) 9%,var(--card))}
.figures{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,480px),1fr));gap:16px}
figure{margin:0;padding:12px;background:var(--card);border:1px solid var(--line);border-radius:8px;min-width:0}
figure svg{display:block;width:100%;height:auto;margin:0 auto}
.broad{grid-column:1/-1}
figcaption{padding:8px 4px 2px;font-size:14px;line-height:1.45}
";
