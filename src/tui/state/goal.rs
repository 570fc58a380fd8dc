/*! The session's goal while it is typed: what is to be small, and one row per limit. */

use super::State;
use super::document::EditKind;
use crate::explore::{Goal, Limit, Objective, Statistic};
use crate::tui::error::AnswerError;
use crate::tui::message::Effect;
use crate::units;

/// What may be made small, in the order the keys go through.
const OBJECTIVES: [Objective; 5] = [
    Objective::Latency(Statistic::Mean),
    Objective::Latency(Statistic::P95),
    Objective::Cost,
    Objective::EdgeMemory,
    Objective::Energy,
];

/// What an objective is called.
pub fn objective(objective: Objective) -> &'static str {
    match objective {
        Objective::Latency(Statistic::Mean) => "mean latency",
        Objective::Latency(Statistic::P95) => "p95 latency",
        Objective::Cost => "cost",
        Objective::EdgeMemory => "edge memory",
        Objective::Energy => "energy",
    }
}

/// What a limit is called, the unit it is typed in, and how many of the session's one of that is.
pub fn words(limit: Limit) -> (&'static str, &'static str, f64) {
    match limit {
        Limit::AccuracyLoss => ("accuracy lost", "points at most", 1.0),
        Limit::Latency => ("mean latency", "ms at most", 1.0),
        Limit::EdgeMemory => ("edge memory", "MB at most", 1e6),
        Limit::Energy => ("energy", "mJ per inference at most", 1.0),
        Limit::CostPerMonth => ("bill", "US$ per month at most", 1.0),
        Limit::Load => ("load", "requests per second; 1 if empty", 1.0),
    }
}

/// Bytes as typed where a number alone is MB.
///
/// # Errors
/// It is neither a number from 0 up nor one with a unit of bytes.
pub fn edge_memory(typed: &str) -> Result<f64, AnswerError> {
    let with_unit = match units::has_unit(typed) {
        true => typed.to_owned(),
        false => format!("{typed} MB"),
    };
    let wrong = |_| AnswerError::Limit(typed.into(), "MB as 1.5, or with its unit as 600 kB");
    units::read(&with_unit)
        .map(|bytes| bytes as f64)
        .map_err(wrong)
}

/// The form: the objective in the first row, the limits in those below.
#[derive(Debug, Clone, PartialEq)]
pub struct GoalForm {
    pub objective: Objective,
    /// What is typed of each limit, in the order of [`Limit::ALL`].
    pub typed: [String; Limit::ALL.len()],
    /// The row under the cursor.
    pub selected: usize,
    /// What is in the row was there before: the first letter typed replaces it.
    pub offered: bool,
    /// What is wrong with a row, and which.
    pub error: Option<(usize, String)>,
}

impl GoalForm {
    /// The rows, the objective's among them.
    pub const ROWS: usize = 1 + Limit::ALL.len();

    /// A goal to be changed.
    pub fn new(goal: &Goal) -> GoalForm {
        let typed = Limit::ALL.map(|limit| {
            let (_, _, scale) = words(limit);
            let value = limit.of(&goal.within);
            value.map_or(String::new(), |value| (value / scale).to_string())
        });
        GoalForm {
            objective: goal.minimise,
            typed,
            selected: 0,
            offered: true,
            error: None,
        }
    }

    /// The row that letters go to; none where the objective is chosen.
    pub fn input(&mut self) -> Option<&mut String> {
        self.typed.get_mut(self.selected.checked_sub(1)?)
    }

    /// The next objective, or the one before.
    pub fn turn(&mut self, forward: bool) {
        let at = OBJECTIVES.iter().position(|o| *o == self.objective);
        let by = if forward { 1 } else { OBJECTIVES.len() - 1 };
        self.objective = OBJECTIVES[(at.unwrap_or(0) + by) % OBJECTIVES.len()];
    }

    /// The goal as typed, or the row that is none and why.
    fn goal(&self) -> Result<Goal, (usize, AnswerError)> {
        let mut goal = Goal {
            minimise: self.objective,
            ..Goal::default()
        };
        for (row, (limit, typed)) in Limit::ALL.into_iter().zip(&self.typed).enumerate() {
            let (_, _, scale) = words(limit);
            let typed = typed.trim();
            let value = if typed.is_empty() {
                None
            } else {
                let number = || match limit {
                    Limit::EdgeMemory => edge_memory(typed),
                    _ => typed
                        .parse::<f64>()
                        .ok()
                        .filter(|v| v.is_finite())
                        .map(|v| v * scale)
                        .ok_or_else(|| AnswerError::Limit(typed.into(), limit.range())),
                };
                Some(number().map_err(|error| (row + 1, error))?)
            };
            let set = limit.set(&mut goal.within, value);
            set.map_err(|_| (row + 1, AnswerError::Limit(typed.into(), limit.range())))?;
        }
        Ok(goal)
    }
}

impl State {
    /// Makes what is typed the session's goal; the verdict and the explorer follow. A form that isn't
    /// one stays, at the row that is wrong.
    pub fn take_goal(&mut self, form: &mut GoalForm) -> Option<Vec<Effect>> {
        match form.goal() {
            Ok(goal) => Some(self.edit(EditKind::Single, |session| session.goal = goal)),
            Err((row, problem)) => {
                form.selected = row;
                form.offered = true;
                form.error = Some((row, problem.to_string()));
                None
            }
        }
    }
}
