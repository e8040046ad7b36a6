//! Date and time pictures: `[Y0001]-[M01]-[D01]` taken into markers and literals.

use super::integer::{Case, IntegerFormat, parse_int};
use crate::error::Raise;

/// Parts of a picture.
const PARTS_MAX: usize = 100_000;

#[derive(Debug)]
pub(super) enum Part {
    Literal(String),
    Marker(Marker),
}

#[derive(Debug)]
pub(super) struct Marker {
    pub(super) component: char,
    /// Written as a name rather than a number.
    pub(super) names: Option<Case>,
    pub(super) integer: Option<IntegerFormat>,
    /// The `t` behind a timezone: zero is written `Z`.
    pub(super) zulu: bool,
    pub(super) width_max: Option<f64>,
    /// Digits of a year; -1 for all.
    pub(super) year_digits: f64,
}

/// How a component is written if its marker does not say.
fn default_presentation(component: char) -> Option<&'static str> {
    Some(match component {
        'Y' | 'M' | 'D' | 'd' | 'W' | 'w' | 'X' | 'x' | 'H' | 'h' | 'f' => "1",
        'F' | 'P' | 'C' | 'E' => "n",
        'm' | 's' => "01",
        'Z' | 'z' => "01:01",
        _ => return None,
    })
}

fn width(text: &str) -> Option<f64> {
    if text == "*" { None } else { Some(parse_int(text)) }
}

pub(super) fn parse(picture: &str) -> Result<Vec<Part>, Box<Raise>> {
    let mut parts: Vec<Part> = Vec::new();
    let literal = |parts: &mut Vec<Part>, text: &str| {
        if !text.is_empty() {
            parts.push(Part::Literal(text.replace("]]", "]")));
        }
    };
    let mut rest = picture;
    while let Some(open) = rest.find('[') {
        literal(&mut parts, &rest[..open]);
        rest = &rest[open + 1..];
        if let Some(after) = rest.strip_prefix('[') {
            parts.push(Part::Literal("[".to_owned()));
            rest = after;
            continue;
        }
        let Some(close) = rest.find(']') else { return Err(Raise::new("D3135")) };
        let text: String = rest[..close].split_whitespace().collect();
        rest = &rest[close + 1..];
        let marker = marker(&text)?;
        if marker.integer.is_some()
            && "YMDdFWwXxHhmsf".contains(marker.component)
            && let Some(Part::Marker(Marker { integer: Some(previous), .. })) = parts.last_mut()
        {
            // Numbers that touch are read by their width.
            previous.parse_width = previous.mandatory;
        }
        parts.push(Part::Marker(marker));
        if parts.len() > PARTS_MAX {
            return Err(Raise::new("D3132").value("too many components"));
        }
    }
    literal(&mut parts, rest);
    Ok(parts)
}

fn marker(text: &str) -> Result<Marker, Box<Raise>> {
    let component = text.chars().next().unwrap_or('\0');
    let after = text.get(component.len_utf8()..).unwrap_or("");
    let (presentation, width_min, width_max) = match after.rsplit_once(',') {
        Some((presentation, widths)) => match widths.split_once('-') {
            Some((min, max)) => (presentation, width(min), width(max)),
            None => (presentation, width(widths), None),
        },
        None => (after, None, None),
    };
    let mut presentation = presentation;
    let mut modifier = None;
    if presentation.chars().count() > 1
        && let Some(last) = presentation.chars().last().filter(|c| "atco".contains(*c))
    {
        modifier = Some(last);
        presentation = &presentation[..presentation.len() - 1];
    } else if presentation.is_empty() {
        presentation = default_presentation(component).ok_or_else(|| {
            Raise::new("D3132").value(format!("\"{}\"", text.chars().take(1).collect::<String>()))
        })?;
    }
    let mut marker = Marker {
        component,
        names: None,
        integer: None,
        zulu: modifier == Some('t'),
        width_max,
        year_digits: -1.0,
    };
    if presentation.starts_with('n') {
        marker.names = Some(Case::Lower);
    } else if presentation.starts_with("Nn") {
        marker.names = Some(Case::Title);
    } else if presentation.starts_with('N') {
        marker.names = Some(Case::Upper);
    } else if "YMDdFWwXxHhmsf".contains(component) {
        let mut picture = presentation.to_owned();
        if let Some(modifier) = modifier {
            picture.push(';');
            picture.push(modifier);
        }
        let mut integer = IntegerFormat::new(&picture)?;
        if let (Some(min), Some(digits)) = (width_min, integer.mandatory)
            && digits < min
        {
            integer.mandatory = Some(min);
        }
        if component == 'Y' {
            if let Some(max) = width_max {
                marker.year_digits = max;
                integer.mandatory = Some(max);
            } else if let Some(digits) = integer.mandatory {
                let all = digits + integer.optional as f64;
                if all >= 2.0 {
                    marker.year_digits = all;
                }
            }
        }
        marker.integer = Some(integer);
    }
    if component == 'Z' || component == 'z' {
        marker.integer = Some(IntegerFormat::new(presentation)?);
    }
    Ok(marker)
}
