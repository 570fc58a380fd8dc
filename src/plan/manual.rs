/*! Exits where the user put them, in place of a spread. */

use super::{MAX_PER_PART, Plan, PlanError, PlannedExit, Split};
use crate::exits::ExitPoint;
use crate::model::LayerTable;
use crate::plan::Part;

/// The same plan with its exits exactly behind these layers; `threshold` gives each one's.
///
/// # Errors
/// Where there is no such layer, no exit may stand behind it, or a part would have too many.
pub fn with_exits_at(
    mut plan: Plan,
    table: &LayerTable,
    points: &[ExitPoint],
    names: &[String],
    threshold: impl Fn(&str) -> f64,
) -> Result<Plan, PlanError> {
    let mut rows = Vec::with_capacity(names.len());
    for name in names {
        let row = table.find(name)?;
        if !points.iter().any(|p| p.layer == row) {
            let why = table.layers[row].why_not.clone();
            return Err(PlanError::IllegalExit {
                name: name.clone(),
                why: why.unwrap_or_else(|| "no head can stand there".to_string()),
            });
        }
        rows.push(row);
    }
    rows.sort_unstable();
    rows.dedup();
    let part = |row: usize| match plan.split {
        // One at the split itself decides before the tensor is sent.
        Split::After(split) if row <= split => Part::Edge,
        Split::EdgeOnly => Part::Edge,
        Split::After(_) | Split::CloudOnly => Part::Cloud,
    };
    for side in [Part::Edge, Part::Cloud] {
        let count = rows.iter().filter(|&&row| part(row) == side).count();
        if count > MAX_PER_PART {
            return Err(PlanError::TooManyExits(count));
        }
    }
    plan.exits = rows
        .into_iter()
        .map(|row| {
            let after = table.layers[row].name.clone();
            PlannedExit {
                layer: row,
                part: part(row),
                threshold: threshold(&after),
                after,
            }
        })
        .collect();
    // What the spread said of its own exits is no longer so.
    plan.notes.retain(|note| !note.contains(" placed: "));
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use super::super::{ExitRule, Placement, plan_at};
    use super::*;
    use crate::exits::points;
    use crate::model::{fuse, zoo::ZooModel};

    #[test]
    fn stand_where_they_were_put_and_never_too_many() {
        let model: ZooModel = "resnet14".parse().unwrap();
        let graph = fuse(&model.build((3, 32, 32), 10, 1).unwrap());
        let table = LayerTable::new(&graph).unwrap();
        let points = points(&table, &graph);
        let rule = ExitRule {
            placement: Placement::Linear,
            per_part: 3,
            at_split: false,
            threshold: 0.7,
            thresholds: vec![],
        };
        let split = table.splits().nth(3).unwrap();
        let plan = plan_at(&table, &points, Split::After(split), &rule, vec![]);
        let name = |i: usize| points[i].after.clone();
        let at = |names: &[String]| with_exits_at(plan.clone(), &table, &points, names, |_| 0.5);
        let two = at(&[name(5), name(0)]).unwrap();
        let places: Vec<_> = two.exits.iter().map(|e| (e.layer, e.part)).collect();
        assert_eq!(
            places,
            [
                (points[0].layer, Part::Edge),
                (points[5].layer, Part::Cloud)
            ]
        );
        assert!(two.exits.iter().all(|e| e.threshold == 0.5));
        let own = table.layers[split].name.clone();
        assert_eq!(at(&[own]).unwrap().exits[0].part, Part::Edge);
        assert!(at(&["nowhere".into()]).is_err());
        let inner = table.layers.iter().find(|l| !l.exit_legal).unwrap();
        let refused = at(std::slice::from_ref(&inner.name))
            .unwrap_err()
            .to_string();
        assert!(refused.contains("no exit may stand"), "{refused}");
        let many: Vec<String> = points.iter().map(|p| p.after.clone()).collect();
        assert!(matches!(at(&many), Err(PlanError::TooManyExits(_))));
    }
}
