/*! The two lines at the top: what is open and where it runs; the pages. */

use crate::backend::BackendId;
use crate::device::Profile;
use crate::plan::Link;
use crate::plan::Tier;
use crate::session::Target;
use crate::tui::message::Panel;
use crate::tui::state::State;
use crate::tui::state::runs::{Reach, Run};
use crate::tui::widgets::{line, number, put_right};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

/// What a side is called: where it runs, and whether its time is stretched.
pub fn target(targets: &[Target], profile: Option<&Profile>, short: bool) -> String {
    let emulated = if short { "emu" } else { "emulated" };
    let one = |t: &Target| match t {
        Target::Local {
            slowdown, engine, ..
        } => {
            let mut name = "local".to_string();
            if *slowdown != 1.0 {
                name += &format!(" {slowdown}× {emulated}");
            }
            match engine {
                BackendId::Native => name,
                // The provider is named with the profile.
                other if short => format!("{name} {}", other.engine()),
                other => format!("{name} {other}"),
            }
        }
        Target::Agent { url, .. } | Target::V2 { url, .. } => {
            let bare = url
                .trim_start_matches("https://")
                .trim_start_matches("http://");
            bare.split('/').next().unwrap_or(bare).to_string()
        }
    };
    let mut name = targets.first().map_or("none".to_string(), one);
    match (targets.len(), short) {
        (0 | 1, _) => {}
        (n, true) => name += &format!(" +{}", n - 1),
        (n, false) => name += &format!(" and {} more", n - 1),
    }
    match profile {
        Some(p) if !short && matches!(targets.first(), Some(Target::Agent { .. })) => {
            format!("{name} {}", p.device)
        }
        _ => name,
    }
}

fn link(state: &State, behind: Tier, short: bool) -> String {
    let link = state.document.session.link(behind);
    match (link, state.results.link(behind)) {
        (Link::Emulated { mbit, rtt_ms }, _) => {
            let emulated = if short { "emu" } else { "(emulated)" };
            format!("{mbit} Mbit/s {rtt_ms} ms {emulated}")
        }
        (Link::Measured, None) => number::NONE.to_string(),
        (Link::Measured, Some(link)) => {
            let near = link.warm.first().map(|w| w.1);
            near.map_or(number::NONE.into(), |ms| {
                format!("{} ms warm", number::ms(ms))
            })
        }
    }
}

/// Whether a run says that the target of a side is there.
fn dot(state: &State, part: Tier) -> (&'static str, Style) {
    let played = |r: &&Run| state.playback.as_ref().is_some_and(|p| p.run == r.id);
    let run = state.runs.iter().find(played);
    let run = run.or_else(|| state.runs.iter().rev().find(|r| r.is_running()));
    // The worst of them: one that is gone is what one wants to see.
    let states = run.iter().flat_map(|r| r.side(part)).map(|t| t.reach());
    let seen = || {
        let side = state.reached.iter().filter(|(id, _)| id.part == part);
        side.map(|(_, there)| *there).min()
    };
    match states.max() {
        None | Some(Reach::Unknown) => match seen() {
            None => ("○", state.theme.dim),
            Some(true) => ("●", state.theme.good),
            Some(false) => ("✗", state.theme.error),
        },
        Some(Reach::Connected) => ("●", state.theme.good),
        Some(Reach::Connecting) => ("○", state.theme.warning),
        Some(Reach::Reconnecting | Reach::Lost) => ("✗", state.theme.error),
    }
}

/// A page's number and name; the gap behind them only where all fit with theirs.
fn tab(at: usize, panel: Panel, width: u16) -> String {
    let gap = if width < 90 { "" } else { " " };
    format!(" {} {}{gap}", at + 1, panel.name())
}

/// The page whose name is at a column of so many.
pub fn page_at(column: u16, width: u16) -> Option<Panel> {
    let mut end = 0;
    let mut all = Panel::ALL.into_iter().enumerate();
    all.find(|(i, panel)| {
        end += tab(*i, *panel, width).len();
        usize::from(column) < end
    })
    .map(|(_, panel)| panel)
}

pub fn draw(state: &State, buf: &mut Buffer, head: Rect, tabs: Rect) {
    let theme = &state.theme;
    let session = &state.document.session;
    let short = head.width < 110;
    let gap = if short { "  " } else { "   " };
    let mut words = vec![
        Span::styled(" EdgeLessPart ", theme.title),
        Span::raw(" "),
        Span::styled(state.document.name(), theme.text),
    ];
    if state.is_unsaved() {
        words.push(Span::styled(" [unsaved]", theme.warning));
    }
    let names = session.tier_names();
    for tier in names.tiers() {
        let (mark, style) = dot(state, tier);
        let profile = state.results.profile(tier);
        let tier_style = theme.tier(tier, names.count());
        words.extend([
            Span::raw(gap),
            Span::styled(format!("{} ", names.name(tier)), tier_style),
            Span::styled(mark, style),
            Span::raw(format!(
                " {}",
                target(session.targets(tier), profile, short)
            )),
        ]);
    }
    // One for each hop, the nearest first; alike ones are told once.
    let mut links: Vec<String> = Tier::chain(session.links.len())
        .map(|behind| link(state, behind, short))
        .collect();
    links.dedup();
    words.extend([
        Span::raw(gap),
        Span::styled(if short { "" } else { "link " }, theme.dim),
        Span::raw(links.join(" · ")),
    ]);
    line(buf, head, 0, Line::from(words));

    let mut pages = Vec::new();
    for (i, panel) in Panel::ALL.into_iter().enumerate() {
        let style = if panel == state.focus {
            theme.selected
        } else {
            theme.dim
        };
        pages.push(Span::styled(tab(i, panel, tabs.width), style));
    }
    let used: usize = pages.iter().map(Span::width).sum();
    line(buf, tabs, 0, Line::from(pages));
    let help = format!(
        "{} keys  {} commands ",
        state.keymap.first("help"),
        state.keymap.first("palette")
    );
    if usize::from(tabs.width) > used + help.len() {
        put_right(buf, tabs, 0, &help, theme.dim);
    }
}
