/*! Exits where the user put them, in place of a spread. */

use super::{ExitRule, MAX_PER_PART, Plan, PlanError, PlannedExit};
use crate::exits::ExitPoint;
use crate::model::LayerTable;

/// The same plan with its exits exactly behind these layers, in the part that runs each; one at a
/// split decides before the tensor is sent. The spread of `rule` plays no part.
///
/// # Errors
/// Where there is no such layer, no exit may stand behind it, or a part would have too many.
pub fn with_exits_at(
    mut plan: Plan,
    table: &LayerTable,
    points: &[ExitPoint],
    names: &[String],
    rule: &ExitRule,
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
    for tier in plan.chain() {
        let count = rows
            .iter()
            .filter(|&&row| plan.tier_of(row) == tier)
            .count();
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
                tier: plan.tier_of(row),
                threshold: rule.threshold_of(&after),
                after,
            }
        })
        .collect();
    // What the spread said of its own exits is no longer so.
    plan.remarks.retain(|remark| !remark.is_of_spread());
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use super::super::{Placement, Split, Tier, plan_at};
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
            threshold: 0.5,
            thresholds: vec![],
        };
        let split = table.splits().nth(3).unwrap();
        let plan = plan_at(&table, &points, vec![Split::After(split)], &rule);
        let name = |i: usize| points[i].after.clone();
        let at = |names: &[String]| with_exits_at(plan.clone(), &table, &points, names, &rule);
        let two = at(&[name(5), name(0)]).unwrap();
        let places: Vec<_> = two.exits.iter().map(|e| (e.layer, e.tier)).collect();
        assert_eq!(
            places,
            [
                (points[0].layer, Tier::First),
                (points[5].layer, Tier::Second)
            ]
        );
        assert!(two.exits.iter().all(|e| e.threshold == 0.5));
        let own = table.layers[split].name.clone();
        assert_eq!(at(&[own]).unwrap().exits[0].tier, Tier::First);
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
