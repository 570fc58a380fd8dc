/*! Cores of this machine: those a child may use, of those it should. */

/// Of the cores asked for, those there are; and what there is to say about the others.
pub(super) fn usable(wanted: &[usize], available: &[usize]) -> (Vec<usize>, Vec<String>) {
    let mut cores: Vec<usize> = wanted.to_vec();
    if available.is_empty() {
        let note = "cores can't be chosen on this system; the target runs on any";
        let notes = (!wanted.is_empty()).then(|| note.to_string());
        return (Vec::new(), notes.into_iter().collect());
    }
    cores.retain(|c| available.contains(c));
    if cores.len() == wanted.len() {
        return (cores, Vec::new());
    }
    let missing: Vec<String> = wanted
        .iter()
        .filter(|c| !available.contains(c))
        .map(usize::to_string)
        .collect();
    let missing = missing.join(", ");
    let instead = match cores.len() {
        0 => "any core".to_string(),
        _ => "the others".to_string(),
    };
    let note = format!("this machine has no core {missing}; the target runs on {instead}");
    (cores, vec![note])
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(&[0], &[0, 1], &[0], "")]
    #[case(&[], &[0, 1], &[], "")]
    #[case(&[0, 7], &[0, 1], &[0], "no core 7; the target runs on the others")]
    #[case(&[7], &[0, 1], &[], "no core 7; the target runs on any core")]
    #[case(&[7], &[], &[], "can't be chosen")]
    fn takes_the_cores_there_are(
        #[case] wanted: &[usize],
        #[case] available: &[usize],
        #[case] cores: &[usize],
        #[case] note: &str,
    ) {
        let (found, notes) = usable(wanted, available);
        assert_eq!(found, cores);
        assert_eq!(notes.is_empty(), note.is_empty());
        assert!(notes.iter().all(|n| n.contains(note)), "{notes:?}");
    }
}
